"""The command ``groundglass audit``."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from groundglass.cli.options import Json, Lungs, Part, RequiredData, Seed, Workers, command, divided, output
from groundglass.cli.output import FOUND, give_json, say, table, wrong_usage
from groundglass.errors import count_of

if TYPE_CHECKING:
    from groundglass.audit.run import Audit

STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan"}


class FailOn(StrEnum):
    """The severity from which the command fails."""

    error = "error"
    warning = "warning"
    note = "note"


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    command(
        app,
        "audit --data covid-ct",
        "audit --data my.csv --fail-on error --fix new.csv",
        "audit -b covid-ct-lite0 --data sarscov2-ct",
        "audit --data my.csv --select GG10 --json",
    )(audit)


def audit(
    data: RequiredData,
    bundle: Annotated[
        str | None,
        typer.Option(
            "--bundle",
            "-b",
            help="Audit this detector on the data, rather than the data alone; or a predictions.csv of any "
            "detector.",
        ),
    ] = None,
    output: Annotated[Path | None, output("Folder for report.html and audit.json [audits/...].")] = None,
    as_json: Json = None,
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
        Part | None,
        typer.Option("--part", help="With -b, the part to use [test, or all of an external dataset]."),
    ] = None,
    lungs: Lungs = True,
    select: Annotated[
        list[str] | None, typer.Option(help="Run only checks whose code starts with this; may be repeated.")
    ] = None,
    ignore: Annotated[
        list[str] | None, typer.Option(help="Skip checks whose code starts with this; may be repeated.")
    ] = None,
    seed: Seed = 0,
    workers: Workers = None,
) -> None:
    """Find leaks and shortcuts, in labelled scans or in a detector, before a reviewer does.

    Prints the findings and writes a report that shows the pictures side by side.
    """
    from groundglass.audit.run import AuditOptions
    from groundglass.commands.audit import (
        audit_dataset,
        audit_detector,
        audit_predictions,
        write_audit,
        write_fixed,
    )
    from groundglass.detect.detector import Detector

    predictions = bundle is not None and bundle.lower().endswith(".csv")
    wrong_usage(
        (
            bundle is not None and fix is not None,
            "--fix corrects a dataset: audit the dataset alone, without -b",
        ),
        (bundle is None and part is not None, "--part needs -b: a dataset is audited as a whole"),
        (predictions and part is not None, f"{bundle}: predictions are audited as a whole, without --part"),
    )
    options = AuditOptions(lungs, tuple(select or ()), tuple(ignore or ()), seed)
    name = Path(data).stem if bundle is None else f"{Path(bundle).stem}-on-{Path(data).stem}"
    folder = output or Path("audits") / name
    with _telling() as tell, divided(workers) as divide:
        if bundle is None:
            made = audit_dataset(data, options, tell, divide)
        elif predictions:
            made = audit_predictions(Path(bundle), data, options, tell)
        else:
            detector = Detector.load(bundle, lungs=lungs)
            made = audit_detector(detector, data, folder, options, part=part, tell=tell, divide=divide)
    text = give_json([outcome.to_dict() for outcome in made.found], as_json)
    if text:
        _print(made)
    report = write_audit(made, folder)
    if fix is not None:
        changes = write_fixed(made, fix)
        counted = f"{count_of(len(changes), 'change')}: {fix.with_suffix('.changes.csv')}"
        typer.echo(f"Corrected manifest: {fix} ({counted})", err=not text)
    if text:
        typer.echo(f"Report: {report}")
    if fail_on is not None and made.fails(fail_on.value):
        raise typer.Exit(FOUND)


def _print(audit: "Audit") -> None:
    from rich.text import Text

    rows = []
    for outcome in audit.found:
        severity, message = outcome.severity_found, outcome.result.message if outcome.result else ""
        finding = Text.assemble((outcome.check.title, "bold"), "\n", message)
        rows.append((outcome.check.code, Text(severity, style=STYLES[severity]), finding))
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
