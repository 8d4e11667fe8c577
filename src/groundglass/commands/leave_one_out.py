"""``groundglass evaluate --leave-one-source-out``: a recipe judged on each source by who never saw it."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from groundglass.bundle.evaluation import METRICS, Evaluation, format_estimate
from groundglass.bundle.facts import EvaluationFacts
from groundglass.commands.evaluate import Labelled, evaluate_detector
from groundglass.commands.system_runs import check_runs, tell_of, without_leakage_warning
from groundglass.commands.train import check_ready, finish_training, masks_of
from groundglass.data.manifest import fingerprint, read_manifest
from groundglass.detect.bundle import Bundle
from groundglass.detect.detector import Detector
from groundglass.detect.findings import Failure
from groundglass.errors import GroundglassError
from groundglass.evaluation.operating_point import CERTAIN_SHARE, most_certain_accuracy
from groundglass.evaluation.predictions import write_predictions
from groundglass.files import write_json
from groundglass.labels import NEGATIVE, POSITIVE
from groundglass.recipe.divide import divided_scans, sources_of
from groundglass.recipe.parts import Data
from groundglass.recipe.recipe import AnyRecipe, dump_recipe, load_recipe
from groundglass.recipe.tasks import SegmentationRecipe
from groundglass.report.page import Link, Report, Table, dataset_table, write_report
from groundglass.train.run import Run

PREDICTIONS, DOCUMENT, REPORT = "predictions.csv", "leave_one_source_out.json", "report.html"
JUDGED = "left-out"
"""Folder, in that of the run, of what came out on the source that the run left out."""
SHOWN = ("roc_auc", "accuracy", "sensitivity", "specificity", "ece")
COVERAGE = "coverage"
OF_PATIENTS = ("roc_auc", "accuracy", "sensitivity", "specificity", COVERAGE)
"""Figures per patient."""
MOST_CERTAIN = "most_certain_accuracy"
TITLES = {
    **{name: metric.title for name, metric in METRICS.items()},
    MOST_CERTAIN: f"Accuracy on the {CERTAIN_SHARE:.0%} most certain",
}
MEAN = "mean over sources"


@dataclass(frozen=True)
class SourceResult:
    """What came out on a source by the detector that was trained on the others.

    Attributes
    ----------
    source
        The source's name.
    folder
        The run's folder.
    threshold
        The detector's, on the calibrated probability.
    predictions
        For all slices of the source that could be read.
    evaluation
        Of these slices.
    patients
        Of the patients of these slices; None if no slice names its patient.
    most_certain
        Accuracy on the most certain of them.
    failures
        Files that could not be read.
    facts
        The figures as a bundle holds them.
    """

    source: str
    folder: Path
    threshold: float
    predictions: pd.DataFrame
    evaluation: Evaluation
    patients: Evaluation | None
    most_certain: float
    failures: tuple[Failure, ...]
    facts: EvaluationFacts

    def value(self, figure: str) -> float | None:
        """A figure by its name, None where it is undefined."""
        return self.most_certain if figure == MOST_CERTAIN else self.evaluation.metrics[figure].value

    def text(self, figure: str) -> str:
        """A figure as it is shown: the AUC with its interval, others without, a dash where undefined."""
        if figure == "roc_auc" and self.value(figure) is not None:
            return format_estimate(self.evaluation.metrics[figure])
        return _shown(self.value(figure), figure)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "source": self.source,
            "run": self.folder.name,
            "threshold": self.threshold,
            MOST_CERTAIN: self.most_certain,
            "failures": [vars(failure) for failure in self.failures],
            "slices": self.evaluation.to_dict(),
            "patients": None if self.patients is None else self.patients.to_dict(),
        }


@dataclass(frozen=True)
class LeaveOneOutResult:
    """A recipe judged on each source of its data.

    Attributes
    ----------
    recipe
        The recipe.
    each
        What came out on each source.
    """

    recipe: AnyRecipe
    each: tuple[SourceResult, ...]

    @property
    def figures(self) -> tuple[str, ...]:
        """The figures shown; the coverage is one of them where not every slice was answered."""
        all_answered = all(left.value(COVERAGE) == 1 for left in self.each)
        return (*SHOWN, *(() if all_answered else (COVERAGE,)), MOST_CERTAIN)

    def mean(self, figure: str) -> float | None:
        """The plain mean over the sources on which the figure is defined; None where it is on none."""
        known = [value for left in self.each if (value := left.value(figure)) is not None]
        return statistics.fmean(known) if known else None

    def headline(self) -> str:
        """The one sentence to begin with."""
        auc = self.mean("roc_auc")
        defined = sum(left.value("roc_auc") is not None for left in self.each)
        if auc is None:
            return "No source has both classes, so that no AUC is defined."
        return f"Mean ROC AUC {auc:.2f} over {defined} sources, each judged by a detector that never saw it."

    def table(self) -> Table:
        """A row for each source, and their mean."""
        header = ("source", f"slices ({POSITIVE})", "groups", *(TITLES[figure] for figure in self.figures))
        rows = [
            (
                left.source,
                f"{left.evaluation.count} ({left.evaluation.positives})",
                f"{left.evaluation.groups} {left.evaluation.resampled_by}s",
                *(left.text(figure) for figure in self.figures),
            )
            for left in self.each
        ]
        mean = (MEAN, "", "", *(self._mean_text(figure) for figure in self.figures))
        notes = [f"{left.source}: {note}" for left in self.each for note in left.evaluation.notes]
        note = (
            "In brackets the 95% interval of the AUC, by a bootstrap over the groups. The mean is the plain one of "
            "the sources, each counted once. Certain is what lies far from the threshold, as a share of the way to "
            "0 or 1. "
        )
        return Table(
            "Each source, by a detector trained on the others", header, [*rows, mean], note + " ".join(notes)
        )

    def patients_table(self) -> Table | None:
        """A row for each source that names patients, with the figures per patient; None if none does."""
        named = [(left.source, left.patients) for left in self.each if left.patients is not None]
        if not named:
            return None
        header = ("source", f"patients ({POSITIVE})", *(METRICS[figure].title for figure in OF_PATIENTS))
        rows = [
            (
                source,
                f"{patients.count} ({patients.positives})",
                *(METRICS[figure].shown(patients.metrics[figure]) for figure in OF_PATIENTS),
            )
            for source, patients in named
        ]
        notes = [f"{source}: {note}" for source, patients in named for note in patients.notes]
        return Table(
            "Each source, per patient", header, rows, "In brackets 95% intervals. " + " ".join(notes)
        )

    def _mean_text(self, figure: str) -> str:
        defined = sum(left.value(figure) is not None for left in self.each)
        few = f" (of {defined})" if 0 < defined < len(self.each) else ""
        return _shown(self.mean(figure), figure) + few


def leave_one_source_out(
    recipe_file: Path,
    overrides: tuple[str, ...],
    folder: Path | None,
    *,
    lungs: bool = True,
    record: Bundle | None = None,
    tell: Callable[[str], None] = print,
) -> tuple[LeaveOneOutResult, Path]:
    """Train a recipe once without each source of its data, and judge each detector on the source it never saw.

    A run that was finished before is not repeated, and one that was stopped goes on.

    Parameters
    ----------
    recipe_file, overrides
        As of :func:`groundglass.commands.train.train`.
    folder
        Where to write ``predictions.csv`` (of all sources), ``leave_one_source_out.json``, ``report.html`` and
        for each source a run, with what came out on it in ``left-out``; by default
        ``evaluations/NAME-leave-one-source-out``.
    lungs
        Look for lungs when answering, as ``groundglass evaluate`` does.
    record
        The bundle of a detector that was trained by the recipe on all sources: the figures are entered into it and
        its model card, as those of networks trained in the same way.
    tell
        Receives lines of text on how it goes.

    Returns
    -------
    What came out, and the folder.

    Raises
    ------
    GroundglassError
        If the recipe is a segmenter's or leaves a source out itself, there are not two sources at least, a class
        comes from one source alone, a folder holds a run by another recipe, or a training or reading fails.
    """
    recipe = load_recipe(recipe_file, overrides)
    _check(recipe, recipe_file)
    if record is not None:
        record.check_enterable()
    folder = folder or Path("evaluations") / f"{recipe.name}-leave-one-source-out"
    sources = sources_of(recipe.data)
    if len(sources) < 2:
        raise GroundglassError(
            f"{recipe_file}: all scans are from {sources[0]}, and two sources at least are needed; the column "
            "source of a manifest tells them apart, data.further of the recipe names further datasets"
        )
    members = [(_without(recipe, source), Run(folder / _folder_name(source))) for source in sources]
    # All is checked before any is trained: a mistake in the last one must not show after hours.
    for member, _ in members:
        _check_classes(member.data, divided_scans(member.data, member.seed))
    check_ready(recipe)
    for member, _ in members:
        masks_of(member)
    check_runs(members)
    tell(f"{len(sources)} sources, {len(sources)} trainings: {', '.join(sources)}")
    each = tuple(_judged(member, run, lungs=lungs, tell=tell) for member, run in members)
    judged = LeaveOneOutResult(recipe, each)
    _write(judged, folder)
    if record is not None:
        record.enter(left_out=tuple(left.facts for left in each))
    return judged, folder


def _check(recipe: AnyRecipe, recipe_file: Path) -> None:
    if isinstance(recipe, SegmentationRecipe):
        raise GroundglassError(
            f"{recipe_file}: is the recipe of a segmenter; detectors are judged by source here"
        )
    if recipe.data.leave_out is not None:
        raise GroundglassError(
            f"{recipe_file}: leaves out {recipe.data.leave_out} itself; take data.leave_out away, and each "
            "source is left out in its turn"
        )


def _without(recipe: AnyRecipe, source: str) -> AnyRecipe:
    return recipe.model_copy(update={"data": recipe.data.model_copy(update={"leave_out": source})})


def _folder_name(source: str) -> str:
    """The source's name as that of a folder: what a file system may not take is written as in an address."""
    name = quote(source, safe=" ")
    return "%2E" + name[1:] if name.startswith(".") else name


