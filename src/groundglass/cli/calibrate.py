"""The command ``groundglass calibrate``: thin, like all commands."""

from pathlib import Path
from typing import Annotated

import typer

from groundglass.cli.output import say, table


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command(
        epilog="Examples:  groundglass calibrate runs/covid-ct-lite0 evaluations/elsewhere/predictions.csv   |   "
        "groundglass calibrate my-bundle pooled.csv --coverage 0.95 --refit"
    )(calibrate)


def calibrate(
    bundle: Annotated[str, typer.Argument(help="The detector: a shipped one, a bundle's folder or a run's.")],
    predictions: Annotated[
        Path,
        typer.Argument(
            help="A labelled predictions.csv of slices, best of other hospitals, that it was not trained on."
        ),
    ],
    coverage: Annotated[
        float, typer.Option(help="The share of each class whose right answer shall stay possible.")
    ] = 0.9,
    refit: Annotated[
        bool, typer.Option("--refit", help="Fit temperature, bias and threshold anew as well.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Draws resamples and folds.")] = 0,
) -> None:
    """Choose on labelled slices where a detector says `uncertain`, and enter it into the bundle.

    By conformal prediction: at most 1 - COVERAGE of each class shall get the wrong verdict. What it is worth is
    measured with each source left out in turn.
    """
    from groundglass.commands.abstain import COLUMNS
    from groundglass.commands.abstain import calibrate as run
    from groundglass.detect.bundle import Bundle

    result = run(Bundle.load(bundle), predictions, coverage=coverage, refit=refit, seed=seed)
    facts = result.facts
    if refit:
        typer.echo(
            f"Temperature {facts.temperature:.3f}, bias {facts.bias:.3f}, threshold {facts.threshold:.3f}"
        )
    if result.held:
        table("On slices that did not choose it", COLUMNS, [one.row() for one in result.held])
    if facts.abstention is not None:
        typer.echo(f"{facts.abstention.ends()}.\n{facts.abstention.meaning()}")
    for note in result.notes:
        say(f"note: {note}")
