"""Metrics with intervals from predictions, for slices and for patients."""

import numpy as np
import pandas as pd

from groundglass.bundle.evaluation import METRICS, Confusion, Evaluation, ResampledBy, Unit
from groundglass.detect.patient_rule import LungSlices, PatientRule, shows_chest
from groundglass.errors import GroundglassError, count_of
from groundglass.evaluation.bootstrap import (
    WeightedMetrics,
    check_bootstrap,
    estimates,
    notes_on_metrics,
    notes_on_units,
    resample,
)
from groundglass.evaluation.predictions import (
    COLUMNS,
    check_predictions,
    truth_of,
    unit_codes,
)
from groundglass.labels import LUNG_AREAS, NEGATIVE, NOT_A_CHEST_CT, POSITIVE, UNCERTAIN

MEAN_OF_SLICES = "mean of the slices' probabilities"


def evaluate(
    predictions: pd.DataFrame,
    *,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
    unit: Unit = "slice",
) -> Evaluation:
    """Compute all metrics with their intervals.

    Sensitivity and the like use the verdicts given; AUC, Brier and ECE use the calibrated probability of all
    rows, answered or not. Intervals are percentiles of a bootstrap by ``group``; if that is blank, by
    ``patient``; if both are blank, by slice.

    Parameters
    ----------
    predictions
        As :func:`~groundglass.evaluation.predictions.read_predictions` gives them.
    resamples, confidence, seed
        Settings of the bootstrap; the same seed gives the same intervals.
    unit
        What a row is: a slice, or a patient if ``predictions`` comes from :func:`by_patient`.

    Raises
    ------
    GroundglassError
        If there are no rows, a label is blank or a value is invalid.
    """
    check_bootstrap(resamples, confidence)
    frame = check_predictions(predictions)
    truth = truth_of(frame)
    groups = resampling_groups(frame)
    units = unit_codes(groups)
    resampled_by = kind_of_units(frame, groups)
    probability = frame["probability"].to_numpy()
    computed = WeightedMetrics(truth, probability, frame["verdict"].to_numpy(dtype=object))
    once = np.ones((1, len(frame)))
    values = {name: float(value[0]) for name, value in computed(once).items()}
    resampled = resample(computed, units, resamples, seed)
    tp, fp, fn, tn = (int(number) for number in computed.confusion(once)[0])
    return Evaluation(
        unit=unit,
        count=len(frame),
        positives=int(truth.sum()),
        groups=int(units.max()) + 1,
        resampled_by=resampled_by,
        resamples=resamples,
        confidence=confidence,
        seed=seed,
        metrics=estimates(METRICS, values, resampled, confidence),
        confusion=Confusion(true_positive=tp, false_positive=fp, false_negative=fn, true_negative=tn),
        notes=(
            *notes_on_rows(frame, groups, unit),
            *notes_on_units({POSITIVE: truth, NEGATIVE: ~truth}, units, resampled_by),
            *notes_on_metrics(METRICS, values, resampled),
        ),
    )


