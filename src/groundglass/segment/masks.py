"""Turn a network's probabilities into masks of the right lung, the left lung and the lesions."""

from dataclasses import dataclass, replace
from typing import Annotated, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from groundglass.labels import NOT_A_CHEST_CT
from groundglass.segment.chest import ChestModel, features

RIGHT, LEFT = 1, 2
"""Labels of the lungs, as in groundglass.phantom; the patient's right is at the left of the picture."""
BRIDGE = 0.5
"""Two lungs touch where the lung tissue narrows to at most this share of its height on either side."""
WIDE = 0.6
"""Only a component wider than this share of all lungs together can consist of two touching lungs."""
SLIVER = 0.05
"""A piece that the midline cuts off is not a lung of its own if it is smaller than this share of its component."""
BODY_COLUMN = 0.1
"""A column belongs to the body if it has at least this share of the tallest column's bright pixels; a line of
text or the edge of a table has fewer."""
RING = 0.1
"""Smallest area of the ring around the lungs, as a share of the lung area; lungs cut by two borders still
reach it."""

Mask = NDArray[np.uint8]
Labels = Any
"""Integers of 16 or 32 bits, shape (height, width)."""
Share = Annotated[float, Field(ge=0, le=1)]


class PostProcessing(BaseModel):
    """The parameters of :func:`segmentation`, stored with the network they were chosen for.

    Attributes
    ----------
    lung_threshold, lesion_threshold
        Lowest probability at which a pixel counts as lung or lesion.
    component_of_largest, component_of_picture
        Smallest component of the lungs, as a share of the largest component and of the picture.
    hole_of_lungs
        Largest hole that is filled, as a share of the lungs' area: vessels are smaller, the dome of the
        diaphragm is larger.
    lesion_hole_of_lungs
        Largest hole that is searched for lesions, as a share of the lungs' area: the mediastinum enclosed by
        lungs that touch anteriorly and posteriorly is larger.
    border_radius
        Radius of the morphological closing that finds notches in a lung's border, as a share of both lungs' width.
    border_lesion
        Lowest lesion probability at which a pixel of a notch or of a larger hole is returned to the lung.
    smallest_lesion
        Smallest lesion, in pixels.
    least_lungs
        Smallest share of the picture that lungs cover.
    least_quality
        Smallest expected Dice of the lungs.
    small_lungs, small_lungs_allowance
        Lungs below this share of the picture may have a lower quality, because their border weighs more. The
        limit is reduced by the allowance times the shortfall from this share.
    least_darkness
        How much darker than their surroundings the lungs must be, on a grey scale of [0, 1].
    chest
        Model that distinguishes an axial chest CT from other pictures by its apparent lungs; None leaves this out.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    lung_threshold: Share = 0.5
    lesion_threshold: Share = 0.5
    component_of_largest: Share = 0.05
    component_of_picture: Share = 0.0005
    hole_of_lungs: Share = 0.01
    lesion_hole_of_lungs: Share = 0.15
    border_radius: Share = 0.04
    border_lesion: Share = 0.2
    smallest_lesion: Annotated[int, Field(ge=1)] = 4
    least_lungs: Share = 0.003
    least_quality: Share = 0.6
    small_lungs: Share = 0.04
    small_lungs_allowance: Annotated[float, Field(ge=0)] = 0.0
    least_darkness: Annotated[float, Field(ge=-1, le=1)] = 0.03
    chest: ChestModel | None = None


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The lungs and lesions of one slice.

    Attributes
    ----------
    lungs
        uint8, shape (height, width): 0 outside, 1 in the right lung, 2 in the left; vessels and lesions
        belong to the lung.
    lesions
        bool, shape (height, width); always within the lungs.
    quality
        Expected Dice of the lungs, in [0, 1].
    problem
        Why this is not a chest CT with lungs, in words and figures; "" if it is one.
    grey8
        The slice as 8-bit grey, shape (height, width), for drawing; None if it was not kept.
    consolidation
        bool, shape (height, width): the part of the lesions that is consolidation; the rest is ground glass.
        None if the segmenter does not distinguish them.
    lesion_probability
        The mean lesion probability over the lungs, in [0, 1]. Unlike the lesion share, it includes faint
        lesions. None if unknown.
    """

    lungs: Mask
    lesions: NDArray[np.bool_]
    quality: float
    problem: str = ""
    grey8: Mask | None = None
    consolidation: NDArray[np.bool_] | None = None
    lesion_probability: float | None = None

    def __repr__(self) -> str:
        return f"Segmentation({self.headline()})"

    def _repr_html_(self) -> str:
        from groundglass.segment.notebook import as_html

        return as_html(self.headline(), None if self.grey8 is None else self.picture())

    def headline(self) -> str:
        """The result in one line."""
        if self.problem:
            return f"{NOT_A_CHEST_CT}: {self.problem}"
        from groundglass.segment.shares import lesions_in_words, shares

        both = shares(self).both
        return lesions_in_words(both.lesion_share or 0.0, both.type_shares)

    def picture(self) -> Image.Image:
        """The slice in RGB with the contours of its lungs and its lesions in colour.

        Raises
        ------
        ValueError
            If the slice was not kept: only ``Segmenter()(scan)`` keeps it.
        """
        from groundglass.segment.overlay import overlay

        if self.grey8 is None:
            raise ValueError(
                "this segmentation has no copy of its slice; draw it with segment.overlay.overlay"
            )
        return overlay(self.grey8, self)

    @property
    def trusted_lungs(self) -> NDArray[np.bool_]:
        """The lungs, bool, shape (height, width); empty if there is a problem."""
        return (self.lungs > 0) & self.found

    @property
    def trusted_lesions(self) -> NDArray[np.bool_]:
        """The lesions, bool, shape (height, width); empty if there is a problem."""
        return self.lesions & self.found

    @property
    def found(self) -> bool:
        """Whether reliable lungs were found."""
        return not self.problem


