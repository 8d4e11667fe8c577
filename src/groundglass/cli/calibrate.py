"""The command line of ``groundglass calibrate``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from groundglass.cli.output import say, table

if TYPE_CHECKING:
    from groundglass.evaluation.recalibration import HeldOutPerformance

COLUMNS = ("left out", "cases", "answered", "accuracy of these", "covid covered", "not covid covered")


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command(
        epilog="Examples:  groundglass calibrate runs/covid-ct-lite0 evaluations/elsewhere/predictions.csv   |   "
        "groundglass calibrate my-bundle pooled.csv --coverage 0.95 --refit"
    )(calibrate)


def calibrate(
    bundle: Annotated[
        str, typer.Argument(help="The detector: a shipped bundle's name, or a bundle's or run's folder.")
    ],
    predictions: Annotated[
        Path,
        typer.Argument(
            help="A labelled predictions.csv of slices that it was not trained on, best from other hospitals."
        ),
    ],
    coverage: Annotated[
        float, typer.Option(help="The share of each class whose right answer should stay possible.")
    ] = 0.9,
    refit: Annotated[
        bool, typer.Option("--refit", help="Also fit temperature, bias and threshold again.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of resamples and folds.")] = 0,
) -> None:
    """Choose on labelled slices when a detector answers `uncertain`, and store that in its bundle.

    This uses conformal prediction: at most 1 - COVERAGE of each class should get the wrong verdict. How well that
    works is measured by leaving out each source in turn.
    """
    from groundglass.commands.calibrate import calibrate as run
    from groundglass.detect.bundle import Bundle

    detector = Bundle.load(bundle)
    result = run(detector, predictions, coverage=coverage, refit=refit, seed=seed)
    facts = detector.facts
    if refit:
        typer.echo(
            f"Temperature {facts.temperature:.3f}, bias {facts.bias:.3f}, threshold {facts.threshold:.3f}"
        )
    if result.held_out:
        table("On slices that were not used to choose it", COLUMNS, [_row(one) for one in result.held_out])
    if facts.abstention is not None:
        typer.echo(f"{facts.abstention.ends()}.\n{facts.abstention.meaning()}")
    for note in result.notes:
        say(f"note: {note}")


def _row(held_out: "HeldOutPerformance") -> tuple[str, ...]:
    shares = (held_out.answered, held_out.accuracy, held_out.covid, held_out.other)
    percentages = ("" if share is None else f"{share:.1%}" for share in shares)
    return (held_out.left_out, str(held_out.cases), *percentages)