def _check_classes(data: Data, divided: pd.DataFrame) -> None:
    for part in ("train", "val"):
        there = set(data.classes_of(divided.loc[divided["split"] == part, "label"]))
        absent = [name for name in data.several or (NEGATIVE, POSITIVE) if name not in there]
        if absent:
            raise GroundglassError(
                f"without {data.leave_out} the {part} part holds no slice of {', '.join(absent)}: each class must "
                "come from two sources at least, and the split must leave the others both parts"
            )


def _judged(recipe: AnyRecipe, run: Run, *, lungs: bool, tell: Callable[[str], None]) -> SourceResult:
    source = str(recipe.data.leave_out)
    tell(f"{source}: training on the other sources")
    with without_leakage_warning():
        new = finish_training(recipe, run, partial(tell_of, source, tell))
    manifest = read_manifest(run.manifest_file)
    rows = manifest[manifest["source"] == source].reset_index(drop=True)
    tell(f"{source}: {'trained' if new else 'was trained already'}; answering its {len(rows)} slices")
    detector = Detector.load(run.bundle_folder.absolute(), lungs=lungs)
    labelled = Labelled(rows, source, "all", True, "", manifest, fingerprint(manifest), ())
    outcome = evaluate_detector(detector, labelled, run.folder / JUDGED)
    evaluated = outcome.evaluated
    return SourceResult(
        source=source,
        folder=run.folder,
        threshold=evaluated.threshold,
        predictions=evaluated.predictions,
        evaluation=evaluated.slices,
        patients=evaluated.patients,
        most_certain=most_certain_accuracy(evaluated.predictions, evaluated.threshold),
        failures=tuple(outcome.failures),
        facts=outcome.facts,
    )