def segmentation(
    lung_probability: NDArray[np.float32],
    lesion_probability: NDArray[np.float32],
    grey: NDArray[np.float32],
    rules: PostProcessing | None = None,
    plain: NDArray[np.float32] | None = None,
) -> Segmentation:
    """Turn a network's probabilities into lungs and lesions, and judge whether these are lungs.

    Lesions that touch a lung are joined to it, because lung segmentation tends to miss consolidations at the
    pleura. Small components are dropped and small holes filled, and the lungs are labelled right and left.
    Notches in each lung's border and larger holes are returned to the lung where a lesion is possible.

    The quality is the Dice coefficient expected from the probabilities [1]_; a pixel's probability of lung is
    at least its probability of lesion.

    Parameters
    ----------
    lung_probability, lesion_probability
        float32 in [0, 1], shape (height, width), finite; lesions also count as lung.
    grey
        float32 in [0, 1], the same shape: the slice as the network's input.
    rules
        None means the defaults.
    plain
        float32 in [0, 1], the same shape: the slice without equalisation, for ``rules.chest``; None means ``grey``.

    Raises
    ------
    ValueError
        If the shapes differ.

    References
    ----------
    .. [1] B. L. C. Borges, B. M. Pacheco, D. Silva: Soft Dice Confidence: A Near-Optimal Confidence Estimator
       for Selective Prediction in Semantic Segmentation. arXiv:2402.10665.
    """
    rules = rules or PostProcessing()
    if not lung_probability.shape == lesion_probability.shape == grey.shape or grey.ndim != 2:
        raise ValueError(
            f"probabilities and grey must have the same shape; got {lung_probability.shape}, "
            f"{lesion_probability.shape} and {grey.shape}"
        )
    likely_lesions = _mask(lesion_probability >= rules.lesion_threshold)
    lungs = _joined(_mask(lung_probability >= rules.lung_threshold), likely_lesions)
    lungs = _without_small(lungs, rules)
    lungs = _filled(lungs, rules.hole_of_lungs * cv2.countNonZero(lungs))
    sides = _sides(lungs, _body_middle(grey))
    sides = _with_gaps(sides, _mask(lesion_probability >= rules.border_lesion), rules)
    lungs = _mask(sides > 0)
    lesions = _without_specks(likely_lesions & lungs, rules.smallest_lesion)
    probability = np.maximum(lung_probability, lesion_probability)
    quality = _expected_dice(probability, lungs)
    found = Segmentation(
        sides,
        lesions.astype(np.bool_),
        quality,
        _problem(lungs, quality, grey, rules),
        lesion_probability=float(lesion_probability[lungs > 0].mean()) if lungs.any() else 0.0,
    )
    if rules.chest is None or not found.found:
        return found
    score = rules.chest.score(features(sides, found.lesions, probability, grey if plain is None else plain))
    return found if score >= rules.chest.least else replace(found, problem=_unlike(score, rules.chest.least))


