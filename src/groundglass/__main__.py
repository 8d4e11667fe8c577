"""``python -m groundglass`` is the command ``groundglass``."""

from groundglass.cli import main

main()