def _shown(value: float | None, figure: str) -> str:
    digits = METRICS[figure].digits if figure in METRICS else 2
    return "-" if value is None else f"{value:.{digits}f}"


def _write(judged: LeaveOneOutResult, folder: Path) -> None:
    pooled = pd.concat([left.predictions for left in judged.each], ignore_index=True)
    write_predictions(pooled, folder / PREDICTIONS)
    document = {
        "recipe": judged.recipe.name,
        "positive_class": POSITIVE,
        "most_certain_share": CERTAIN_SHARE,
        "sources": [left.to_dict() for left in judged.each],
        "mean": {figure: judged.mean(figure) for figure in (*METRICS, MOST_CERTAIN)},
    }
    write_json(folder / DOCUMENT, document)
    write_report(_report(judged), folder / REPORT)


def _report(judged: LeaveOneOutResult) -> Report:
    about = [dataset_table(part.dataset) for part in judged.recipe.data.datasets]
    recipe = Table("The recipe", (), [("recipe.yaml", dump_recipe(judged.recipe))])
    return Report(
        title=f"{judged.recipe.name}, leaving one source out",
        headline=judged.headline(),
        warnings=_warnings(judged.each),
        tables_title="How well it does at a source that it has never seen",
        figures_of_merit=[*filter(None, (judged.table(), judged.patients_table())), _pages(judged.each)],
        facts=[*filter(None, about), recipe],
    )


def _pages(each: Sequence[SourceResult]) -> Table:
    rows = [
        (
            left.source,
            Link("the training", f"{left.folder.name}/{REPORT}"),
            Link("all figures", f"{left.folder.name}/{JUDGED}/{REPORT}"),
        )
        for left in each
    ]
    return Table("Each detector", ("left out", "trained on the others", "judged on the one left out"), rows)


def _warnings(each: Sequence[SourceResult]) -> list[str]:
    return [
        f"{left.source}: {len(left.failures)} of its slices could not be read and do not count."
        for left in each
        if left.failures
    ]
