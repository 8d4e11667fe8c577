"""A recipe evaluated on each of its sources with a detector that never saw that source: figures, means and
the page."""

import statistics
from dataclasses import dataclass
from typing import Any

import pandas as pd

from groundglass.bundle.evaluation import METRICS, Estimate, Evaluation, format_estimate
from groundglass.bundle.facts import EvaluationFacts
from groundglass.detect.findings import Failure
from groundglass.errors import count_of
from groundglass.evaluation.operating_point import CERTAIN_SHARE
from groundglass.labels import POSITIVE
from groundglass.recipe.recipe import AnyRecipe, dump_recipe
from groundglass.report.page import Link, Report, Table, dataset_table

REPORT = "report.html"
JUDGED = "left-out"
"""Folder, within the run's, of the evaluation on the source that was left out."""
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
    """The evaluation of a detector on the one source that was left out of its training.

    Attributes
    ----------
    source
        The source's name.
    run
        The name of the run's folder.
    threshold
        The detector's threshold on the calibrated probability.
    predictions
        The predictions for all readable slices of the source.
    most_certain
        Accuracy on the most certain slices.
    failures
        Files that could not be read.
    facts
        The figures per slice and per patient, in a bundle's form.
    """

    source: str
    run: str
    threshold: float
    predictions: pd.DataFrame
    most_certain: float
    failures: tuple[Failure, ...]
    facts: EvaluationFacts

    @property
    def slices(self) -> Evaluation:
        """The figures per slice."""
        assert isinstance(self.facts.slices, Evaluation)
        return self.facts.slices

    def estimate(self, figure: str) -> Estimate:
        """A figure by its name."""
        return Estimate(value=self.most_certain) if figure == MOST_CERTAIN else self.slices.metrics[figure]

    def text(self, figure: str) -> str:
        """A figure as text: the AUC with its interval, others without, a dash if it is undefined."""
        estimate = self.estimate(figure)
        if figure == "roc_auc" and estimate.value is not None:
            return format_estimate(estimate)
        return _shown(estimate.value, figure)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        patients = self.facts.patients
        return {
            "source": self.source,
            "run": self.run,
            "threshold": self.threshold,
            MOST_CERTAIN: self.most_certain,
            "failures": [vars(failure) for failure in self.failures],
            "slices": self.slices.to_dict(),
            "patients": None if patients is None else patients.to_dict(),
        }


@dataclass(frozen=True)
class LeaveOneOutResult:
    """A recipe, and the evaluations on each source of its data."""

    recipe: AnyRecipe
    each: tuple[SourceResult, ...]

    @property
    def figures(self) -> tuple[str, ...]:
        """The figures shown, with the coverage if not every slice was answered."""
        all_answered = self.values(COVERAGE) == [1] * len(self.each)
        return (*SHOWN, *(() if all_answered else (COVERAGE,)), MOST_CERTAIN)

    def values(self, figure: str) -> list[float]:
        """A figure on the sources where it is defined."""
        return [value for one in self.each if (value := one.estimate(figure).value) is not None]

    def mean(self, figure: str) -> float | None:
        """The plain mean over the sources on which the figure is defined; None if there is no such source."""
        known = self.values(figure)
        return statistics.fmean(known) if known else None

    def headline(self) -> str:
        """The result in one sentence."""
        auc = self.mean("roc_auc")
        if auc is None:
            return "No source has both classes, so no AUC is defined."
        defined = len(self.values("roc_auc"))
        return f"Mean ROC AUC {auc:.2f} over {defined} sources, each evaluated with a detector that never saw it."

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "recipe": self.recipe.name,
            "positive_class": POSITIVE,
            "most_certain_share": CERTAIN_SHARE,
            "sources": [one.to_dict() for one in self.each],
            "mean": {figure: self.mean(figure) for figure in (*METRICS, MOST_CERTAIN)},
        }

    def table(self) -> Table:
        """A row for each source, and their mean."""
        rows = [
            (
                one.source,
                f"{one.slices.count} ({one.slices.positives})",
                f"{one.slices.groups} {one.slices.resampled_by}s",
                *(one.text(figure) for figure in self.figures),
            )
            for one in self.each
        ]
        notes = [f"{one.source}: {note}" for one in self.each for note in one.slices.notes]
        return Table(
            "Each source, by a detector trained on the remaining sources",
            ("source", f"slices ({POSITIVE})", "groups", *(TITLES[figure] for figure in self.figures)),
            [*rows, (MEAN, "", "", *map(self._mean_text, self.figures))],
            "The 95% interval of the AUC, by a bootstrap over the groups, is in brackets. The mean is the "
            "unweighted mean over the sources. The most certain answers are those farthest from the "
            "threshold, relative to the distance to 0 or 1. " + " ".join(notes),
        )

    def patients_table(self) -> Table | None:
        """A row for each source that names patients, with the figures per patient; None if none does."""
        named = [(one.source, one.facts.patients) for one in self.each if one.facts.patients is not None]
        if not named:
            return None
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
            "Each source, per patient",
            ("source", f"patients ({POSITIVE})", *(METRICS[figure].title for figure in OF_PATIENTS)),
            rows,
            "95% intervals are in brackets. " + " ".join(notes),
        )

    def report(self) -> Report:
        """The page."""
        pages = [
            (
                one.source,
                Link("the training", f"{one.run}/{REPORT}"),
                Link("all figures", f"{one.run}/{JUDGED}/{REPORT}"),
            )
            for one in self.each
        ]
        header = ("left out", "trained on the remaining sources", "evaluated on the source left out")
        about = [dataset_table(part.dataset) for part in self.recipe.data.datasets]
        return Report(
            title=f"{self.recipe.name}, leaving one source out",
            headline=self.headline(),
            warnings=[
                f"{one.source}: {count_of(len(one.failures), 'slice')} could not be read; no figure includes them."
                for one in self.each
                if one.failures
            ],
            tables_title="Performance on a source that it has never seen",
            figures_of_merit=[
                *filter(None, (self.table(), self.patients_table())),
                Table("Each detector", header, pages),
            ],
            facts=[
                *filter(None, about),
                Table("The recipe", (), [("recipe.yaml", dump_recipe(self.recipe))]),
            ],
        )

    def _mean_text(self, figure: str) -> str:
        defined = len(self.values(figure))
        few = f" (of {defined})" if 0 < defined < len(self.each) else ""
        return _shown(self.mean(figure), figure) + few


def _shown(value: float | None, figure: str) -> str:
    digits = METRICS[figure].digits if figure in METRICS else 2
    return "-" if value is None else f"{value:.{digits}f}"
