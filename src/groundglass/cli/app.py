"""The commands: each parses, calls one function and prints. ``groundglass --help`` lists them."""

import gc
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from groundglass import __version__
from groundglass.cli import audit as cli_audit
from groundglass.cli import calibrate as cli_calibrate
from groundglass.cli import compare as cli_compare
from groundglass.cli import data as cli_data
from groundglass.cli import predict as cli_predict
from groundglass.cli import segment as cli_segment
from groundglass.cli.output import FAILED, LungsOption, end, say, table
from groundglass.errors import GroundglassError, missing_extra, need_extra

if TYPE_CHECKING:
    from groundglass.audit.trust import TrustCard
    from groundglass.report.predictions import EvaluatedPredictions

app = typer.Typer(
    name="groundglass",
    no_args_is_help=True,
    rich_markup_mode="markdown",  # otherwise rich takes defaults in brackets for styles and omits them
    context_settings={"help_option_names": ["-h", "--help"]},
    help="COVID-19 detection in chest CT. Research use only; not a medical device.",
    epilog="Exit codes: 0 success; 1 nothing was done; 2 wrong usage; 3 done, but some files could not be read; "
    "4 an audit found something as severe as --fail-on.",
    pretty_exceptions_enable=False,
)
app.add_typer(cli_data.app, name="data")


cli_predict.register(app)


def _print_evaluated(evaluated: "EvaluatedPredictions", card: "TrustCard", folder: Path) -> None:
    for result in filter(None, (evaluated.slices, evaluated.patients)):
        rows = result.rows()
        title = f"Per {result.unit} ({result.count}), positive class covid"
        table(title, ("figure", "value (95% interval)"), rows)
        for note in result.notes:
            say(f"note: {note}")
    if evaluated.classes is not None:
        for shown in evaluated.tables()[1:]:
            table(shown.title, shown.header, [tuple(row) for row in shown.rows])
        for note in evaluated.classes.notes:
            say(f"note: {note}")
    table(f"How far the AUC can be believed: grade {card.grade}", ("item", "what is known"), card.rows())
    for reason in card.reasons:
        typer.echo(reason)
    typer.echo(f"Report: {folder / 'report.html'}")


@app.command(
    epilog="Example:  groundglass train recipes/covid-ct-lite0.yaml --set training.epochs=5 -o runs/short"
)
def train(
    recipe: Annotated[Path, typer.Argument(help="The recipe (a YAML file).")],
    change: Annotated[
        list[str] | None, typer.Option("--set", help="Change a value: key=value, with dotted keys.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for the run [runs/NAME].")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue a run that was stopped.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Delete an earlier run in that folder.")
    ] = False,
) -> None:
    """Train a model from a recipe, choose the best epoch on the validation part, and export a bundle."""
    need_extra("train")
    from groundglass.commands.train import train as run

    finished = run(recipe, tuple(change or ()), output, resume=resume, overwrite=overwrite, tell=say)
    typer.echo(f"Run: {finished.folder}\nBundle: {finished.bundle_folder}\nReport: {finished.report_file}")


