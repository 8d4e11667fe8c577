"""Metrics with intervals from predictions of several classes: each class against the rest, and their means.

The metrics of one class are those of the binary evaluation with that class as the positive one. A macro metric is
their plain mean over the classes, so that a rare class weighs as much as a common one; macro F1 is the mean of the
F1 (the averaged F1 of Opitz & Burst 2019, arXiv 1911.03347), and macro AUC the mean of the one-vs-rest AUC (Fawcett
2006, doi 10.1016/j.patrec.2005.10.010, without weights).
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from groundglass.bundle.evaluation import Estimate, Metric, ResampledBy, StoredResult, metric_rows, metrics_of
from groundglass.errors import GroundglassError
from groundglass.evaluation.bootstrap import (
    Floats,
    Ranking,
    check_bootstrap,
    estimates,
    notes_on_metrics,
    notes_on_units,
    ratio,
    resample,
)
from groundglass.evaluation.metrics import kind_of_units, notes_on_rows, resampling_groups
from groundglass.evaluation.predictions import (
    check_predictions,
    class_column,
    classes_of,
    labels_of,
    refuse_rows,
    unit_codes,
)
from groundglass.labels import CLASS, CLASS_PREFIX, NOT_A_CHEST_CT, UNCERTAIN

CLASS_METRICS = metrics_of("class")
"""Metrics of each class against the rest, by name, in the order of display."""
MACRO_METRICS = metrics_of("classes")
"""Metrics of all classes together, by name, in the order of display."""
MEAN_OF = {"macro_sensitivity": "sensitivity", "macro_ppv": "ppv", "macro_f1": "f1", "macro_auc": "roc_auc"}
CLASS_COLUMNS = ("Class", "Slices", *(metric.title for metric in CLASS_METRICS.values()))
"""Header of :func:`class_rows`."""


class ClassesEvaluation(StoredResult):
    """The figures of a detector of several classes, from ``predictions.csv``.

    Attributes
    ----------
    classes
        In the order of their columns.
    count, counts
        Number of slices in total and by label.
    groups, resampled_by, resamples, confidence, seed
        As in :class:`~groundglass.bundle.evaluation.Evaluation`.
    metrics
        By their name in ``MACRO_METRICS``. A class without slices is left out of the means.
    per_class
        By class, and by their name in ``CLASS_METRICS``. All but the AUC are computed on the slices answered.
    confusion
        Slices answered: rows are labels, columns answers, both in the order of ``classes``.
    notes
        Sentences that readers of the numbers need to know.
    """

    classes: tuple[str, ...]
    count: int
    counts: dict[str, int]
    groups: int
    resampled_by: ResampledBy
    resamples: int
    confidence: float
    seed: int
    metrics: dict[str, Estimate]
    per_class: dict[str, dict[str, Estimate]]
    confusion: tuple[tuple[int, ...], ...]
    notes: tuple[str, ...] = ()


def evaluate_classes(
    predictions: pd.DataFrame, *, resamples: int = 2000, confidence: float = 0.95, seed: int = 0
) -> ClassesEvaluation:
    """Compute all metrics of several classes with their intervals.

    Accuracy, sensitivity and the like use the column ``class`` of the slices answered, which are those with a
    positive or negative verdict; AUC uses the classes' probabilities of all slices. Intervals are like those
    of :func:`~groundglass.evaluation.metrics.evaluate`; those of macro metrics leave out resamples that lack
    a class.

    Parameters
    ----------
    predictions
        As :func:`~groundglass.evaluation.predictions.read_predictions` gives them, with columns of classes.
    resamples, confidence, seed
        Settings of the bootstrap; the same seed gives the same intervals.

    Raises
    ------
    GroundglassError
        If there are no rows or no classes, a label is blank or not a class, or a value is invalid.
    """
    check_bootstrap(resamples, confidence)
    frame = check_classes(predictions)
    classes = classes_of(frame)
    labelled = labelled_masks(frame, classes)
    groups = resampling_groups(frame)
    units = unit_codes(groups)
    resampled_by = kind_of_units(frame, groups)
    computed = _weighted(frame, classes)
    once = np.ones((1, len(frame)))
    values = {name: value[0] for name, value in computed(once).items()}
    resampled = resample(computed, units, resamples, seed)
    by_class = {name: _of_class(number, values, resampled) for number, name in enumerate(classes)}
    return ClassesEvaluation(
        classes=classes,
        count=len(frame),
        counts={name: int(of.sum()) for name, of in labelled.items()},
        groups=int(units.max()) + 1,
        resampled_by=resampled_by,
        resamples=resamples,
        confidence=confidence,
        seed=seed,
        metrics=estimates(MACRO_METRICS, values, resampled, confidence),
        per_class={
            name: estimates(CLASS_METRICS, *of_class, confidence) for name, of_class in by_class.items()
        },
        confusion=tuple(tuple(map(int, row)) for row in computed.confusion(once)[0]),
        notes=(
            *notes_on_rows(frame, groups, "slice", needed="a class"),
            *_notes_on_absent_classes(labelled),
            *notes_on_units(labelled, units, resampled_by),
            *notes_on_metrics(MACRO_METRICS, values, resampled),
            *(
                note
                for name, of_class in by_class.items()
                if labelled[name].any()
                for note in notes_on_metrics(_metrics_named(name), *of_class)
            ),
        ),
    )


def class_rows(evaluation: ClassesEvaluation) -> list[tuple[str, ...]]:
    """A row per class under ``CLASS_COLUMNS``: its name, its slices, and each metric with its interval in brackets.

    What the metrics mean is in ``CLASS_METRICS``.
    """
    return [
        (
            name,
            str(evaluation.counts[name]),
            *(metric.shown(by_metric[key]) for key, metric in CLASS_METRICS.items()),
        )
        for name, by_metric in evaluation.per_class.items()
    ]


def macro_rows(evaluation: ClassesEvaluation) -> list[tuple[str, str]]:
    """Name and value of every metric of all classes together; what they mean is in ``MACRO_METRICS``."""
    return metric_rows(MACRO_METRICS, evaluation.metrics)


def check_classes(predictions: pd.DataFrame) -> pd.DataFrame:
    """A checked copy of ``predictions``, which must have classes and label every slice with one of them.

    Raises
    ------
    GroundglassError
        As :func:`evaluate_classes`.
    """
    frame = check_predictions(predictions)
    classes = classes_of(frame)
    if not classes:
        raise GroundglassError(
            f"the predictions have no classes: to evaluate several classes, add the column {CLASS} and a "
            "column "
            f"{CLASS_PREFIX}NAME for each class"
        )
    strange = ~labels_of(frame).isin(classes)
    known = ", ".join(map(repr, classes))
    remedy = "evaluate on a dataset with the labels that the detector knows, or rename its labels"
    refuse_rows("predictions", frame, "label", strange, f"is none of the classes {known}", remedy)
    return frame


def labelled_masks(frame: pd.DataFrame, classes: Sequence[str]) -> dict[str, NDArray[np.bool_]]:
    """For each class, which slices have its label: bool, shape (slices,)."""
    return {name: (frame["label"] == name).to_numpy() for name in classes}


class WeightedClassMetrics:
    """All metrics of a table of predictions of several classes, for given weights of its slices.

    Parameters
    ----------
    label
        Number of each slice's class, from 0, shape (slices,).
    answer
        Number of the class answered, -1 if there is no answer, shape (slices,).
    probability
        Of each class, in [0, 1], shape (slices, classes).
    """

    def __init__(self, label: NDArray[np.intp], answer: NDArray[np.intp], probability: Floats) -> None:
        self._numbers = np.arange(probability.shape[1])
        self._present = np.isin(self._numbers, label)
        self._rankings = [Ranking(label == number, probability[:, number]) for number in self._numbers]
        of_label = label[:, None] == self._numbers
        of_answer = answer[:, None] == self._numbers
        self._cells = (of_label[:, :, None] & of_answer[:, None, :]).reshape(len(label), -1).astype(float)

    def confusion(self, weights: Floats) -> Floats:
        """Weights of the slices answered, by label and answer: (weightings, labels, answers)."""
        classes = len(self._numbers)
        return (weights @ self._cells).reshape(len(weights), classes, classes)

    def __call__(self, weights: Floats) -> dict[str, Floats]:
        """Metrics by name, NaN if undefined: of each class (weightings, classes), of all (weightings,).

        Parameters
        ----------
        weights
            Shape (weightings, slices), not negative.
        """
        table = self.confusion(weights)
        right = np.diagonal(table, axis1=1, axis2=2)
        labelled, answered = table.sum(axis=2), table.sum(axis=1)
        others = table.sum(axis=(1, 2))[:, None] - labelled
        of_each = {
            "sensitivity": ratio(right, labelled),
            "specificity": ratio(others - (answered - right), others),
            "ppv": ratio(right, answered),
            "f1": ratio(2 * right, labelled + answered),
            "roc_auc": np.column_stack([ranking.areas(weights)[0] for ranking in self._rankings]),
        }
        means = {name: of_each[of][:, self._present].mean(axis=1) for name, of in MEAN_OF.items()}
        return {**of_each, "accuracy": ratio(right.sum(axis=1), labelled.sum(axis=1)), **means}


def _weighted(frame: pd.DataFrame, classes: Sequence[str]) -> WeightedClassMetrics:
    label, answer = (pd.Index(classes).get_indexer(pd.Index(frame[name])) for name in ("label", CLASS))
    silent = frame["verdict"].isin((UNCERTAIN, NOT_A_CHEST_CT)).to_numpy()
    probability = frame[[class_column(name) for name in classes]].to_numpy(dtype=float)
    return WeightedClassMetrics(label, np.where(silent, -1, answer), probability)


def _of_class(
    number: int, values: dict[str, Floats], resampled: dict[str, Floats]
) -> tuple[dict[str, float], dict[str, Floats]]:
    """The values and the resampled values of one class."""
    return (
        {name: float(values[name][number]) for name in CLASS_METRICS},
        {name: resampled[name][:, number] for name in CLASS_METRICS},
    )


def _metrics_named(name: str) -> dict[str, Metric]:
    """The metrics of a class, its name in their titles."""
    return {key: replace(metric, title=f"{metric.title} of {name}") for key, metric in CLASS_METRICS.items()}


def _notes_on_absent_classes(labelled: dict[str, NDArray[np.bool_]]) -> list[str]:
    return [
        f"No slice is labelled {name}: the class is left out of the macro figures."
        for name, of in labelled.items()
        if not of.any()
    ]
