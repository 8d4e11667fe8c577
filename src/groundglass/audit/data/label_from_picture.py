"""GG110: whether the label can be told from grey levels, wherever they are."""

import cv2
import numpy as np
from joblib import parallel_config  # type: ignore[import-untyped]
from numpy.typing import NDArray

from groundglass.audit.check import Check, Result
from groundglass.audit.looks import Looks
from groundglass.audit.material import Material
from groundglass.audit.measures import severity_of
from groundglass.audit.regions import (
    CELLS,
    MARGIN,
    Features,
    border_ring,
    grey_statistics,
    lung_box,
    outside_lungs,
    thumbnail,
)
from groundglass.audit.telling import HEADER, Told, measure_name, row, surest, tell_at_most_warning, told
from groundglass.evaluate.evaluation import format_estimate
from groundglass.evaluate.predictions import unit_codes
from groundglass.labels import NEGATIVE, POSITIVE


class LabelFromGreyLevels(Check[Material]):
    """How well the label is told from the histogram of grey levels."""

    code = "GG110"
    title = "Label from grey levels alone"
    severity = "warning"
    needs = ("two classes",)
    remedy = (
        "Start from DICOM and use one window for all slices; where there are pictures only, vary contrast and "
        "brightness in training, and report how the detector does with grey levels changed."
    )

    def run(self, material: Material) -> Result:
        """Tell the label from the grey statistics of whole slices."""
        return tell_at_most_warning(
            material,
            grey_statistics(material.looks.grey),
            "grey levels alone",
            "Wherever they lie, they differ between the classes in window, contrast, exposure or share of air; "
            "lesions make lungs brighter, so some of it may be the disease.",
        )


class LabelFromThumbnail(Check[Material]):
    """How well the label is told from a thumbnail of the slice."""

    code = "GG111"
    title = f"Label from a {CELLS} x {CELLS} thumbnail"
    severity = "warning"
    needs = ("two classes",)
    remedy = (
        "Compare the detector with this figure, which takes no sight of texture; bring all slices to one crop, "
        "size and level of the chest, and vary them in training."
    )

    def run(self, material: Material) -> Result:
        """Tell the label from whole slices, averaged to a few cells."""
        return tell_at_most_warning(
            material,
            thumbnail(material.looks.grey),
            f"a {CELLS} x {CELLS} thumbnail",
            "Texture and small lesions are gone from it, so that look, size or position of the picture give the "
            "label away; as blurred lungs are still in it, some of it may be the disease.",
        )


RING, OUTSIDE = "the border", "everything outside the lungs' box"
BOX = "the lungs' box: its place and size"


class LabelWithoutLungs(Check[Material]):
    """How well the label is told from the border and from everything outside the lungs."""

    code = "GG109"
    title = "Label without lungs"
    severity = "error"
    needs = ("two classes", "lungs")
    remedy = (
        "Look at the slices side by side for what gives the label away (crop, table, arms, text, window), crop "
        "or mask all slices alike, and report how the detector does with the lungs removed."
    )

    def run(self, material: Material) -> Result:
        """Tell the label from both regions of the slices on which lungs were found."""
        found = material.looks.found
        grey, lungs = material.looks.grey[found], material.looks.lungs[found]
        truth, units = material.truth[found], unit_codes(material.units[found].astype(str))

        def telling(features: Features) -> Told:
            return told(features, truth, units, material.parts[found], material.seed)

        regions = {RING: telling(border_ring(grey, lungs)), OUTSIDE: telling(outside_lungs(grey, lungs))}
        box = telling(lung_box(lungs))
        best = max(regions, key=lambda name: regions[name].crossed.value or 0)
        figure = regions[best].crossed
        severity = severity_of(figure)
        shown = surest(regions[best].scores, truth, units, material.paths[found]) if severity else ()
        return Result(
            severity,
            _message(regions, box, severity is not None) + _left_out(len(found), int((~found).sum())),
            figure,
            f"{measure_name(regions[best])}, from {best}",
            files=tuple(file for (file,) in shown),
            side_by_side=shown,
            header=HEADER,
            rows=tuple(row(name, region) for name, region in {**regions, BOX: box}.items()),
        )


def _message(regions: dict[str, Told], box: Told, is_told: bool) -> str:
    figures = " and ".join(
        f"from {name} with AUC {format_estimate(region.crossed)}" for name, region in regions.items()
    )
    verdict = "the label is told" if is_told else "the label is not surely told"
    return (
        f"Without any lung {verdict}: {figures}; the place and size of the box alone give "
        f"{format_estimate(box.crossed)}."
    )


def _left_out(count: int, without: int) -> str:
    return f" {without} of {count} slices, on which no lungs were found, are left out." if without else ""


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
            _levels_message(levels, together, alone),
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


def _levels_message(levels: Levels, together: Told, alone: dict[str, Told]) -> str:
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
