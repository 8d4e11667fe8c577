"""GG113: whether letters, arrows, rulers and frames are burnt into the slices, and whether they tell the label."""

import numpy as np
from joblib import parallel_config  # type: ignore[import-untyped]
from numpy.typing import NDArray

from groundglass.audit.check import NOTHING, Check, NotApplicable, Result, Severity
from groundglass.audit.material import Material
from groundglass.audit.measure.auc import auc, severity_of
from groundglass.audit.measure.marks import Marks
from groundglass.audit.measure.most import most
from groundglass.audit.measure.telling import measure_name
from groundglass.audit.measure.told import Told, told
from groundglass.evaluate.summary import format_estimate
from groundglass.labels import NEGATIVE, POSITIVE

KINDS = {"text": "letters", "arrows": "arrows", "rulers": "rulers", "bars": "frames and bars"}
"""The counts of :class:`Marks`, and what they are called."""
COMMON = 0.05
"""Share of slices with marks from which a note is due, whatever their label; marks are seen by mistake on about 2%
of slices of one hospital without any, and on 8% of slices cut from papers."""
TREES = 100
"""Grown for each fold: there are five features."""


class BurntIn(Check[Material]):
    """How often each class carries marks, and how well their numbers tell the label."""

    code = "GG113"
    title = "Burnt-in text, arrows and rulers"
    severity = "warning"
    remedy = (
        "Take slices without marks, or paint or crop marks away in both classes alike; look for names and dates "
        "among the letters before the slices are passed on."
    )

    def run(self, material: Material) -> Result:
        """Count marks by class, and tell the label from their numbers."""
        counts = _counts(material.looks.marks)
        marked = counts.sum(axis=1) > 0
        if not marked.any():
            return Result(None, f"No burnt-in marks were seen on any of the {len(marked)} slices.")
        tale = _told(material, counts)
        severity = _severity(tale, float(marked.mean()))
        return Result(
            severity,
            _message(material.truth, marked, tale),
            tale.crossed if tale else NOTHING,
            measure_name(tale) if tale else "",
            files=tuple(map(str, material.paths[marked])) if severity else (),
            side_by_side=most(material, counts.sum(axis=1)) if severity else (),
            header=("Marks", f"{POSITIVE} slices", f"{NEGATIVE} slices", "AUC of their number"),
            rows=_rows(material, counts),
        )


def _counts(marks: tuple[Marks, ...]) -> NDArray[np.intp]:
    """Marks of each kind, shape (slices, kinds)."""
    return np.array([[getattr(one, kind) for kind in KINDS] for one in marks], dtype=np.intp)


def _told(material: Material, counts: NDArray[np.intp]) -> Told | None:
    """None where there are not two classes of two groups each: marks are told then all the same."""
    if material.truth.all() or not material.truth.any():
        return None
    covered = [one.share for one in material.looks.marks]
    features = np.column_stack([counts, covered]).astype(np.float64)
    try:
        with parallel_config(backend="sequential"):  # so few features are faster without threads
            return told(features, material.truth, material.units, material.parts, material.seed, TREES)
    except NotApplicable:
        return None


def _severity(tale: Told | None, share: float) -> Severity | None:
    if tale is not None and severity_of(tale.crossed) is not None:
        return "warning"
    return "note" if share > COMMON else None


def _message(truth: NDArray[np.bool_], marked: NDArray[np.bool_], tale: Told | None) -> str:
    seen = (
        f"Marks that look burnt in were seen on {marked.sum()} of {len(marked)} slices ({marked.mean():.0%})"
    )
    personal = "Letters may hold names and dates."
    if tale is None:
        return f"{seen}. {personal}"
    verdict = "is told" if severity_of(tale.crossed) else "is not surely told"
    by_class = f"{_share(marked[truth])} of {POSITIVE}, {_share(marked[~truth])} of {NEGATIVE}"
    return (
        f"{seen}: {by_class}. From how many there are and what they cover the label {verdict}: AUC "
        f"{format_estimate(tale.crossed)}. {personal}"
    )


def _share(marked: NDArray[np.bool_]) -> str:
    return f"{marked.mean():.1%}" if marked.size else "no slices"


def _rows(material: Material, counts: NDArray[np.intp]) -> tuple[tuple[str, str, str, str], ...]:
    columns = {**dict(zip(KINDS.values(), counts.T, strict=True)), "any of them": counts.sum(axis=1)}
    truth = material.truth
    return tuple(
        (
            name,
            _share(number[truth] > 0),
            _share(number[~truth] > 0),
            format_estimate(auc(truth, number.astype(np.float64), material.units, material.seed)),
        )
        for name, number in columns.items()
    )
