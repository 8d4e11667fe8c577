"""What the commands share: exit codes, and how they speak."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from groundglass.detect.findings import Failure

FAILED = 1
SOME_FAILED = 3
"""Exit code where the work was done, but some files could not be read; 1 is for no result, 2 for wrong usage."""
PRINTED = 20
"""Slices that are printed where a table has them all."""


DetectorOption = Annotated[
    str | None,
    typer.Option(
        "--bundle", "-b", help="A shipped bundle's name, a bundle's folder or zip, or a run's folder."
    ),
]
LungsOption = Annotated[
    bool,
    typer.Option(
        help="Find lungs and lesions: their share, and what is no chest CT. A detector that looks at the lungs "
        "alone, such as the default, always does."
    ),
]


def say(text: str) -> None:
    """Print what is not the result, such as warnings, to stderr."""
    typer.echo(text, err=True)


def table(title: str, header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Print a table."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(*header, title=title, title_justify="left")
    for row in rows:
        drawn.add_row(*map(Text, row))  # as it stands: brackets in a file's name are no markup
    Console().print(drawn)


def end(failures: "Sequence[Failure]", *, any_read: bool) -> None:
    """Name the files that could not be read, and end with the exit code that says so."""
    for failure in failures:
        remedy = f"; {failure.remedy}" if failure.remedy else ""
        say(f"not read: {failure.path}: {failure.problem}{remedy}")
    if failures:
        raise typer.Exit(SOME_FAILED if any_read else FAILED)
