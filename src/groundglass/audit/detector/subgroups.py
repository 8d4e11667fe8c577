"""GG209: how a detector performs on each subgroup of the slices, compared with all other slices."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from groundglass.audit.check import NOTHING, Check, NotApplicable, Result, Severity
from groundglass.audit.material import Material
from groundglass.audit.trial import Trial
from groundglass.bundle.evaluation import Estimate, Evaluation
from groundglass.evaluation.bootstrap import Floats, Ranking, estimate, ratio, resample
from groundglass.evaluation.metrics import evaluate, evaluate_patients
from groundglass.labels import NEGATIVE, POSITIVE

Mask = NDArray[np.bool_]

RESAMPLES = 2000
LEAST = 20
"""A subgroup with fewer slices is not evaluated."""
LEAST_UNITS = 5
"""With fewer patients or groups of a class, an interval of the AUC is meaningless."""
ALPHA = 0.05
"""Chance that any interval fails, divided among the subsets (Bonferroni)."""


@dataclass(frozen=True)
class Subset:
    """The detector's performance on a subset and on the other slices.

    Attributes
    ----------
    auc, accuracy
        On the subset; accuracy on the slices that were answered.
    others
        AUC on the other slices.
    more
        AUC on the subset minus the AUC on the remaining slices, paired in each resample.
    """

    auc: Estimate
    accuracy: Estimate
    others: Estimate
    more: Estimate

    @property
    def surely_lower(self) -> bool:
        """Whether the whole AUC interval is below that of the remaining slices."""
        high, low = self.auc.high, self.others.low
        return high is not None and low is not None and high < low


def confidence_for(subsets: int) -> float:
    """The confidence of each interval, so that all hold together with 95% confidence."""
    return 1 - ALPHA / max(1, subsets)


def why_not(truth: Mask, units: NDArray[np.intp], within: Mask) -> str:
    """Why a subset is not evaluated, "" if it is; parameters as in :func:`compare`."""
    if within.sum() < LEAST:
        return f"under {LEAST} slices"
    for name, part in (("", within), ("the other slices: ", ~within)):
        fewest = min(len(np.unique(units[part & (truth == label)])) for label in (True, False))
        if fewest < LEAST_UNITS:
            return name + (f"a class of {fewest} patients or groups" if fewest else "one class")
    return ""


def compare(
    truth: Mask,
    probability: Floats,
    right: Floats,
    units: NDArray[np.intp],
    subsets: Sequence[Mask],
    seed: int = 0,
) -> list[Subset]:
    """Compare subsets, each with all other slices, in one bootstrap of whole units.

    Parameters
    ----------
    truth
        bool, shape (slices,).
    probability
        In [0, 1], shape (slices,).
    right
        1 if the verdict is right, 0 if it is wrong, NaN if there is none, shape (slices,).
    units
        The group of each slice, numbered from 0, shape (slices,).
    subsets
        Which slices are in each subset, bool, shape (slices,); only subsets that :func:`why_not` accepts.
    seed
        Seed of the bootstrap.

    Returns
    -------
    Each subset's figures; their intervals have the confidence of :func:`confidence_for`.
    """
    answered = ~np.isnan(right)
    rankings = [
        (within, Ranking(truth[within], probability[within]), Ranking(truth[~within], probability[~within]))
        for within in subsets
    ]

    def figures(weights: Floats) -> dict[str, Floats]:
        found: dict[str, Floats] = {}
        for number, (within, own, others) in enumerate(rankings):
            auc, rest = own.areas(weights[:, within])[0], others.areas(weights[:, ~within])[0]
            told = within & answered
            accuracy = ratio(weights[:, told] @ right[told], weights[:, told].sum(axis=1))
            found |= {f"auc {number}": auc, f"accuracy {number}": accuracy}
            found |= {f"others {number}": rest, f"more {number}": auc - rest}
        return found

    values = figures(np.ones((1, len(truth))))
    drawn = resample(figures, units, RESAMPLES, seed)
    confidence = confidence_for(len(subsets))
    estimates = {name: estimate(float(values[name][0]), drawn[name], confidence) for name in values}
    return [
        Subset(*(estimates[f"{name} {number}"] for name in ("auc", "accuracy", "others", "more")))
        for number in range(len(subsets))
    ]


SUBGROUP_RESAMPLES = 1000
Row = tuple[object, ...]


class Subgroups(Check[Trial]):
    """AUC and accuracy by source, size, format and patient.

    A warning if the AUC's interval on a subgroup is entirely below that on the other slices, and a note if
    only the interval of their difference is entirely below 0. Intervals are corrected for the number of subgroups
    (Bonferroni).
    """

    code = "GG209"

    def run(self, subject: Trial) -> Result:
        """Raises NotApplicable if there are no subgroups."""
        material = subject.material
        named = subgroups(material)
        patients = _per_patient(subject)
        if not named and patients is None:
            raise NotApplicable(
                "All slices have the same source, size and format, and none names its patient: there "
                "are no subgroups."
            )
        reasons = {name: why_not(material.truth, material.units, within) for name, within in named.items()}
        judged = _judged(subject, {name: within for name, within in named.items() if not reasons[name]})
        worse = _worse(judged)
        severity: Severity | None = None
        if worse:
            severity = "warning" if any(judged[name].surely_lower for name in worse) else "note"
        worst = min(judged, key=lambda name: judged[name].auc.value or 0.0, default="")
        inside = zip(material.paths, *(named[name] for name in worse), strict=True)
        overall = evaluate(subject.predictions, resamples=SUBGROUP_RESAMPLES, seed=material.seed)
        return self.result(
            severity,
            judged[worst].auc if worst else NOTHING,
            files=[path for path, *within in inside if any(within)],
            rows=(
                *_whole_rows(overall, patients),
                *(
                    _row(name, material.truth[within], judged.get(name), reasons[name])
                    for name, within in named.items()
                ),
            ),
            judged=judged,
            worse=worse,
            worst=worst,
            confidence=confidence_for(len(judged)),
            slices=overall,
            patients=patients,
        )


def subgroups(material: Material) -> dict[str, Mask]:
    """The slices of each source, each third of the sizes, and each file format, if there are several."""
    sides = material.headers[["width", "height"]].max(axis=1)
    return {
        **_of_values("source", material.manifest["source"]),
        **_of_sizes(sides.to_numpy(dtype=float)),
        **_of_values("format", material.headers["format"]),
    }


def _of_values(kind: str, values: "pd.Series[str]") -> dict[str, Mask]:
    names = sorted(set(values) - {""})
    if len(names) < 2:
        return {}
    return {f"{kind} {name}": (values == name).to_numpy(dtype=bool) for name in names}


def _of_sizes(sides: Floats) -> dict[str, Mask]:
    """Thirds of the longer side, fewer if many have the same size."""
    known = sides[~np.isnan(sides)]
    if not len(known):
        return {}
    edges = np.unique(np.quantile(known, [1 / 3, 2 / 3]))
    bounds = [-np.inf, *edges[edges < known.max()], np.inf]
    found = {}
    for low, high in pairwise(bounds):
        within = (sides > low) & (sides <= high)
        if within.any():
            found[f"longer side {_range(low, high)}"] = within
    return found if len(found) > 1 else {}


def _range(low: float, high: float) -> str:
    if low == -np.inf:
        return f"up to {high:.0f} pixels"
    return f"over {low:.0f} pixels" if high == np.inf else f"over {low:.0f} to {high:.0f} pixels"


def _judged(trial: Trial, named: dict[str, Mask]) -> dict[str, Subset]:
    material, answers = trial.material, trial.predictions
    verdict = answers["verdict"].to_numpy(dtype=object)
    right = np.where(verdict == POSITIVE, material.truth, ~material.truth).astype(float)
    right[~np.isin(verdict, (POSITIVE, NEGATIVE))] = np.nan
    probability = answers["probability"].to_numpy(dtype=float)
    found = compare(material.truth, probability, right, material.units, list(named.values()), material.seed)
    return dict(zip(named, found, strict=True))


def _worse(judged: dict[str, Subset]) -> list[str]:
    """Subgroups whose AUC is significantly below that of the other slices, the lowest first."""
    lower = [name for name, one in judged.items() if one.more.high is not None and one.more.high < 0]
    return sorted(lower, key=lambda name: judged[name].auc.value or 0.0)


def _per_patient(trial: Trial) -> Evaluation | None:
    if not (trial.predictions["patient"] != "").any():
        return None
    return evaluate_patients(
        trial.predictions,
        trial.threshold,
        trial.detector.bundle.facts.patient_rule,
        resamples=SUBGROUP_RESAMPLES,
        seed=trial.material.seed,
    )


def _whole_rows(slices: Evaluation, patients: Evaluation | None) -> list[Row]:
    named = [("all, per slice", slices), *([] if patients is None else [("all, per patient", patients)])]
    return [
        (name, one.count, one.positives, one.metrics["roc_auc"], "", one.metrics["accuracy"])
        for name, one in named
    ]


def _row(name: str, truth: Mask, found: Subset | None, why: str) -> Row:
    figures = (
        (f"not evaluated: {why}", "", "") if found is None else (found.auc, found.others, found.accuracy)
    )
    return name, len(truth), truth.sum(), *figures
