"""Choose, on labelled patients, how the answers for slices become a patient's answer."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from groundglass.bundle.facts import Choice
from groundglass.detect.abstention import Abstention
from groundglass.detect.patient_rule import AGGREGATIONS, LESION_FEATURES, PatientRule, features
from groundglass.errors import GroundglassError, count_of
from groundglass.evaluation.logistic_choice import (
    FOLDS,
    REPEATS,
    CandidateModel,
    evaluate_candidates,
    fit_logistic,
    simplest_good,
)
from groundglass.evaluation.metrics import lung_slices
from groundglass.evaluation.operating_point import choose_threshold
from groundglass.evaluation.recalibration import DRAWS, LabelledAnswers, choose_and_validate
from groundglass.labels import LUNG_AREAS, POSITIVE

FEWEST = 20
"""Smallest number of patients of each class for choosing a rule."""

OF_LESIONS = {name: parts for name, parts in AGGREGATIONS.items() if set(parts) <= LESION_FEATURES}
"""Aggregations that are valid for every network with the same segmenter."""


@dataclass(frozen=True, eq=False)
class LabelledPatients:
    """Features of patients with their labels.

    Attributes
    ----------
    table
        A row for each patient or group, a column for each feature.
    positive
        Whether each has COVID-19: bool, shape (patients,).
    left_out
        How many patients were left out because too few slices show lungs.
    least_slices
        The minimum number of such slices.
    """

    table: pd.DataFrame
    positive: NDArray[np.bool_]
    left_out: int
    least_slices: int

    @classmethod
    def of_predictions(cls, slices: pd.DataFrame, least_slices: int, name: str) -> "LabelledPatients":
        """The patients in a table of labelled predictions; ``name`` is the dataset's name, for errors.

        Raises
        ------
        GroundglassError
            If no slice shows lungs, or there are fewer than :data:`FEWEST` patients of a class.
        """
        units = slices["group"].where(slices["group"] != "", slices["path"])
        bearing = slices[(slices[list(LUNG_AREAS[:2])].sum(axis=1) > 0).to_numpy(dtype=bool)]
        if bearing.empty:
            raise GroundglassError(f"{name}: lungs were found on none of its slices")
        patients = [rows for _, rows in bearing.groupby(units, sort=True) if len(rows) >= least_slices]
        positive = np.array([(rows["label"] == POSITIVE).any() for rows in patients], dtype=bool)
        if min(positive.sum(), (~positive).sum()) < FEWEST:
            raise GroundglassError(
                f"{name}: {count_of(int(positive.sum()), 'patient')} with COVID-19 and "
                f"{int((~positive).sum())} without have at least {least_slices} slices that show lungs; at least "
                f"{FEWEST} of each are needed"
            )
        table = pd.DataFrame([features(lung_slices(rows)) for rows in patients])
        return cls(table, positive, units.nunique() - len(patients), least_slices)


@dataclass(frozen=True)
class Aggregation:
    """The chosen rule, the candidates, simplest first, and the patients it was chosen on."""

    rule: PatientRule
    candidates: list[CandidateModel]
    patients: LabelledPatients

    @property
    def counts(self) -> dict[str, int]:
        """How many patients were used, how many of them have COVID-19, and how many were left out."""
        positive = self.patients.positive
        return {
            "patients": len(positive),
            "positive": int(positive.sum()),
            "left_out": self.patients.left_out,
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        candidates = [asdict(one) for one in self.candidates]
        for one in candidates:
            del one["out_of_fold"]
        return {**self.counts, "rule": self.rule.model_dump(), "candidates": candidates}

    def rows(self) -> list[tuple[str, str, str, str]]:
        """Name, features, log loss with its standard error and ROC AUC of each candidate, as text."""
        return [
            (
                one.name + (" (chosen)" if one.name == self.rule.aggregation else ""),
                ", ".join(one.features),
                f"{one.loss:.3f} ± {one.loss_error:.3f}",
                f"{one.auc:.3f}",
            )
            for one in self.candidates
        ]


def choose_rule(
    patients: LabelledPatients, origin: str, *, lesions_only: bool, coverage: float | None, seed: int
) -> Aggregation:
    """Choose an aggregation and fit it.

    Every aggregation is fitted as a logistic function of its features and evaluated by cross-validation over
    patients. The simplest good one is chosen (groundglass.evaluation.logistic_choice).

    Parameters
    ----------
    patients
        The patients to choose on.
    origin
        Where they come from, for the rule's record.
    lesions_only
        Consider only aggregations of lesions.
    coverage
        The share of each class for which the correct answer must remain possible; None never answers ``uncertain``.
    seed
        Draws the folds.
    """
    candidates = evaluate_candidates(
        patients.table, patients.positive, OF_LESIONS if lesions_only else AGGREGATIONS, seed
    )
    chosen = simplest_good(candidates)
    rule = _fitted(chosen, patients, origin, seed)
    if coverage is not None:
        rule = rule.model_copy(update={"abstention": _abstention(chosen, patients, coverage, seed)})
    return Aggregation(rule, candidates, patients)


def _fitted(chosen: CandidateModel, patients: LabelledPatients, origin: str, seed: int) -> PatientRule:
    positive, answers = patients.positive, chosen.out_of_fold
    weights, intercept = fit_logistic(patients.table[list(chosen.features)].to_numpy(), positive)
    units = [str(number) for number in range(len(positive))]
    threshold = choose_threshold(positive, answers, units, criterion="balanced_accuracy", seed=seed)
    right = (answers >= threshold) == positive
    return PatientRule(
        aggregation=chosen.name,
        weights={name: float(weight) for name, weight in zip(chosen.features, weights, strict=True)},
        intercept=intercept,
        threshold=threshold,
        draws=_draws(patients.table[list(chosen.features)].to_numpy(), positive, seed),
        chosen=(
            Choice(
                what="aggregation, its calibration and threshold",
                values={
                    "patients or groups": len(positive),
                    "with COVID-19": int(positive.sum()),
                    "slices with lungs at least": patients.least_slices,
                },
                criterion=f"log loss by {REPEATS} times {FOLDS}-fold cross-validation",
                data=origin,
            ),
            Choice(
                what="out of fold on the same patients",
                values={
                    "ROC AUC": chosen.auc,
                    "log loss": chosen.loss,
                    "accuracy": float(right.mean()),
                    "sensitivity": float(right[positive].mean()),
                    "specificity": float(right[~positive].mean()),
                },
                criterion="the threshold was chosen on the same answers",
            ),
        ),
    )


def _draws(
    values: NDArray[np.float64], positive: NDArray[np.bool_], seed: int
) -> tuple[tuple[float, ...], ...]:
    """Intercept and weights by bootstrap resamples of the patients, within each class."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(DRAWS):
        drawn = np.concatenate(
            [random.choice(np.flatnonzero(positive == one), (positive == one).sum()) for one in (0, 1)]
        )
        weights, intercept = fit_logistic(values[drawn], positive[drawn])
        found.append(tuple(round(float(one), 4) for one in (intercept, *weights)))
    return tuple(found)


def _abstention(chosen: CandidateModel, patients: LabelledPatients, coverage: float, seed: int) -> Abstention:
    count = len(patients.positive)
    answers = LabelledAnswers(
        patients.positive, chosen.out_of_fold, np.arange(count), np.full(count, "", dtype=object)
    )
    origin = f"the same {count} patients or groups, by their out-of-fold answers"
    return choose_and_validate(answers, coverage, origin, seed)[0]