@app.command(
    epilog="Examples:  groundglass evaluate runs/covid-ct-lite0 covid-ct   |   "
    "groundglass evaluate covid-ct-lite0 sarscov2-ct -o external   |   groundglass evaluate predictions.csv   |   "
    "groundglass evaluate --leave-one-source-out recipes/covid-ct-lite0.yaml --set data.dataset=sites.csv "
    "--set data.split=grouped"
)
def evaluate(
    detector: Annotated[
        str,
        typer.Argument(
            help="A training run, a bundle (folder or zip) or the name of a shipped bundle; a labelled "
            "predictions.csv; or, with --leave-one-source-out, a recipe."
        ),
    ],
    dataset: Annotated[
        str | None,
        typer.Argument(help="A dataset's name, a manifest CSV, or a folder with a subfolder per class."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for the results [evaluations/...].")
    ] = None,
    part: Annotated[str | None, typer.Option(help="The part to use: train, val, test or all.")] = None,
    record: Annotated[
        bool, typer.Option("--record", help="Record the figures in the bundle and its model card.")
    ] = False,
    lungs: LungsOption = True,
    leave_one_source_out: Annotated[
        bool,
        typer.Option(
            "--leave-one-source-out",
            help="Train the recipe once without each source of its data, and evaluate on that source.",
        ),
    ] = False,
    record_into: Annotated[
        str | None,
        typer.Option(
            help="With --leave-one-source-out, record the figures in this bundle and its model card."
        ),
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", help="With --leave-one-source-out, change a value of the recipe: key=value."),
    ] = None,
) -> None:
    """Evaluate a detector on labelled slices, or a segmenter on slices with masks, with intervals and a report.

    On the detector's own dataset, the test part is used. Any other dataset is external validation, and all of it is
    used. With --leave-one-source-out, a recipe is evaluated on each of its sources by a detector that was trained
    on its other sources.
    """
    if leave_one_source_out:
        if dataset is not None or part is not None or record:
            raise GroundglassError(
                "--leave-one-source-out takes only a recipe: its data section names the datasets, each source is "
                "used whole, and --record-into names the bundle to record in"
            )
        _leave_one_source_out(Path(detector), tuple(change or ()), output, lungs=lungs, into=record_into)
        return
    if record_into is not None:
        raise GroundglassError(
            f"--record-into {record_into}: needs --leave-one-source-out; otherwise use --record"
        )
    if change:
        raise GroundglassError(f"--set {change[0]}: changes a recipe, and needs --leave-one-source-out")
    if detector.lower().endswith((".yaml", ".yml")):
        raise GroundglassError(
            f"{detector}: this is a recipe; name the run that was trained from it, or add --leave-one-source-out"
        )
    from groundglass.bundle.store import kind_of_bundle
    from groundglass.commands.evaluate import choose_rows, evaluate_detector, evaluate_segmenter, kind_of
    from groundglass.detect.detector import Detector
    from groundglass.report.predictions import evaluate_file
    from groundglass.segment.segmenter import Segmenter

    if dataset is None:
        if not detector.lower().endswith(".csv"):
            raise GroundglassError(f"{detector}: which dataset? name it after the detector")
        folder = output or Path("evaluations") / Path(detector).stem
        _print_evaluated(*evaluate_file(Path(detector), folder), folder)
        return
    segments = kind_of_bundle(detector) == "segmenter"
    opened = Segmenter.load(detector) if segments else Detector.load(detector, lungs=lungs)
    labelled = choose_rows(opened.bundle, dataset, part)
    folder = output or Path("evaluations") / f"{opened.bundle.facts.name}-on-{labelled.name}-{labelled.part}"
    say(kind_of(labelled))
    for warning in labelled.warnings:
        say(f"warning: {warning}")
    if isinstance(opened, Segmenter):
        judged = evaluate_segmenter(opened, labelled, folder, record=record)
        table("Masks compared with the reference", ("figure", "value (95% interval)"), judged.rows)
        for note in judged.notes:
            say(f"note: {note}")
        typer.echo(f"Report: {folder / 'report.html'}")
        return
    outcome = evaluate_detector(opened, labelled, folder, record=record)
    _print_evaluated(outcome.evaluated, outcome.card, folder)
    end(outcome.failures, any_read=True)


def _leave_one_source_out(
    recipe: Path, changes: tuple[str, ...], output: Path | None, *, lungs: bool, into: str | None
) -> None:
    need_extra("train")
    from groundglass.commands.leave_one_out import leave_one_source_out
    from groundglass.detect.bundle import Bundle

    if recipe.is_dir() or recipe.suffix.lower() not in (".yaml", ".yml"):
        raise GroundglassError(
            f"{recipe}: --leave-one-source-out trains once for each source, so it takes a recipe (a YAML file)"
        )
    bundle = Bundle.load(into) if into is not None else None
    judged, folder = leave_one_source_out(recipe, changes, output, lungs=lungs, record=bundle, tell=say)
    shown = judged.table()
    header, *rows = zip(
        shown.header, *shown.rows, strict=True
    )  # a column per source: a row would be too wide
    table(shown.title, header, rows)
    typer.echo(f"{judged.headline()}\nReport: {folder / 'report.html'}")
    end([failure for left in judged.each for failure in left.failures], any_read=True)


@app.command(epilog="Example:  groundglass bundle runs/covid-ct-lite0 -o detector.zip")
def bundle(
    run: Annotated[Path, typer.Argument(help="The folder of the training run.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A folder or a .zip to write [RUN/bundle].")
    ] = None,
) -> None:
    """Export the best epoch of a run as a bundle that needs no training library."""
    need_extra("train")
    from groundglass.commands.train import bundle_run

    typer.echo(f"Bundle: {bundle_run(run, output)}")


@app.command(epilog="Example:  groundglass demo -o demo-report")
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the report.")] = Path(
        "demo-report"
    ),
) -> None:
    """Run the shipped detector on the test part of covid-ct, or on phantoms, and write a report."""
    from groundglass.commands.demo import demo as run

    typer.echo(f"Report: {run(output, say)}")


cli_segment.register(app)
cli_compare.register(app)
cli_calibrate.register(app)
cli_audit.register(app)


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
    licences: Annotated[
        bool,
        typer.Option("--licences", help="Print the licences of the code and of the shipped bundles' data."),
    ] = False,
) -> None:
    if not version and not licences:
        return
    typer.echo(f"groundglass {__version__}")
    if licences:
        from groundglass.bundle.store import shipped_training

        typer.echo("Code: Apache-2.0")
        for name, training in shipped_training().items():
            typer.echo(f"\nBundle {name}, trained on:")
            for data, licence, commercial in training.licences():
                typer.echo(f"  {data}: {licence}; commercial use: {commercial}")
            typer.echo(
                training.terms() or "The licences of these data allow commercial use with attribution."
            )
    raise typer.Exit


def main() -> None:
    """Run the command. A user's mistake is printed as one line with exit code 1, a warning as one line."""
    warnings.showwarning = lambda message, *_, **__: say(f"warning: {message}")
    try:
        app()
    except GroundglassError as error:
        say(f"error: {error}")
        sys.exit(FAILED)
    except ModuleNotFoundError as error:
        extra = missing_extra(error)
        if extra is None:
            raise
        say(f"error: {extra}")
        sys.exit(FAILED)
    except KeyboardInterrupt:
        say("stopped")
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(FAILED)
    finally:
        gc.freeze()  # otherwise the last collection scans all that libraries loaded: half a second
