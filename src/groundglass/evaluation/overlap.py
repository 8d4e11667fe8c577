"""Metrics of how well predicted masks of lungs and lesions overlap the true ones, by case.

A case is a patient or a volume. Its slices are similar, so they are first summed by case, and the intervals
resample whole cases. On the choice of metrics: Maier-Hein et al. 2024, Metrics reloaded, doi
10.1038/s41592-023-02151-z; their definitions: Taha & Hanbury 2015, doi 10.1186/s12880-015-0068-x.
"""

from typing import Any

import numpy as np
import pandas as pd

from groundglass.bundle.evaluation import OVERLAP_METRICS, Overlap, OverlapEvaluation
from groundglass.errors import count_of
from groundglass.evaluation.bootstrap import (
    FEW_UNITS,
    Floats,
    check_bootstrap,
    estimates,
    notes_on_metrics,
    ratio,
    resample,
)
from groundglass.evaluation.predictions import STRUCTURES, check_overlaps

Key = tuple[str, str]
"""Part and metric."""


def by_case(frame: pd.DataFrame) -> pd.DataFrame:
    """Sum slices by case.

    Returns
    -------
    A row per case and structure, in order of first appearance: ``case, structure``; ``slices``; ``true_px``,
    ``predicted_px``, ``common_px``, sums over the slices; ``dice``, of these sums, 1 if both masks are empty;
    ``slice_dice``, mean over the slices; ``hd95``, mean over the ``hd95_slices`` in which neither mask is
    empty, in pixels of the slice; ``sensitivity`` and ``precision``. NaN if undefined.
    """
    grouped = frame.assign(slice_dice=_dice(frame)).groupby(["case", "structure"], sort=False)
    cases = grouped.agg(
        slices=("path", "size"),
        true_px=("true_px", "sum"),
        predicted_px=("predicted_px", "sum"),
        common_px=("common_px", "sum"),
        slice_dice=("slice_dice", "mean"),
        hd95=("hd95", "mean"),
        hd95_slices=("hd95", "count"),
    ).reset_index()
    cases.insert(6, "dice", _dice(cases))
    for name, whole in (("sensitivity", "true_px"), ("precision", "predicted_px")):
        cases[name] = cases["common_px"] / cases[whole].where(cases[whole] > 0)
    return cases


def _dice(counts: pd.DataFrame) -> Floats:
    """Dice of each row; 1 if both masks are empty, since they agree."""
    both = (counts["true_px"] + counts["predicted_px"]).to_numpy(dtype=float)
    return ratio(2 * counts["common_px"].to_numpy(dtype=float), both, empty=1.0)


def lesion_shares(frame: pd.DataFrame) -> pd.DataFrame:
    """The lesions' share of the lungs, by case.

    Returns
    -------
    A row per case, in order of first appearance, from the slices that have both structures: ``case``;
    ``slices``; ``true_share`` and ``predicted_share``, lesion pixels / lung pixels, NaN if the lung mask is
    empty.
    """
    lungs, lesions = (frame[frame["structure"] == name] for name in ("lungs", "lesions"))
    paired = lungs.merge(lesions, on=["case", "path"], suffixes=("_lungs", "_lesions"))
    sums = paired.groupby("case", sort=False)
    shares = sums.agg(slices=("path", "size"))
    for kind in ("true", "predicted"):
        lung = sums[f"{kind}_px_lungs"].sum()
        shares[f"{kind}_share"] = sums[f"{kind}_px_lesions"].sum() / lung.where(lung > 0)
    return shares.reset_index()


def evaluate_overlap(
    frame: pd.DataFrame, *, resamples: int = 2000, confidence: float = 0.95, seed: int = 0
) -> OverlapEvaluation:
    """Compute all metrics with their intervals, percentiles of a bootstrap over cases.

    Parameters
    ----------
    frame
        As :func:`groundglass.evaluation.predictions.read_overlaps` gives it.
    resamples, confidence, seed
        Settings of the bootstrap; the same seed gives the same intervals.

    Raises
    ------
    GroundglassError
        As :func:`check_overlaps`, or if ``resamples`` or ``confidence`` is out of range.
    """
    check_bootstrap(resamples, confidence)
    checked = check_overlaps(frame)
    table, shares = by_case(checked), lesion_shares(checked)
    names = pd.Index(checked["case"].unique())
    tables = {name: table[table["structure"] == name] for name in STRUCTURES} | {"lesion_share": shares}
    tables = {name: rows for name, rows in tables.items() if len(rows)}
    fractions = {
        (part, metric): fraction
        for part, rows in tables.items()
        for metric, fraction in _fractions(part, rows.set_index("case").reindex(names)).items()
    }
    values, resampled = _resample(fractions, resamples, seed)
    by_key = estimates(fractions, values, resampled, confidence)
    metrics = {(part, name): OVERLAP_METRICS[part][name] for part, name in fractions}
    return OverlapEvaluation(
        cases=len(names),
        slices=checked["path"].nunique(),
        resamples=resamples,
        confidence=confidence,
        seed=seed,
        parts={
            part: Overlap(
                cases=len(rows),
                slices=int(rows["slices"].sum()),
                metrics={metric: by_key[part, metric] for metric in OVERLAP_METRICS[part]},
            )
            for part, rows in tables.items()
        },
        notes=(
            *_notes_on_cases(tables, len(names)),
            *(note for name in STRUCTURES for note in _notes_on_structure(name, checked, table)),
            *_notes_on_shares(table, shares),
            *notes_on_metrics(metrics, values, resampled),
        ),
    )


