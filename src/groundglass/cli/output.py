"""What the commands share: exit codes, common options, and printing."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from groundglass.detect.findings import Failure

FAILED = 1
SOME_FAILED = 3
"""Exit code if the work was done but some files could not be read; 1 means no result, 2 wrong usage."""
PRINTED = 20
"""How many slices are printed if a table lists all of them."""


DetectorOption = Annotated[
    str | None,
    typer.Option(
        "--bundle",
        "-b",
        help="The detector: a shipped bundle's name, a bundle (folder or zip), or a run's folder.",
    ),
]
LungsOption = Annotated[
    bool,
    typer.Option(
        help="Find lungs and lesions, to report the lesion share and reject what is not a chest CT. A detector "
        "that sees only the lungs, such as the default, always does this."
    ),
]


def say(text: str) -> None:
    """Print something other than the result, such as a warning, to stderr."""
    typer.echo(text, err=True)


def table(title: str, header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Print a table."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(*header, title=title, title_justify="left")
    for row in rows:
        drawn.add_row(*map(Text, row))  # verbatim: brackets in a file name are not markup
    Console().print(drawn)


def end(failures: "Sequence[Failure]", *, any_read: bool) -> None:
    """List the files that could not be read, and exit with the code for them."""
    for failure in failures:
        remedy = f"; {failure.remedy}" if failure.remedy else ""
        say(f"not read: {failure.path}: {failure.problem}{remedy}")
    if failures:
        raise typer.Exit(SOME_FAILED if any_read else FAILED)
