"""The commands ``groundglass report ...``: documents about networks, and about two studies of a patient."""

from pathlib import Path
from typing import Annotated

import typer

from groundglass.cli.options import Json, command, output
from groundglass.cli.output import give_json, say

app = typer.Typer(
    no_args_is_help=True,
    help="Write a model card with reporting checklists, or compare two volumes of one patient.",
)


def card(
    run_or_bundle: Annotated[
        str,
        typer.Argument(
            help="The folder of a run, a shipped bundle's name, a bundle (folder or zip), or an ONNX file."
        ),
    ],
    output: Annotated[Path | None, output("Folder for the card and the checklists [cards/NAME].")] = None,
) -> None:
    """Write the model card, and the checklists CLAIM 2024 and TRIPOD+AI completed from recorded facts.

    Each item is answered with a link to the file that records the fact, left to the author, or marked as not
    applicable with the reason. There is no score.
    """
    from groundglass.commands.report_card import report_card

    folder = output or Path("cards") / Path(run_or_bundle).stem
    for name, counted in report_card(run_or_bundle, folder).items():
        typer.echo(f"{name}: {counted}")
    typer.echo(f"Report: {folder / 'report.html'}")


def followup(
    before: Annotated[Path, typer.Argument(help="The folder of the earlier study's results.")],
    after: Annotated[Path, typer.Argument(help="The folder of the later study's results.")],
    output: Annotated[Path, output("Folder for the comparison.")] = Path("followup"),
    pdf: Annotated[bool, typer.Option("--pdf", help="Also write it as a PDF.")] = False,
    any_patient: Annotated[
        bool,
        typer.Option("--any-patient", help="Compare the studies even if they are of different patients."),
    ] = False,
    as_json: Json = None,
) -> None:
    """Compare two CT volumes of one patient: lungs and lesions before and after, and the change.

    Both must be results of `groundglass predict ... -o`. Volumes in ml and shares of the lung are given by
    lung, zone and lesion type, with a warning if the two were not measured in the same way.
    """
    from groundglass.commands.followup import STEM, write_follow_up

    if pdf:
        from groundglass.report.pdf import need_pdf

        need_pdf()
    compared = write_follow_up(before, after, output, any_patient=any_patient, pdf=pdf)
    if give_json(compared.to_dict(), as_json):
        typer.echo(compared.headline())
        for warning in compared.warnings:
            say(warning)
        typer.echo(f"Report: {output / f'{STEM}.html'}")


command(app, "report card detector-lesions -o card", "report card runs/covid-ct-small -o card")(card)
command(app, "report followup out/study-3f2a out/study-9c1e -o followup --pdf")(followup)