def evaluate_patients(
    predictions: pd.DataFrame,
    threshold: float,
    rule: PatientRule | None = None,
    *,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Evaluation:
    """Evaluate patients instead of slices: :func:`evaluate` of :func:`by_patient`.

    The result's ``aggregation`` and notes say how slices became patients, how many slices name no patient, and how
    many patients have slices of both labels.
    """
    patients = by_patient(predictions, threshold, rule)
    evaluation = evaluate(patients, resamples=resamples, confidence=confidence, seed=seed, unit="patient")
    aggregation, *notes = aggregation_notes(predictions, rule)
    notes = [f"Patients' answers come from the {aggregation}.", *notes]
    left_out = len(predictions) - int(patients["slices"].sum())
    if left_out:
        notes.append(
            f"No patient is named for {left_out} of {len(predictions)} slices, which do not count here."
        )
    mixed = int(patients["mixed_labels"].sum())
    if mixed:
        notes.append(f"{count_of(mixed, 'patient')} with slices of both labels counted as {POSITIVE}.")
    return evaluation.model_copy(update={"aggregation": aggregation, "notes": (*notes, *evaluation.notes)})


def aggregation_notes(predictions: pd.DataFrame, rule: PatientRule | None) -> list[str]:
    """How answers for patients are made, then notes for the reader; parameters as in :func:`by_patient`."""
    if rule is None:
        return [f"{MEAN_OF_SLICES} (no detector with a patient rule is known)"]
    named = predictions[predictions["patient"] != ""]
    without = named["patient"].nunique() - len(patients_with_areas(named))
    if without == named["patient"].nunique():
        return [f"{MEAN_OF_SLICES} (the predictions have no lung areas, which the patient rule needs)"]
    rest = f"{count_of(without, 'patient')} without lung areas: answer from the {MEAN_OF_SLICES}."
    return [f"detector's patient rule, {rule.aggregation}", *([rest] if without else [])]


def by_patient(predictions: pd.DataFrame, threshold: float, rule: PatientRule | None = None) -> pd.DataFrame:
    """Aggregate slices to patients.

    With a ``rule``, a patient whose slices all have lung areas gets the answer that ``groundglass predict``
    gives for a volume: probability, verdict and abstention come from the rule, each slice has the same
    weight, and too few slices with lungs give NOT_A_CHEST_CT. The score is then the probability.

    Other patients get the mean score and probability of their slices, without those that are not a chest CT
    unless all are. Their verdict is POSITIVE at or above ``threshold``, else NEGATIVE; NOT_A_CHEST_CT if all
    slices are; UNCERTAIN if none of the rest is answered. A patient is labelled POSITIVE if any slice is.

    Returns
    -------
    Predictions, one row per patient in order of first appearance, with two more columns: ``slices``, their
    number, and ``mixed_labels``, whether some are POSITIVE and some are not. ``path`` and ``group`` are those
    of the first slice. Slices that name no patient are left out.

    Raises
    ------
    GroundglassError
        If no slice names its patient.
    """
    frame = predictions[predictions["patient"] != ""]
    if frame.empty:
        raise GroundglassError(
            "no slice names its patient: fill the column patient to get figures by patient"
        )
    chest = frame["verdict"] != NOT_A_CHEST_CT
    any_chest = chest.groupby(frame["patient"]).transform("any")
    means = frame[chest | ~any_chest].groupby("patient")[["score", "probability"]].mean()
    answers = pd.Series(np.where(means["probability"] >= threshold, POSITIVE, NEGATIVE), index=means.index)
    patients = frame.groupby("patient", sort=False).agg(
        path=("path", "first"), group=("group", "first"), slices=("path", "size")
    )
    patients = patients.join(means).join(_patient_labels(frame))
    said = pd.DataFrame({"chest": chest, "answered": frame["verdict"].isin((POSITIVE, NEGATIVE))})
    some = said.groupby(frame["patient"]).any()
    patients["verdict"] = answers.where(some["answered"], UNCERTAIN).where(some["chest"], NOT_A_CHEST_CT)
    if rule is not None:
        for name, slices in patients_with_areas(frame).items():
            bearing = slices[(slices[list(LUNG_AREAS[:2])].sum(axis=1) > 0).to_numpy(dtype=bool)]
            if shows_chest(len(bearing), len(slices)):
                probability, verdict, _ = rule.answer(lung_slices(bearing))
                patients.loc[name, ["score", "probability"]] = probability
                patients.loc[name, "verdict"] = verdict
            else:
                patients.loc[name, "verdict"] = NOT_A_CHEST_CT
    return patients.reset_index()[[*COLUMNS, "slices", "mixed_labels"]]


def patients_with_areas(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The slices of each patient for whom all slices have lung areas."""
    if not set(LUNG_AREAS) <= set(frame.columns):
        return {}
    return {
        str(name): slices
        for name, slices in frame[frame["patient"] != ""].groupby("patient", sort=False)
        if slices[list(LUNG_AREAS)].notna().all(axis=None)
    }


def lung_slices(bearing: pd.DataFrame) -> LungSlices:
    """Slices that show lungs, in the patient rule's form, from a table with ``LUNG_AREAS``; all have equal
    weight."""
    return LungSlices(
        bearing["probability"].to_numpy(dtype=float),
        bearing[list(LUNG_AREAS[:2])].to_numpy(dtype=float),
        bearing[list(LUNG_AREAS[2:])].to_numpy(dtype=float),
        np.ones(len(bearing)),
    )


def _patient_labels(frame: pd.DataFrame) -> pd.DataFrame:
    """``label`` and ``mixed_labels`` by patient."""
    # The first label decides: any positive, else a blank one, which leaves the patient unlabelled.
    rank = frame["label"].map({POSITIVE: 0, "": 1}).fillna(2)
    ranked = frame.assign(rank=rank).sort_values("rank", kind="stable").groupby("patient")
    mixed = (ranked["rank"].min() == 0) & (ranked["rank"].max() == 2)
    return pd.DataFrame({"label": ranked["label"].first(), "mixed_labels": mixed})


def resampling_groups(predictions: pd.DataFrame) -> "pd.Series[str]":
    """The group of each slice: ``group``, or ``patient`` where that is blank; blank where both are."""
    return predictions["group"].where(predictions["group"] != "", predictions["patient"])


def kind_of_units(frame: pd.DataFrame, groups: "pd.Series[str]") -> ResampledBy:
    """What the ``groups`` of :func:`resampling_groups` are."""
    if (groups == "").all():
        return "slice"
    return "patient" if (groups == frame["patient"]).all() and (groups != "").all() else "group"


def notes_on_rows(
    frame: pd.DataFrame, groups: "pd.Series[str]", unit: Unit, needed: str = "a positive or negative verdict"
) -> list[str]:
    """Notes on rows without the answer that is ``needed``, and on rows without patient and group."""
    notes = []
    of_all = f"of {count_of(len(frame), unit)}"
    verdicts = frame["verdict"].value_counts()
    silent = [f"{verdicts[name]} {name}" for name in (UNCERTAIN, NOT_A_CHEST_CT) if name in verdicts]
    if silent:
        notes.append(f"{' and '.join(silent)} {of_all}: not counted in the figures that need {needed}.")
    alone = int((groups == "").sum())
    if alone:
        notes.append(
            f"No patient or group is named for {alone} {of_all}: the intervals treat each {unit} as a separate "
            "patient and are too narrow."
        )
    return notes
