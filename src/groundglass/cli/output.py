"""How commands print: results on standard output, everything else on standard error; and exit codes."""

import json
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from groundglass.errors import GroundglassError

if TYPE_CHECKING:
    from groundglass.detect.findings import Failure

FAILED, WRONG_USAGE, SOME_FAILED, FOUND, STOPPED = 1, 2, 3, 4, 130
EXIT_CODES = {
    0: "success",
    FAILED: "nothing was done",
    WRONG_USAGE: "wrong usage",
    SOME_FAILED: "done, but some files could not be read",
    FOUND: "an audit found something as severe as --fail-on",
    STOPPED: "stopped with Ctrl-C",
}
PRINTED = 20
"""Number of slices printed if a table lists all of them."""
STDOUT = Path("-")
"""The value of ``--json`` without a file."""


class WrongUsageError(GroundglassError):
    """Options that cannot be combined."""


def wrong_usage(*wrong: tuple[bool, str]) -> None:
    """Refuse the first combination of options that is wrong, with its message."""
    for is_wrong, message in wrong:
        if is_wrong:
            raise WrongUsageError(message)


class _Terminal(logging.Handler):
    """Prints a record as one plain line on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        level = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        typer.echo(level + record.getMessage().replace("\n", " "), err=True)


def listen() -> logging.Handler:
    """Print log messages and Python warnings on standard error from now on; returns the handler."""
    root = logging.getLogger()
    handler = next((one for one in root.handlers if isinstance(one, _Terminal)), _Terminal())
    root.addHandler(handler)  # has no effect if it is already added, so no line is printed twice
    warnings.showwarning = lambda message, *_, **__: logging.getLogger("groundglass").warning("%s", message)
    return handler


def show_messages(*, verbose: bool, quiet: bool) -> None:
    """Set how much is printed on standard error. Other libraries never print more than warnings."""
    wrong_usage((verbose and quiet, "--verbose and --quiet: use only one of them"))
    level = logging.ERROR if quiet else logging.WARNING
    logging.getLogger().setLevel(level)
    logging.getLogger("groundglass").setLevel(logging.DEBUG if verbose else level)


def say(text: str) -> None:
    """Print something other than the result, such as a note, to stderr, unless ``--quiet`` is given."""
    if logging.getLogger("groundglass").isEnabledFor(logging.WARNING):
        typer.echo(text, err=True)


def table(title: str, header: tuple[str, ...], rows: Sequence[tuple[Any, ...]]) -> None:
    """Print a table; cells are str, printed verbatim, or Text of rich."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(*header, title=title, title_justify="left")
    for row in rows:
        # Text is verbatim: brackets in a file name are not markup.
        drawn.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in row))
    Console().print(drawn)


def give_json(value: Any, to: Path | None) -> bool:
    """Print a value as JSON, or write it to a file; without ``--json`` do nothing.

    Returns
    -------
    Whether text must still be printed, because the JSON was not printed.
    """
    if to == STDOUT:
        typer.echo(json.dumps(value, indent=2, ensure_ascii=False))
    elif to is not None:
        from groundglass.files import write_json

        write_json(to, value)
    return to != STDOUT


def end(failures: "Sequence[Failure]", *, any_read: bool) -> None:
    """List the files that could not be read, and exit with the code for them."""
    for failure in failures:
        remedy = f"; {failure.remedy}" if failure.remedy else ""
        typer.echo(f"not read: {failure.path}: {failure.problem}{remedy}", err=True)
    if failures:
        raise typer.Exit(SOME_FAILED if any_read else FAILED)
