"""The commands ``groundglass evaluate``, ``calibrate`` and ``aggregate``: evaluate and adjust a detector on
labelled scans."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from groundglass.cli.options import (
    AnyBundle,
    Coverage,
    Data,
    Detector,
    Lungs,
    Part,
    Record,
    RecordInto,
    RequiredData,
    Seed,
    Set,
    SettingOption,
    Workers,
    command,
    divided,
    output,
)
from groundglass.cli.output import end, say, table, wrong_usage
from groundglass.errors import need_extra

if TYPE_CHECKING:
    from groundglass.audit.trust import TrustCard
    from groundglass.evaluation.recalibration import HeldOutPerformance
    from groundglass.report.predictions import EvaluatedPredictions

HELD_OUT = ("left out", "cases", "answered", "accuracy of these", "covid covered", "not covid covered")
RECIPES = (".yaml", ".yml")


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    command(
        app,
        "evaluate --data covid-ct",
        "evaluate -b runs/mine --data my/folder --part all -o external",
        "evaluate predictions.csv",
        "evaluate --leave-one-source-out recipes/covid-ct-lite0.yaml --set data.dataset=sites.csv",
    )(evaluate)
    command(
        app,
        "calibrate evaluations/elsewhere/predictions.csv -b runs/covid-ct-lite0",
        "calibrate pooled.csv -b my-bundle --coverage 0.95 --refit",
        "calibrate pooled.csv -b my-bundle --setting screening --source north --source south",
    )(calibrate)
    command(app, "aggregate -b runs/covid-ct-lite0 --data sarscov2-ct --record")(aggregate)


def evaluate(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="PREDICTIONS|RECIPE",
            help="A labelled predictions.csv to evaluate alone; or, with --leave-one-source-out, a recipe.",
        ),
    ] = None,
    bundle: AnyBundle = None,
    data: Data = None,
    part: Annotated[
        Part | None,
        typer.Option("--part", help="The part to use [all of an external dataset, otherwise test]."),
    ] = None,
    output: Annotated[Path | None, output("Folder for the results [evaluations/...].")] = None,
    record: Record = False,
    lungs: Lungs = True,
    setting: SettingOption = None,
    leave_one_source_out: Annotated[
        bool,
        typer.Option(
            "--leave-one-source-out",
            help="Train the recipe once without each source of its data, and evaluate on that source.",
        ),
    ] = False,
    record_into: RecordInto = None,
    change: Set = None,
    workers: Workers = None,
) -> None:
    """Evaluate a detector on labelled slices, or a segmenter on slices with masks, with intervals and a report.

    On the detector's own dataset, the test set is used. Any other dataset is external validation, and all of it is
    used. With --leave-one-source-out, a recipe is evaluated on each of its sources by a detector that was trained
    on its other sources.
    """
    with_data = bundle is not None or data is not None or part is not None or record
    is_recipe = file is not None and file.suffix.lower() in RECIPES
    wrong_usage(
        (
            leave_one_source_out and with_data,
            "--leave-one-source-out takes only a recipe: its data section names the datasets, each source is used "
            "whole, and --record-into names the bundle to record in",
        ),
        (
            leave_one_source_out and not is_recipe,
            f"{file}: --leave-one-source-out trains once for each source, so it takes a recipe (a YAML file)",
        ),
        (
            not leave_one_source_out and record_into is not None,
            f"--record-into {record_into}: needs --leave-one-source-out; otherwise use --record",
        ),
        (
            not leave_one_source_out and bool(change),
            f"--set {(change or [''])[0]}: changes a recipe, and needs --leave-one-source-out",
        ),
        (
            not leave_one_source_out and is_recipe,
            f"{file}: is a recipe; name the run that was trained from it with -b, or add --leave-one-source-out",
        ),
        (file is not None and with_data, f"{file}: predictions are evaluated alone, without -b or --data"),
        (
            file is not None and not is_recipe and file.suffix.lower() != ".csv",
            f"{file}: is not a predictions.csv; name a detector with -b and labelled scans with --data",
        ),
        (file is None and data is None, "name the labelled scans with --data, or a predictions.csv"),
    )
    if leave_one_source_out and file is not None:
        _leave_one_source_out(file, tuple(change or ()), output, lungs=lungs, into=record_into)
    else:
        how = {"record": record, "lungs": lungs, "setting": setting}
        _evaluate(file or bundle, data, part, output, workers, **how)


def _evaluate(
    detector: "Path | str | None",
    data: str | None,
    part: Part | None,
    output: Path | None,
    workers: int | None,
    **how: Any,
) -> None:
    from groundglass.commands.evaluate import MaskJudgement
    from groundglass.commands.evaluate import evaluate as run
    from groundglass.detect.bundle import Bundle

    with divided(workers) as divide:
        outcome = run(detector or Bundle.default, data, output, part=part, **how, tell=say, divide=divide)
    if isinstance(outcome, MaskJudgement):
        table("Masks compared with the reference", ("figure", "value (95% interval)"), outcome.rows)
        for note in outcome.notes:
            say(f"note: {note}")
        typer.echo(f"Report: {outcome.folder / 'report.html'}")
        return
    _print_evaluated(outcome.evaluated, outcome.card, outcome.folder)
    end(outcome.failures, any_read=True)


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
    table(f"How far the AUC can be trusted: grade {card.grade}", ("item", "what is known"), card.rows())
    for reason in card.reasons:
        typer.echo(reason)
    typer.echo(f"Report: {folder / 'report.html'}")


def _leave_one_source_out(
    recipe: Path, changes: tuple[str, ...], output: Path | None, *, lungs: bool, into: str | None
) -> None:
    need_extra("train")
    from groundglass.commands.leave_one_out import leave_one_source_out
    from groundglass.detect.bundle import Bundle

    bundle = Bundle.load(into) if into is not None else None
    judged, folder = leave_one_source_out(recipe, changes, output, lungs=lungs, record=bundle, tell=say)
    shown = judged.table()
    header, *rows = zip(
        shown.header, *shown.rows, strict=True
    )  # a column per source: a row would be too wide
    table(shown.title, header, rows)
    typer.echo(f"{judged.headline()}\nReport: {folder / 'report.html'}")
    end([failure for left in judged.each for failure in left.failures], any_read=True)


def calibrate(
    predictions: Annotated[
        Path,
        typer.Argument(
            help="A labelled predictions.csv of slices that the detector was not trained on, preferably "
            "from other hospitals."
        ),
    ],
    bundle: Detector = None,
    coverage: Coverage = 0.9,
    refit: Annotated[
        bool, typer.Option("--refit", help="Also fit temperature, bias and threshold again.")
    ] = False,
    setting: SettingOption = None,
    source: Annotated[
        list[str] | None,
        typer.Option("--source", help="Use only slices of this source; may be repeated [all]."),
    ] = None,
    seed: Seed = 0,
) -> None:
    """Choose, on labelled slices, when a detector answers `uncertain`, and store these limits in its bundle.

    This uses conformal prediction: at most 1 - COVERAGE of each class should get the wrong verdict. Each source is
    left out in turn to measure whether that holds.
    """
    from groundglass.commands.calibrate import calibrate as run
    from groundglass.detect.bundle import Bundle

    wrong_usage((bundle is None, "name the bundle to calibrate with -b"))
    detector = Bundle.load(bundle)
    result = run(
        detector,
        predictions,
        coverage=coverage,
        refit=refit,
        setting=setting,
        sources=source or (),
        seed=seed,
    )
    facts = detector.facts
    if refit:
        typer.echo(
            f"Temperature {facts.temperature:.3f}, bias {facts.bias:.3f}, threshold {facts.threshold:.3f}"
        )
    if setting is not None:
        facts = facts.in_setting(setting)
        typer.echo("\n".join(str(choice) for choice in facts.settings[setting].chosen))
    if result.held_out:
        rows = [_held_out(one) for one in result.held_out]
        table("On slices that were not used for choosing", HELD_OUT, rows)
    if facts.abstention is not None:
        typer.echo(f"{facts.abstention.ends()}.\n{facts.abstention.meaning()}")
    for note in result.notes:
        say(f"note: {note}")


def _held_out(held_out: "HeldOutPerformance") -> tuple[str, ...]:
    shares = (held_out.answered, held_out.accuracy, held_out.covid, held_out.other)
    percentages = ("" if share is None else f"{share:.1%}" for share in shares)
    return (held_out.left_out, str(held_out.cases), *percentages)


def aggregate(
    data: RequiredData,
    bundle: Detector = None,
    part: Annotated[
        Part | None,
        typer.Option(
            "--part",
            help="The part to use, never the test set of the detector's own dataset [all of an external dataset, "
            "otherwise val].",
        ),
    ] = None,
    output: Annotated[Path, output("Folder for aggregation.json and report.html.")] = Path("aggregation"),
    least_slices: Annotated[
        int, typer.Option(min=1, help="Leave out patients with fewer slices that show lungs than this.")
    ] = 5,
    seed: Seed = 0,
    coverage: Coverage = 0.9,
    record: Record = False,
    record_into: RecordInto = None,
    setting: SettingOption = None,
) -> None:
    """Choose, on labelled patients, the rule that turns the slices' results into a patient's probability.

    Every rule is fitted and evaluated by cross-validation over patients. The simplest one whose log loss is within
    one standard error of the best is chosen. The data must name patients.
    """
    from groundglass.commands.aggregate import COLUMNS
    from groundglass.commands.aggregate import aggregate as run
    from groundglass.detect.bundle import Bundle
    from groundglass.detect.detector import Detector

    wrong_usage(
        (record and record_into is not None, "--record and --record-into: use only one of them"),
        (record and bundle is None, "--record: name the bundle to record in with -b"),
    )
    detector = Detector.load(bundle)
    own = detector.bundle if record else None
    result = run(
        detector,
        data,
        output,
        part=part,
        least_slices=least_slices,
        seed=seed,
        coverage=coverage,
        record=Bundle.load(record_into) if record_into is not None else own,
        setting=setting,
    )
    counts = result.counts
    title = f"Aggregations on {counts['patients']} patients, {counts['positive']} positive"
    table(title, COLUMNS, result.rows())
    uncertain = result.rule.abstention
    for line in (*result.rule.chosen, *((uncertain.ends(), *uncertain.chosen) if uncertain else ())):
        typer.echo(line)
    typer.echo(f"Report: {output / 'report.html'}")
