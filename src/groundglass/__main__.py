"""``python -m groundglass`` is the command ``groundglass``."""

from groundglass.cli.app import main

main()
