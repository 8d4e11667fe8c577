"""``groundglass aggregate``: choose on labelled patients how the answers of slices become a patient's answer."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from groundglass.bundle.facts import Choice
from groundglass.commands.evaluate import Labelled, choose_rows, predict_rows
from groundglass.detect.abstention import COVERAGE, Abstention
from groundglass.detect.bundle import Bundle
from groundglass.detect.detector import Detector
from groundglass.detect.patient_rule import (
    AGGREGATIONS,
    LESION_FEATURES,
    PatientRule,
    features,
)
from groundglass.errors import GroundglassError
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
from groundglass.evaluation.predictions import read_predictions
from groundglass.evaluation.recalibration import LabelledAnswers, choose_and_validate
from groundglass.files import write_json
from groundglass.labels import LUNG_AREAS, POSITIVE
from groundglass.report.page import Report, Table, bundle_table, write_report

FEWEST = 20
"""Fewer patients of a class than this choose nothing."""

OF_LESIONS = {name: parts for name, parts in AGGREGATIONS.items() if set(parts) <= LESION_FEATURES}
"""Aggregations that hold for every network beside the same segmenter."""

COLUMNS = ("aggregation", "features", "log loss, standard error", "ROC AUC")


@dataclass(frozen=True)
class Aggregation:
    """What was chosen: the rule, and the candidates that it was chosen among, simplest first."""

    rule: PatientRule
    candidates: list[CandidateModel]
    patients: int
    positive: int
    left_out: int


@dataclass(frozen=True, eq=False)
class _Patients:
    """Features of patients, a row each, with their labels; ``left_out`` had too few slices with lungs."""

    table: pd.DataFrame
    positive: NDArray[np.bool_]
    left_out: int


def aggregate(
    detector: Detector,
    dataset: str,
    folder: Path,
    *,
    part: str | None = None,
    least_slices: int = 5,
    seed: int = 0,
    coverage: float | None = COVERAGE,
    record: Bundle | None = None,
) -> Aggregation:
    """Choose an aggregation and fit it.

    Every aggregation is fitted as a logistic function of its features and judged by cross-validation over
    patients; the simplest good one is taken (groundglass.evaluation.logistic_choice).

    Parameters
    ----------
    detector
        One that has a segmenter.
    dataset
        Labelled slices with patients, or groups that stand for them; best none that the detector was trained on.
    folder
        Where to write ``aggregation.json`` and ``report.html``.
    part
        Of the dataset; by default an external one whole, and of its own the validation part.
    least_slices
        Patients with fewer slices that show lungs are left out: the rule is for volumes.
    seed
        Draws the folds.
    coverage
        The share of each class whose right answer shall stay possible: the rule says ``uncertain`` where that needs
        it (groundglass.detect.abstention), as the out-of-fold answers tell. None has it answer always.
    record
        A bundle to enter the rule into, with its card: the detector's own, or that of one which was trained in
        the same way on more sources, this one among them. Another network's logits lie elsewhere, so that only
        aggregations of lesions alone are candidates then.

    Raises
    ------
    GroundglassError
        If the detector has no segmenter, the part is the detector's own test part, or there are too few patients.
    """
    if record is not None:
        record.check_enterable()
        _check_same_lesions(record, detector.bundle)
    labelled = _rows(detector, dataset, part)
    patients = _patients(detector, labelled, folder, least_slices)
    shared = record is None or record.source == detector.bundle.source
    candidates = evaluate_candidates(
        patients.table, patients.positive, AGGREGATIONS if shared else OF_LESIONS, seed
    )
    chosen = simplest_good(candidates)
    rule = _fitted(chosen, patients, labelled, least_slices, seed)
    if coverage is not None:
        rule = rule.model_copy(update={"abstention": _abstention(chosen, patients, coverage, seed)})
    result = Aggregation(
        rule, candidates, len(patients.positive), int(patients.positive.sum()), patients.left_out
    )
    write_json(folder / "aggregation.json", _document(detector, labelled, result))
    write_report(_report(detector, labelled, result), folder / "report.html")
    if record is not None:
        record.enter(patient=rule)
    return result


def _check_same_lesions(record: Bundle, own: Bundle) -> None:
    if record.facts.segmenter_sha256 != own.facts.segmenter_sha256:
        raise GroundglassError(
            f"{record.source}: its segmenter is not {own.facts.name}'s, so that its lesion shares are others; "
            "choose the rule by a detector with the same"
        )


def _rows(detector: Detector, dataset: str, part: str | None) -> Labelled:
    if detector.segmenter is None:
        raise GroundglassError("aggregating needs the lungs of each slice: load the detector with its lungs")
    bundle = detector.bundle
    labelled = choose_rows(bundle, dataset, part)
    if labelled.external:
        return labelled
    if part is None:
        labelled = choose_rows(bundle, dataset, "val")
    if labelled.part in ("test", "all"):
        raise GroundglassError(
            f"{dataset}: its test part is for one look at the end, and chooses nothing; name --part val"
        )
    return labelled


def _patients(detector: Detector, labelled: Labelled, folder: Path, least_slices: int) -> _Patients:
    predict_rows(detector, labelled.rows, folder / "predictions.csv", labelled.name)
    slices = read_predictions(folder / "predictions.csv")
    units = slices["group"].where(slices["group"] != "", slices["path"])
    bearing = slices[(slices[list(LUNG_AREAS[:2])].sum(axis=1) > 0).to_numpy(dtype=bool)]
    if bearing.empty:
        raise GroundglassError(f"{labelled.name}: lungs were found on none of its slices")
    table, positive = [], []
    for _, of_one in bearing.groupby(units, sort=True):
        if len(of_one) >= least_slices:
            table.append(features(lung_slices(of_one)))
            positive.append(bool((of_one["label"] == POSITIVE).any()))
    truth = np.array(positive, dtype=bool)
    if min(truth.sum(), (~truth).sum()) < FEWEST:
        raise GroundglassError(
            f"{labelled.name}: {int(truth.sum())} patients with and {int((~truth).sum())} without COVID-19 have "
            f"{least_slices} slices or more that show lungs; at least {FEWEST} of each are needed"
        )
    return _Patients(pd.DataFrame(table), truth, units.nunique() - len(truth))


def _fitted(
    chosen: CandidateModel, patients: _Patients, labelled: Labelled, least_slices: int, seed: int
) -> PatientRule:
    values = patients.table[list(chosen.features)].to_numpy()
    weights, intercept = fit_logistic(values, patients.positive)
    unit_names = [str(number) for number in range(len(values))]
    threshold = choose_threshold(
        patients.positive, chosen.out_of_fold, unit_names, criterion="balanced_accuracy", seed=seed
    )
    right = (chosen.out_of_fold >= threshold) == patients.positive
    source = f"{labelled.name}, {labelled.part}" + ("" if labelled.external else ", of the training dataset")
    return PatientRule(
        aggregation=chosen.name,
        weights={name: float(weight) for name, weight in zip(chosen.features, weights, strict=True)},
        intercept=intercept,
        threshold=threshold,
        chosen=(
            Choice(
                what="aggregation, its calibration and threshold",
                values={
                    "patients or groups": len(values),
                    "with COVID-19": int(patients.positive.sum()),
                    "slices with lungs at least": least_slices,
                },
                criterion=f"log loss by {REPEATS} times {FOLDS}-fold cross-validation",
                data=f"{source}, fingerprint {labelled.fingerprint}",
            ),
            Choice(
                what="out of fold on the same patients",
                values={
                    "ROC AUC": chosen.auc,
                    "log loss": chosen.loss,
                    "accuracy": float(right.mean()),
                    "sensitivity": float(right[patients.positive].mean()),
                    "specificity": float(right[~patients.positive].mean()),
                },
                criterion="the threshold was chosen on the same answers",
            ),
        ),
    )


def _abstention(chosen: CandidateModel, patients: _Patients, coverage: float, seed: int) -> Abstention:
    count = len(patients.positive)
    nowhere = np.full(count, "", dtype=object)
    answers = LabelledAnswers(patients.positive, chosen.out_of_fold, np.arange(count), nowhere)
    origin = f"the same {count} patients or groups, by their out-of-fold answers"
    return choose_and_validate(answers, coverage, origin, seed)[0]


def rows_of(result: Aggregation) -> list[tuple[str, str, str, str]]:
    """The candidates as a table."""
    return [
        (
            one.name + (" (chosen)" if one.name == result.rule.aggregation else ""),
            ", ".join(one.features),
            f"{one.loss:.3f} ± {one.loss_error:.3f}",
            f"{one.auc:.3f}",
        )
        for one in result.candidates
    ]


def _document(detector: Detector, labelled: Labelled, result: Aggregation) -> dict[str, object]:
    facts = detector.bundle.facts
    return {
        "bundle": {"name": facts.name, "graph_sha256": facts.graph_sha256},
        "dataset": labelled.name,
        "part": labelled.part,
        "external": labelled.external,
        "fingerprint": labelled.fingerprint,
        "patients": result.patients,
        "positive": result.positive,
        "left_out": result.left_out,
        "rule": result.rule.model_dump(),
        "candidates": [
            {key: value for key, value in asdict(one).items() if key != "out_of_fold"}
            for one in result.candidates
        ],
    }


def _report(detector: Detector, labelled: Labelled, result: Aggregation) -> Report:
    rule = result.rule
    called = rule.abstention.ends() if rule.abstention else f"covid from {rule.threshold:.2f} on"
    weights = [(name, f"{weight:.4f}") for name, weight in rule.weights.items()]
    return Report(
        title=f"From slices to patients: {detector.bundle.facts.name} on {labelled.name}",
        headline=f"Chosen: {rule.aggregation}, a patient being called {called}.",
        warnings=[
            f"{result.patients} patients or groups ({result.positive} with COVID-19) chose; {result.left_out} had "
            "too few slices with lungs. Figures of patients on this data are too good from now on.",
            *([rule.abstention.meaning("patients")] if rule.abstention else []),
            *labelled.warnings,
        ],
        tables_title="The aggregations, on patients that they were not fitted on",
        figures_of_merit=[
            Table(
                "", COLUMNS, rows_of(result), "The simplest within one standard error of the best is taken."
            )
        ],
        facts=[
            Table("The rule", (), [*weights, ("intercept", f"{rule.intercept:.4f}"), *_lines(rule)]),
            bundle_table(detector.bundle.facts),
        ],
    )


def _lines(rule: PatientRule) -> list[tuple[str, str]]:
    lines = [("threshold", f"{rule.threshold:.4f}"), *[("chosen", str(choice)) for choice in rule.chosen]]
    abstention = rule.abstention
    if abstention is None:
        return lines
    return [
        *lines,
        ("verdict", abstention.ends()),
        *[("uncertain", str(choice)) for choice in abstention.chosen],
    ]
