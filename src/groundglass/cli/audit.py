"""The command ``groundglass audit``: thin, like all commands."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from groundglass.cli.output import say, table
from groundglass.errors import GroundglassError

if TYPE_CHECKING:
    from groundglass.audit.run import Audit

FOUND = 4
"""Exit code if --fail-on was given and something that severe was found."""
STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan"}


class FailOn(StrEnum):
    """The severity from which the command fails."""

    error = "error"
    warning = "warning"
    note = "note"


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command(
        epilog="Examples:  groundglass audit covid-ct   |   groundglass audit my.csv --fail-on error --fix new.csv"
        "   |   groundglass audit covid-ct-lite0 --on sarscov2-ct   |   groundglass audit my.csv --select GG10"
    )(audit)


def audit(
    subject: Annotated[
        str,
        typer.Argument(
            metavar="DATASET|BUNDLE",
            help="A dataset's name, a manifest CSV, a folder with a subfolder per class; with --on, a detector.",
        ),
    ],
    on: Annotated[
        str | None, typer.Option("--on", help="Audit a detector on this dataset: a name, a CSV or a folder.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder for report.html and audit.json [audits/...]."),
    ] = None,
    as_json: Annotated[
        Path | None, typer.Option("--json", help="Write the findings to this file, as a JSON list.")
    ] = None,
    fail_on: Annotated[
        FailOn | None, typer.Option(help=f"Exit with code {FOUND} if anything this severe is found.")
    ] = None,
    fix: Annotated[
        Path | None,
        typer.Option(
            help="Write a manifest without duplicates, conflicts and leaks, and a list of the changes."
        ),
    ] = None,
    part: Annotated[
        str | None, typer.Option(help="With --on, the part to use: train, val, test or all.")
    ] = None,
    lungs: Annotated[
        bool, typer.Option(help="Find the lungs, for the checks that remove or keep them.")
    ] = True,
    select: Annotated[
        list[str] | None, typer.Option(help="Run only checks whose code starts with this; may be repeated.")
    ] = None,
    ignore: Annotated[
        list[str] | None, typer.Option(help="Skip checks whose code starts with this; may be repeated.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same figures.")] = 0,
) -> None:
    """Find leaks and shortcuts, in labelled scans or in a detector, before a reviewer does.

    Prints the findings and writes a report that shows the pictures side by side.
    """
    from groundglass.audit.run import AuditOptions
    from groundglass.commands.audit import (
        audit_dataset,
        audit_detector,
        write_audit,
        write_findings,
        write_fixed,
    )
    from groundglass.detect.detector import Detector

    if on is not None and fix is not None:
        raise GroundglassError("--fix corrects a dataset; audit the dataset by itself, without --on")
    if on is None and part is not None:
        raise GroundglassError("--part needs --on: a dataset is audited as a whole")
    options = AuditOptions(lungs, tuple(select or ()), tuple(ignore or ()), seed)
    folder = output or Path("audits") / _name(subject, on)
    with _telling() as tell:
        if on is None:
            made = audit_dataset(subject, options, tell)
        else:
            detector = Detector.load(subject, lungs=lungs)
            made = audit_detector(detector, on, folder, options, part=part, tell=tell)
    _print(made)
    if as_json is not None:
        write_findings(made, as_json)
    report = write_audit(made, folder)
    if fix is not None:
        changes = write_fixed(made, fix)
        typer.echo(f"Corrected manifest: {fix} ({len(changes)} changes: {fix.with_suffix('.changes.csv')})")
    typer.echo(f"Report: {report}")
    if fail_on is not None and made.fails(fail_on.value):
        raise typer.Exit(FOUND)


def _name(subject: str, on: str | None) -> str:
    return Path(subject).stem if on is None else f"{Path(subject).stem}-on-{Path(on).stem}"


def _print(audit: "Audit") -> None:
    from rich.markup import escape

    rows = []
    for outcome in audit.found:
        severity = outcome.severity_found
        message = escape(outcome.result.message) if outcome.result else ""
        style = STYLES[severity]
        rows.append(
            (
                outcome.check.code,
                f"[{style}]{severity}[/]",
                f"[bold]{escape(outcome.check.title)}[/]\n{message}",
            )
        )
    if rows:
        table(f"{audit.title} ({audit.about})", ("code", "severity", "finding"), rows)
    typer.echo(audit.headline())
    for outcome in audit.outcomes:
        if outcome.status == "not applicable":
            say(f"{outcome.check.code} {outcome.check.title}: not applicable. {outcome.reason}")


@contextmanager
def _telling() -> "Iterator[Callable[[str], None] | None]":
    """Show on standard error what is being checked, if standard error is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console

    with Console(stderr=True).status("Reading the manifest") as status:
        yield lambda text: status.update(f"Checking {text}")
