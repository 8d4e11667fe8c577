"""The commands ``groundglass train`` and ``groundglass bundle``."""

from pathlib import Path
from typing import Annotated

import typer

from groundglass.cli.options import Data, Set, SplitOption, command, output
from groundglass.cli.output import say, wrong_usage
from groundglass.errors import need_extra


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    command(
        app,
        "train --data my/folder",
        "train recipes/covid-ct-small.yaml --data my/folder",
        "train recipes/covid-ct-lite0.yaml --set training.epochs=5 -o runs/short",
        "train recipes/covid-ct-lite0.yaml --resume",
    )(train)
    command(app, "bundle runs/covid-ct-lite0 -o detector.zip")(bundle)


def train(
    recipe: Annotated[
        Path | None, typer.Argument(help="The recipe (a YAML file) [with --data, a default recipe].")
    ] = None,
    data: Data = None,
    split: SplitOption = None,
    change: Set = None,
    output: Annotated[Path | None, output("Folder for the run [runs/NAME].")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue a run that was stopped.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Delete an earlier run in that folder.")
    ] = False,
) -> None:
    """Train a model from a recipe, choose the best epoch on the validation set, and export a bundle.

    With --data, the recipe trains on your own labelled scans. Settings that belong to its own dataset (split,
    classes, number of slices, batch size) are changed to fit yours, and each change is printed.
    """
    need_extra("train")
    from groundglass.commands.train import train as run

    wrong_usage(
        (recipe is None and data is None, "name a recipe, or your labelled scans with --data"),
        (resume and overwrite, "--resume and --overwrite: use only one of them"),
    )
    finished = run(
        recipe,
        tuple(change or ()),
        output,
        data=data,
        split=split.value if split else None,
        resume=resume,
        overwrite=overwrite,
        tell=say,
    )
    typer.echo(f"Run: {finished.folder}\nBundle: {finished.bundle_folder}\nReport: {finished.report_file}")


def bundle(
    run: Annotated[Path, typer.Argument(help="The folder of the training run.")],
    output: Annotated[Path | None, output("A folder or a .zip to write [RUN/bundle].")] = None,
) -> None:
    """Export the best epoch of a run as a bundle that needs no training library."""
    need_extra("train")
    from groundglass.commands.train import bundle_run

    typer.echo(f"Bundle: {bundle_run(run, output)}")
