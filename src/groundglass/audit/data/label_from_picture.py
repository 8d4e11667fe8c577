"""GG109 to GG111 and GG115: whether features that show little or nothing of the disease reveal the label."""

from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from groundglass.audit.check import Check, Result, Severity
from groundglass.audit.label_prediction import LabelPrediction, predict_from
from groundglass.audit.material import Material, SmallPictures
from groundglass.audit.picture_features import (
    CELLS,
    Features,
    border_ring,
    grey_statistics,
    lung_box,
    outside_lungs,
    thumbnail,
    with_margin,
)

EACH = 4
"""Number of slices of each class that are shown."""


def most_confident(
    scores: NDArray[np.float64],
    truth: NDArray[np.bool_],
    units: NDArray[np.intp],
    paths: NDArray[np.object_],
    each: int = EACH,
) -> tuple[str, ...]:
    """The slices that are predicted most confidently and correctly, one per group.

    Parameters
    ----------
    scores
        Share of trees that vote for COVID-19, in [0, 1], shape (slices,).
    truth
        bool, shape (slices,).
    units
        The group of each slice, shape (slices,).
    paths
        The slices' files, shape (slices,).
    each
        Number of slices of each class.

    Returns
    -------
    Their files, alternating between the classes, COVID-19 first, most confident first.
    """

    def best(confidence: NDArray[np.float64], of_class: NDArray[np.bool_]) -> list[str]:
        right = np.flatnonzero(of_class & (confidence > 0.5))
        ranked = right[np.argsort(-confidence[right], kind="stable")]
        _, first = np.unique(units[ranked], return_index=True)
        return [str(path) for path in paths[ranked[np.sort(first)][:each]]]

    both = best(scores, truth), best(1 - scores, ~truth)
    return tuple(files[rank] for rank in range(each) for files in both if rank < len(files))


class _LabelFromPicture(Check[Material]):
    def shown(
        self,
        material: Material,
        prediction: LabelPrediction,
        severity: Severity | None,
        rows: Iterable[Iterable[object]],
        where: NDArray[np.bool_] | None = None,
        **values: object,
    ) -> Result:
        """The result of a prediction on the slices ``where``; a finding shows the most confident slices."""
        places = np.flatnonzero(np.ones(len(material.truth), dtype=bool) if where is None else where)
        of_places = material.truth[places], material.units[places], material.paths[places]
        files = most_confident(prediction.scores, *of_places) if severity else ()
        return self.result(
            severity,
            prediction.cross_validated,
            files=files,
            side_by_side=[(file,) for file in files],
            rows=rows,
            prediction=prediction,
            **values,
        )


class _LabelFromFeatures(_LabelFromPicture):
    """Predicts the label from features that may show some of the disease itself: at most a warning.

    A subclass names the features (``source``, as in "from ...") and measures them.
    """

    source: ClassVar[str]

    @staticmethod
    @abstractmethod
    def features(grey: NDArray[np.uint8]) -> Features:
        """Features of whole slices: uint8, shape (slices, height, width), to float32, shape (slices, features)."""

    def run(self, material: Material) -> Result:
        """Predict the label from the features."""
        prediction = predict_from(material, self.features(material.pictures.grey))
        severity: Severity | None = "warning" if prediction.severity else None
        return self.shown(material, prediction, severity, [prediction.row(self.source)])


class LabelFromGreyLevels(_LabelFromFeatures):
    """How well the histogram of grey levels predicts the label."""

    code = "GG110"
    source = "grey levels alone"
    features = staticmethod(grey_statistics)


class LabelFromThumbnail(_LabelFromFeatures):
    """How well a thumbnail of the slice predicts the label."""

    code = "GG111"
    source = f"a {CELLS} x {CELLS} thumbnail"
    features = staticmethod(thumbnail)


OUTSIDE: dict[str, Callable[[NDArray[np.uint8], NDArray[np.bool_]], Features]] = {
    "the border": border_ring,
    "everything outside the lungs' box": outside_lungs,
}
BOX = "the position and size of the lungs' box"


class LabelWithoutLungs(_LabelFromPicture):
    """How well the border, and everything outside the lungs, predict the label."""

    code = "GG109"

    def run(self, material: Material) -> Result:
        """Predict the label from each region of the slices on which lungs were found."""
        found = material.pictures.found
        grey, lungs = material.pictures.grey[found], material.pictures.lungs[found]
        regions = {name: predict_from(material, of(grey, lungs), found) for name, of in OUTSIDE.items()}
        box = predict_from(material, lung_box(lungs), found)
        best = max(regions, key=lambda name: regions[name].cross_validated.value or 0)
        return self.shown(
            material,
            regions[best],
            regions[best].severity,
            [region.row(name) for name, region in {**regions, BOX: box}.items()],
            found,
            regions=regions,
            best=best,
            box=box,
            count=len(found),
            left_out=(~found).sum(),
        )


MISSING = -1.0
"""Replaces a level that was not found, such as the air around a body that fills the slice."""
TREES, FEW_TREES = 100, 15
"""Trees per fold, for all levels and for a single one."""
Levels = dict[str, NDArray[np.float64]]


class WindowingByClass(_LabelFromPicture):
    """How well the grey of air, soft tissue and everything but the lungs predicts the label."""

    code = "GG115"

    def run(self, material: Material) -> Result:
        """Predict the label from all levels together, and from each alone."""
        levels = _levels(material.pictures)
        columns = np.column_stack(list(levels.values()))
        features = np.nan_to_num(columns, nan=MISSING)
        together = predict_from(material, features, trees=TREES)
        alone = {
            name: predict_from(material, features[:, [column]], trees=FEW_TREES)
            for column, name in enumerate(levels)
        }
        best = max(alone, key=lambda name: alone[name].cross_validated.value or 0)
        truth = material.truth
        return self.shown(
            material,
            together,
            together.severity,
            [
                (name, _median(name, level[truth]), _median(name, level[~truth]), alone[name])
                for name, level in levels.items()
            ],
            levels=levels,
            alone=alone,
            best=best,
            missing=np.isnan(columns).any(axis=1).mean(),
        )


def _levels(pictures: SmallPictures) -> Levels:
    """Grey levels in [0, 255] and shares of pixels in percent, NaN if not found, each of shape (slices,)."""
    marks = pictures.marks
    levels = {
        "air around the body": [one.air for one in marks],
        "soft tissue": [one.soft for one in marks],
        "pure black": [100 * one.black for one in marks],
        "pure white": [100 * one.white for one in marks],
    }
    if pictures.found.any():
        levels["all but the lungs"] = [
            float(np.median(grey[outside])) if found and outside.any() else float("nan")
            for grey, found, outside in zip(
                pictures.grey, pictures.found, ~with_margin(pictures.lungs), strict=True
            )
        ]
    return {name: np.array(level, dtype=np.float64) for name, level in levels.items()}


def _median(name: str, level: NDArray[np.float64]) -> str:
    """The median of the levels found, such as ``48 (not found on 3 of 60)``."""
    missing = np.isnan(level)
    if missing.all():
        return "not found"
    absent = f" (not found on {missing.sum()} of {len(level)})" if missing.any() else ""
    return f"{np.median(level[~missing]):.3g}{'%' * name.startswith('pure')}{absent}"