def _fractions(part: str, of: pd.DataFrame) -> dict[str, tuple[Floats, Floats]]:
    """Each case's numerator and denominator; a metric is sum over sum. 0 and 0 if it has none."""
    if part == "lesion_share":
        error = of["predicted_share"] - of["true_share"]
        return {"mean_absolute_error": _of_mean(error.abs()), "bias": _of_mean(error)}
    sums = {
        "pooled_dice": (2 * of["common_px"], of["true_px"] + of["predicted_px"]),
        "slice_dice": (of["slice_dice"] * of["slices"], of["slices"]),
    }
    means = {name: _of_mean(of[name]) for name in ("dice", "hd95", "sensitivity", "precision")}
    return means | {name: (_filled(top), _filled(bottom)) for name, (top, bottom) in sums.items()}


def _of_mean(values: "pd.Series[float]") -> tuple[Floats, Floats]:
    return _filled(values), _filled(values.notna())


def _filled(values: "pd.Series[Any]") -> Floats:
    return values.fillna(0).to_numpy(dtype=np.float64)


def _resample(
    fractions: dict[Key, tuple[Floats, Floats]], resamples: int, seed: int
) -> tuple[dict[Key, float], dict[Key, Floats]]:
    """Metrics and their resampled values; metrics that only one case defines have none."""
    top, bottom = (np.column_stack(columns) for columns in zip(*fractions.values(), strict=True))
    values = ratio(top.sum(axis=0), bottom.sum(axis=0))

    def computed(weights: Floats) -> dict[Key, Floats]:
        return dict(zip(fractions, ratio(weights @ top, weights @ bottom).T, strict=True))

    resampled = resample(computed, np.arange(len(top)), resamples, seed)
    several = np.count_nonzero(bottom, axis=0) > 1
    return dict(zip(fractions, values.tolist(), strict=True)), {
        key: drawn if has_several else drawn[:0]
        for (key, drawn), has_several in zip(resampled.items(), several, strict=True)
    }


def _notes_on_cases(tables: dict[str, pd.DataFrame], cases: int) -> list[str]:
    if cases == 1:
        return ["All slices are of one case: no interval can be given."]
    if cases < FEW_UNITS:
        return [f"Only {cases} cases: intervals from so few are rough."]
    return [
        f"Only {count_of(len(tables[name]), 'case')} with masks of {name}: intervals from so few are rough."
        for name in STRUCTURES
        if name in tables and len(tables[name]) < FEW_UNITS
    ]


def _notes_on_structure(name: str, checked: pd.DataFrame, table: pd.DataFrame) -> list[str]:
    """What the means of a structure leave out, or count by rule."""
    slices, cases = checked[checked["structure"] == name], table[table["structure"] == name]
    true, predicted = slices["true_px"] > 0, slices["predicted_px"] > 0
    reasons = {
        f"without {name} in either mask": ~true & ~predicted,
        "where all are missed": true & ~predicted,
        "where there are none to find": ~true & predicted,
    }
    listed = ", ".join(f"{which.sum()} {reason}" for reason, which in reasons.items() if which.any())
    of_all, of_slices = f"of {count_of(len(cases), 'case')}", f"of {count_of(len(slices), 'slice')}"
    absent, silent = (int((cases[column] == 0).sum()) for column in ("true_px", "predicted_px"))
    notes = {
        f"HD95 of {name} leaves out {slices['hd95'].isna().sum()} {of_slices}: {listed}.": listed,
        f"Without true {name}: {absent} {of_all}. The Dice of such a case is 1 if none are predicted, else 0; it "
        "is left out of sensitivity.": absent,
        f"Without predicted {name}, and left out of precision: {silent} {of_all}.": silent,
    }
    return [note for note, applies in notes.items() if applies]


def _notes_on_shares(table: pd.DataFrame, shares: pd.DataFrame) -> list[str]:
    if shares.empty:
        return []
    cases = table["case"].nunique() - len(shares.dropna())
    slices = int(table["slices"].sum()) - 2 * int(shares["slices"].sum())
    notes = {
        f"The lesion share leaves out {count_of(slices, 'slice')} with one structure only.": slices,
        f"The lesion share leaves out {count_of(cases, 'case')} without lungs to compare with.": cases,
    }
    return [note for note, applies in notes.items() if applies]