def resize(segmentation: Segmentation, shape: tuple[int, int]) -> Segmentation:
    """Resize a segmentation, usually to the slice's own size, with smooth borders.

    Parameters
    ----------
    segmentation
        The segmentation of a slice without padding.
    shape
        (height, width) in pixels.
    """
    rows, columns = segmentation.lungs.shape
    if (rows, columns) == tuple(shape):
        return segmentation
    shrinks = shape[0] <= rows and shape[1] <= columns
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR

    def scaled(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
        resized = cv2.resize(mask.astype(np.float32), (shape[1], shape[0]), interpolation=method)
        return np.asarray(resized, dtype=np.float32)

    right, left = scaled(segmentation.lungs == RIGHT), scaled(segmentation.lungs == LEFT)
    # The sum is the resized union: where the lungs touch, neither may reach one half.
    side = np.uint8(RIGHT) + np.uint8(LEFT - RIGHT) * _mask(left > right)
    sides = side * _mask(right + left >= 0.5)
    lesions = (scaled(segmentation.lesions) >= 0.5) & (sides > 0)
    solid = segmentation.consolidation
    consolidation = None if solid is None else lesions & (scaled(solid) >= 0.5)
    return replace(segmentation, lungs=sides, lesions=lesions, consolidation=consolidation)


def _mask(condition: NDArray[np.bool_]) -> Mask:
    return np.ascontiguousarray(condition).view(np.uint8)


def _components(mask: Mask, connectivity: int = 8) -> tuple[Labels, NDArray[Any], NDArray[Any]]:
    """Label image, [left, top, width, height, area] per label and centroid [x, y] per label; label 0 is outside."""
    # There are fewer components than half the pixels, and 16 bits take half the time.
    depth = cv2.CV_16U if mask.size < 2**17 else cv2.CV_32S
    _, labels, stats, centroids = cv2.connectedComponentsWithStats(
        mask, connectivity=connectivity, ltype=depth
    )
    return labels, stats, centroids


def _kept(labels: Labels, keep: NDArray[np.bool_]) -> Mask:
    """The components whose label is to be kept; label 0, the outside, never is."""
    keep[0] = False
    if len(keep) > 256:
        return np.asarray(keep.view(np.uint8).take(labels), dtype=np.uint8)
    # Same result in a quarter of the time.
    table = np.zeros(256, dtype=np.uint8)
    table[: len(keep)] = keep
    return np.asarray(cv2.LUT(labels.astype(np.uint8), table), dtype=np.uint8)


def _joined(mask: Mask, extra: Mask) -> Mask:
    """``mask`` with the components of ``extra`` that touch it, also at corners."""
    if not (extra > mask).any():
        return mask
    count, labels = cv2.connectedComponents(mask | extra, connectivity=8)
    touches = np.bincount(np.multiply(labels, mask, dtype=np.intp).ravel(), minlength=count) > 0
    return _kept(labels, touches)


def _without_small(lungs: Mask, rules: PostProcessing) -> Mask:
    labels, stats, _ = _components(lungs)
    areas = stats[:, cv2.CC_STAT_AREA]
    if len(areas) == 1:
        return lungs
    least = max(rules.component_of_largest * areas[1:].max(), rules.component_of_picture * lungs.size)
    return _kept(labels, areas >= least)


def _without_specks(lesions: Mask, smallest: int) -> Mask:
    if not lesions.any():
        return lesions
    labels, stats, _ = _components(lesions)
    return _kept(labels, stats[:, cv2.CC_STAT_AREA] >= smallest)


def _filled(mask: Mask, largest: float) -> Mask:
    """``mask`` with its holes of at most ``largest`` pixels filled; a hole does not reach the picture's edge."""
    labels, stats, _ = _components(1 - mask, connectivity=4)
    left, top, width, height, area = stats.T
    inside = (left > 0) & (top > 0) & (left + width < mask.shape[1]) & (top + height < mask.shape[0])
    holes = inside & (area <= largest)
    return mask | _kept(labels, holes) if holes[1:].any() else mask


def _body_middle(grey: NDArray[np.float32]) -> float:
    """The horizontal centre of the body, which is brighter than the surrounding air in every window."""
    grey8 = cv2.convertScaleAbs(grey, alpha=255)
    _, bright = cv2.threshold(grey8, 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    heights = _heights(np.asarray(bright, dtype=np.uint8))
    columns = np.flatnonzero(heights >= max(1.0, BODY_COLUMN * heights.max()))
    return float(columns[0] + columns[-1] + 1) / 2 if columns.size else grey.shape[1] / 2


def _heights(mask: Mask) -> NDArray[np.int32]:
    """Number of pixels set in each column."""
    return np.asarray(cv2.reduce(mask, 0, cv2.REDUCE_SUM, dtype=cv2.CV_32S), dtype=np.int32)[0]


def _sides(lungs: Mask, body_middle: float) -> Mask:
    """The lungs labelled right and left, and separated where they touch.

    The midline is the column where the lungs are thinnest. A component belongs to the side that contains most
    of it; if it is wide enough for both lungs, it is cut at the midline. If there is no thin place, there is
    only one lung, and its side follows from the centre of the body.
    """
    labels, stats, centroids = _components(lungs)
    cut = _cut(lungs, body_middle)
    middle = body_middle if cut is None else cut
    side_of = np.where(centroids[:, 0] + 0.5 < middle, RIGHT, LEFT).astype(np.uint8)
    side_of[0] = 0
    sides = side_of[labels]
    if cut is not None:
        wide = WIDE * cv2.boundingRect(lungs)[2]
        for label, (left, top, width, height, _) in enumerate(stats.tolist()):
            if label and width > wide and left < cut < left + width:
                box = np.s_[top : top + height, left : left + width]
                component = labels[box] == label
                np.copyto(sides[box], _divided(_mask(component), cut - left), where=component)
    return sides


def _cut(lungs: Mask, body_middle: float) -> int | None:
    """The first column of the left lung, or None if there is no thin place between two lungs.

    The thickness between two columns is the number of rows in which lung crosses from one to the other. The
    cut is the thinnest place in the middle third of the lungs' width; ties are resolved by the distance to
    the middle, then by the more equal lungs, so that a mirrored picture is cut at the same place.
    """
    heights = _heights(lungs)
    columns = np.flatnonzero(heights)
    if not columns.size or not columns[0] < body_middle < columns[-1] + 1:
        return None
    start, stop = int(columns[0]), int(columns[-1]) + 1
    third = (stop - start) / 3
    places = np.arange(int(np.ceil(start + third)), int(stop - third) + 1)
    if not places.size or places[0] <= start or places[-1] >= stop:
        return None
    crossing = lungs[:, places[0] - 1 : places[-1]] & lungs[:, places[0] : places[-1] + 1]
    thickness = _heights(np.ascontiguousarray(crossing))
    distance = np.abs(2 * places - start - stop)
    left_of = np.cumsum(heights)[places - 1]
    imbalance = np.abs(2 * left_of - heights.sum())
    best = int(np.lexsort((imbalance, distance, thickness))[0])
    place = int(places[best])
    thin = thickness[best] <= BRIDGE * min(heights[:place].max(), heights[place:].max())
    return place if thin else None


def _divided(component: Mask, cut: int) -> Mask:
    """A component labelled right before column ``cut``, and left from there on.

    A lung may cross the midline behind the heart or in front of the aorta: slivers that the midline cuts off
    stay with the other side.
    """
    small = SLIVER * cv2.countNonZero(component)
    halves = []
    for half, side, other in ((component[:, :cut], RIGHT, LEFT), (component[:, cut:], LEFT, RIGHT)):
        labels, stats, _ = _components(np.ascontiguousarray(half))
        side_of = np.where(stats[:, cv2.CC_STAT_AREA] < small, other, side).astype(np.uint8)
        halves.append(side_of[labels])
    return np.concatenate(halves, axis=1) * component


def _with_gaps(sides: Mask, lesion_possible: Mask, rules: PostProcessing) -> Mask:
    """Each lung with the possible lesions in the notches of its border and in its larger holes.

    Each lung is closed separately, so that the closing cannot bridge the two; a pixel that both would gain
    goes to neither.
    """
    area, (_, _, width, _) = cv2.countNonZero(sides), cv2.boundingRect(sides)
    radius = max(1, round(rules.border_radius * width))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    claims = np.zeros_like(sides)
    for side in (RIGHT, LEFT):
        whole = _mask(sides == side)
        box = _box(whole, radius + 1)
        lung, free = whole[box], _mask(sides[box] == 0)
        gaps = lesion_possible[box] & free
        if lung.any() and gaps.any():
            filled = _filled(lung, rules.lesion_hole_of_lungs * area)
            gaps &= np.asarray(cv2.morphologyEx(filled, cv2.MORPH_CLOSE, kernel), dtype=np.uint8)
        if lung.any() and gaps.any():
            healed = _filled(_joined(lung, gaps), rules.hole_of_lungs * area)
            claims[box] |= (healed & free) * np.uint8(side)
    claims[claims == RIGHT | LEFT] = 0
    return sides | claims


def _box(mask: Mask, margin: int) -> tuple[slice, slice]:
    """The bounding rows and columns of ``mask``, with a margin."""
    left, top, width, height = cv2.boundingRect(mask)
    rows = slice(max(0, top - margin), top + height + margin)
    return rows, slice(max(0, left - margin), left + width + margin)


def _expected_dice(probability: NDArray[np.float32], lungs: Mask) -> float:
    expected, found = float(probability.sum(dtype=np.float64)), cv2.countNonZero(lungs)
    overlap = float(cv2.mean(probability, lungs)[0]) * found
    return min(1.0, 2 * overlap / (expected + found)) if found else 0.0


def _problem(lungs: Mask, quality: float, grey: NDArray[np.float32], rules: PostProcessing) -> str:
    share = cv2.countNonZero(lungs) / lungs.size
    if share == 0 or share < rules.least_lungs:
        return (
            f"no lungs found: {share:.2%} of the picture is lung (at least {rules.least_lungs:.2%} is needed)"
        )
    needed = rules.least_quality - rules.small_lungs_allowance * max(0.0, rules.small_lungs - share)
    if quality < needed:
        return f"no lungs recognised with certainty: expected Dice {quality:.3f} (at least {needed:.3f} is needed)"
    darkness = _darkness(lungs, grey, rules.border_radius)
    if darkness < rules.least_darkness:
        return (
            f"no lungs found: the apparent lungs are not darker than their surroundings (by {darkness:.3f} of the "
            f"grey scale, at least {rules.least_darkness:.3f} is needed)"
        )
    return ""


def _unlike(score: float, least: float) -> str:
    return (
        "no lungs found: the shape, position and grey of the apparent lungs are not those of an axial chest CT "
        f"(score {score:.1f}, at least {least:.1f} is needed)"
    )


def _darkness(lungs: Mask, grey: NDArray[np.float32], radius_share: float) -> float:
    """Mean grey of a ring around the lungs minus that of the lungs; 0 if there is no room for the ring."""
    _, _, width, _ = cv2.boundingRect(lungs)
    side = 2 * max(1, round(radius_share * width)) + 1
    ring = np.asarray(cv2.dilate(lungs, np.ones((side, side), np.uint8)), dtype=np.uint8) - lungs
    if cv2.countNonZero(ring) < RING * cv2.countNonZero(lungs):
        return 0.0
    return float(cv2.mean(grey, ring)[0] - cv2.mean(grey, lungs)[0])
