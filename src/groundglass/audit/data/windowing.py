"""GG115: whether grey levels that hardly depend on the disease tell the label."""

import cv2
import numpy as np
from joblib import parallel_config  # type: ignore[import-untyped]
from numpy.typing import NDArray

from groundglass.audit.check import Check, Result
from groundglass.audit.material import Material
from groundglass.audit.measure.auc import severity_of
from groundglass.audit.measure.looks import Looks
from groundglass.audit.measure.regions import MARGIN
from groundglass.audit.measure.telling import measure_name, surest
from groundglass.audit.measure.told import Told, told
from groundglass.evaluate.summary import format_estimate
from groundglass.labels import NEGATIVE, POSITIVE

MISSING = -1.0
"""Stands for a level that was not found, such as the air around a body that fills the slice."""
TREES, FEW_TREES = 100, 15
"""Grown for each fold, for all levels and for one by itself."""

BLACK, WHITE = "pure black", "pure white"
Levels = dict[str, NDArray[np.float64]]


class WindowingByClass(Check[Material]):
    """How well the label is told from the grey of air, of soft tissue and of all that is no lung."""

    code = "GG115"
    title = "Windowing by class"
    severity = "error"
    needs = ("two classes",)
    remedy = (
        "Start from DICOM and give all slices one window, such as level -600 and width 1500 HU; where there are "
        "pictures only, bring the grey of air and soft tissue to one value each, and vary contrast in training."
    )

    def run(self, material: Material) -> Result:
        """Tell the label from all levels together, and from each by itself."""
        levels = _levels(material.looks)
        together = _tell(levels, material, TREES)
        alone = {name: _tell({name: level}, material, FEW_TREES) for name, level in levels.items()}
        severity = severity_of(together.crossed)
        shown = surest(together.scores, material.truth, material.units, material.paths) if severity else ()
        return Result(
            severity,
            _message(levels, together, alone),
            together.crossed,
            measure_name(together),
            files=tuple(file for (file,) in shown),
            side_by_side=shown,
            header=("Level", f"{POSITIVE} median", f"{NEGATIVE} median", "AUC, cross-validated"),
            rows=tuple(
                (name, *_medians(name, level, material.truth), format_estimate(alone[name].crossed))
                for name, level in levels.items()
            ),
        )


def _levels(looks: Looks) -> Levels:
    """Grey levels in [0, 255] and shares of pixels in percent, NaN where not found, each of shape (slices,)."""
    marks = looks.marks
    levels = {
        "air around the body": np.array([one.air for one in marks], dtype=np.float64),
        "soft tissue": np.array([one.soft for one in marks], dtype=np.float64),
        BLACK: np.array([100 * one.black for one in marks], dtype=np.float64),
        WHITE: np.array([100 * one.white for one in marks], dtype=np.float64),
    }
    if looks.found.any():
        levels["all but the lungs"] = _outside_lungs(looks)
    return levels


def _outside_lungs(looks: Looks) -> NDArray[np.float64]:
    around = np.ones((2 * MARGIN + 1, 2 * MARGIN + 1), dtype=np.uint8)
    medians = np.full(len(looks.grey), np.nan)
    for place in np.flatnonzero(looks.found):
        outside = cv2.dilate(looks.lungs[place].view(np.uint8), around) == 0
        if outside.any():
            medians[place] = np.median(looks.grey[place][outside])
    return medians


def _tell(levels: Levels, material: Material, trees: int) -> Told:
    features = np.nan_to_num(np.column_stack(list(levels.values())), nan=MISSING)
    with parallel_config(backend="sequential"):  # so few features are faster without threads
        return told(features, material.truth, material.units, material.parts, material.seed, trees)


def _medians(name: str, level: NDArray[np.float64], truth: NDArray[np.bool_]) -> tuple[str, str]:
    unit = "%" if name in (BLACK, WHITE) else ""
    return _median(level[truth], unit), _median(level[~truth], unit)


def _median(level: NDArray[np.float64], unit: str) -> str:
    """The median of those found, such as ``48 (not found on 3 of 60)``."""
    missing = np.isnan(level)
    if missing.all():
        return "not found"
    absent = f" (not found on {missing.sum()} of {len(level)})" if missing.any() else ""
    return f"{np.median(level[~missing]):.3g}{unit}{absent}"


def _message(levels: Levels, together: Told, alone: dict[str, Told]) -> str:
    verdict = "is told" if severity_of(together.crossed) else "is not surely told"
    best = max(alone, key=lambda name: alone[name].crossed.value or 0)
    missing = np.isnan(np.column_stack(list(levels.values()))).any(axis=1).mean()
    filled = (
        f" A level that was not found, on {missing:.0%} of slices, counts as {MISSING:.0f}."
        if missing
        else ""
    )
    return (
        f"From grey levels that hardly depend on the disease ({', '.join(levels)}) the label {verdict}: AUC "
        f"{format_estimate(together.crossed)}. By itself {best} tells most, with AUC "
        f"{format_estimate(alone[best].crossed)}.{filled}"
    )
