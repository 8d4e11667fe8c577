"""The commands ``groundglass report ...``: documents about a detector or a segmenter."""

from pathlib import Path
from typing import Annotated

import typer

from groundglass.cli.options import command, output

app = typer.Typer(
    no_args_is_help=True, help="Documents about a detector or a segmenter, for readers and journals."
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
    """Write the model card, and CLAIM 2024 and TRIPOD+AI filled with what is recorded.

    Each item is answered with a link to the file that records it, left to the author, or not applicable with the
    reason. There is no score.
    """
    from groundglass.commands.report_card import report_card

    folder = output or Path("cards") / Path(run_or_bundle).stem
    for name, counted in report_card(run_or_bundle, folder).items():
        typer.echo(f"{name}: {counted}")
    typer.echo(f"Report: {folder / 'report.html'}")


command(app, "report card detector-lesions -o card", "report card runs/covid-ct-small -o card")(card)
