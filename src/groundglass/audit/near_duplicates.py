"""Find scans that show the same picture: copies, crops, rescaled, recompressed, brighter or mirrored ones.

The search has two stages. The first cheaply compares all pictures: a picture and 39 windows of it, and the
mirror image of each, are reduced to 64 numbers, and an index finds the nearest whole pictures. The second
examines the few remaining pairs: one picture is aligned with the other (enhanced correlation coefficient,
Evangelidis & Psarakis 2008, doi 10.1109/TPAMI.2008.113, which does not depend on contrast and brightness),
and their details are correlated, which even neighbouring slices of one patient do not share.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import groupby, product
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from groundglass.files import sha256
from groundglass.similarity import EXHAUSTIVE, NeighbourIndex, Window, small_pictures, unit_vectors

Grey = NDArray[np.uint8]
Floats = NDArray[np.float32]
NEAR = 0.88
"""Two pictures count as the same if their details correlate at least this well. Chosen on planted copies
(benchmarks/README.md) and covid-ct: for 97% of its slices, the nearest different slice reaches at most
0.75."""
HOPELESS = 0.65
"""Pairs whose details agree less after a first, coarse alignment are discarded."""
LIKE = 0.5
"""A pair is examined closely if its likeness in the first stage is at least this high."""
EFFORT, EFFORT_OF_MANY = (3, 24), (1, 12)
"""Neighbours that are looked up for each window, and pairs that are kept for each picture; the second number
applies if there are more than EXHAUSTIVE pictures."""
SIDES = ((1.0, 1), (0.94, 2), (0.88, 3), (0.82, 3), (0.76, 4))
"""Sides of the windows, and how many of each fit along an axis."""
COARSE, NUMBERS, WHITENED = 16, 64, 0.5
"""Side of the smallest picture, numbers kept of it, and the exponent by which principal components are
equalised."""
FEW = 32
"""With at most this many pictures, the usual appearance of slices, or of a window of them, is unknown."""
LEVELS = (32, 64)
"""Sides at which pictures are successively aligned."""
FINE, BROAD = 1 / 128, 3 / 128
"""Details are between these scales: standard deviations as shares of the picture's side."""
LEAST_COMMON = 0.75
"""Share of one picture that must be within the other after alignment."""
_STOP = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 20, 1e-3)
_EVERYWHERE: Any = None  # OpenCV accepts None as a mask, its stubs do not.


@dataclass(frozen=True, order=True)
class DuplicatePair:
    """Two scans that show the same picture.

    Attributes
    ----------
    first, second
        Their indices, ``first < second``.
    likeness
        Correlation of their details, 1 for equal files.
    how
        ``same file``: equal byte for byte. ``same picture``: equal up to size, cut, contrast and compression.
    mirrored
        Whether one is the other's mirror image.
    """

    first: int
    second: int
    likeness: float
    how: Literal["same file", "same picture"]
    mirrored: bool = False


def find_duplicates(paths: Sequence[Path | str], grey: Grey) -> list[DuplicatePair]:
    """Find all pairs of scans that show the same picture.

    Parameters
    ----------
    paths
        The scans' files.
    grey
        uint8, shape (slices, side, side): the whole slices, stretched.

    Returns
    -------
    The pairs, sorted by index. Each of several equal files is paired with the first of them. A picture with
    many copies in different files is not paired with all of them, but each copy is paired with some other.
    """
    found = list(_equal_files(paths))
    copies: dict[int, list[int]] = {}
    for pair in found:
        copies.setdefault(pair.first, [pair.first]).append(pair.second)
    kept = np.setdiff1d(np.arange(len(grey)), [pair.second for pair in found]).tolist()
    for pair in similar_pictures(grey[kept] if found else grey):
        one, other = kept[pair.first], kept[pair.second]
        for ends in product(copies.get(one, [one]), copies.get(other, [other])):
            found.append(replace(pair, first=min(ends), second=max(ends)))
    return sorted(found)


def similar_pictures(grey: Grey) -> list[DuplicatePair]:
    """The pairs of pictures that are the same up to size, cut, contrast, compression and mirroring.

    Parameters
    ----------
    grey
        As in :func:`find_duplicates`.
    """
    pairs = candidates(grey)
    likeness = _DetailComparison(grey).likeness
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        compared = zip(pairs, pool.map(likeness, pairs), strict=True)
        return [
            DuplicatePair(
                min(pair.whole, pair.part),
                max(pair.whole, pair.part),
                round(alike, 4),
                "same picture",
                mirrored,
            )
            for pair, (alike, mirrored) in compared
            if alike >= NEAR
        ]


def clusters(count: int, pairs: Iterable[tuple[int, int]]) -> NDArray[np.intp]:
    """The cluster of each of ``count`` scans, numbered from 0; scans in a pair share one."""
    ends = np.array(list(pairs), dtype=np.intp).reshape(-1, 2)
    links = coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(count, count))
    return np.asarray(connected_components(links, directed=False)[1], dtype=np.intp)


def _equal_files(paths: Sequence[Path | str]) -> Iterable[DuplicatePair]:
    sizes = sorted((Path(path).stat().st_size, place) for place, path in enumerate(paths))
    for _, same_size in groupby(sizes, key=lambda item: item[0]):
        places = [place for _, place in same_size]
        seen: dict[str, int] = {}
        for place in places if len(places) > 1 else ():
            first = seen.setdefault(sha256(Path(paths[place])), place)
            if first != place:
                yield DuplicatePair(first, place, 1.0, "same file")


@dataclass(frozen=True)
class CandidatePair:
    """Two pictures that may be the same: windows of ``whole`` that look like all of ``part``."""

    whole: int
    part: int
    windows: tuple[tuple[Window, bool], ...]
    """The best window as it is and the best mirrored one, if any; the more similar one first."""


def windows() -> list[Window]:
    """The windows of a picture that are compared, the whole picture first."""
    return [
        (top, left, side)
        for side, count in SIDES
        for top, left in product(np.linspace(0, 1 - side, count).tolist(), repeat=2)
    ] + [(0.04, 0.04, 0.92)]


def candidates(grey: Grey) -> list[CandidatePair]:
    """Pairs of pictures that look alike as a whole: the first stage."""
    if len(grey) < 2:
        return []
    describe = _describer(grey)
    index = NeighbourIndex(describe(small_pictures(grey, COARSE)))
    neighbours, kept = EFFORT if len(grey) <= EXHAUSTIVE else EFFORT_OF_MANY
    views = [(window, mirrored) for window in windows() for mirrored in (False, True)]
    rows = []
    for view, (window, mirrored) in enumerate(views):
        coarse = small_pictures(grey, COARSE, window)
        like, near = index.search(describe(coarse[:, :, ::-1] if mirrored else coarse), neighbours + 1)
        whole = np.broadcast_to(np.arange(len(grey))[:, None], near.shape)
        chosen = (like >= LIKE) & (near != whole) & (near >= 0)
        rated = _rated(like[chosen], few=len(grey) <= FEW)
        rows.append(np.column_stack([whole[chosen], near[chosen], np.full(len(rated), view), rated]))
    return _best(np.concatenate(rows).astype(np.int64), views, kept)


def _rated(like: Floats, *, few: bool) -> NDArray[np.float64]:
    """How much more alike than usual in this view; windows are less alike than whole pictures."""
    distance = np.log(1.001 - np.minimum(like.astype(np.float64), 1))
    usual = 0.0 if few or not len(distance) else float(np.median(distance))
    return np.rint(1000 * (usual - distance))


def _best(rows: NDArray[np.int64], views: list[tuple[Window, bool]], at_most: int) -> list[CandidatePair]:
    """The ``at_most`` most likely pairs of each picture, from rows of whole, part, view and likeness."""
    rows = rows[np.argsort(-rows[:, 3], kind="stable")]
    low, high = rows[:, :2].min(axis=1), rows[:, :2].max(axis=1)
    key = low * (int(high.max(initial=0)) + 1) + high
    _, first, pair_of = np.unique(key, return_index=True, return_inverse=True)
    # Pairs in descending order of their best likeness; kept if they are among the best of either picture.
    order = np.sort(first)
    seen: dict[int, int] = {}
    kept = set()
    for row in order.tolist():
        one, other = int(low[row]), int(high[row])
        seen[one], seen[other] = seen.get(one, 0) + 1, seen.get(other, 0) + 1
        if min(seen[one], seen[other]) <= at_most:
            kept.add(int(pair_of[row]))
    # Lungs are nearly symmetric: the best windows may all be mirrored although the picture is not.
    tried: dict[tuple[int, int], dict[bool, Window]] = {}
    direction: dict[int, tuple[int, int]] = {}
    for row, pair in enumerate(pair_of.tolist()):
        if pair in kept:
            whole, part, view, _ = rows[row].tolist()
            if direction.setdefault(pair, (whole, part)) == (whole, part):
                window, mirrored = views[view]
                tried.setdefault((whole, part), {}).setdefault(mirrored, window)
    return [
        CandidatePair(whole, part, tuple((window, mirrored) for mirrored, window in best.items()))
        for (whole, part), best in tried.items()
    ]


def _describer(grey: Grey) -> Callable[[Grey], Floats]:
    """A function from coarse pictures to unit vectors that give little weight to what all slices share."""

    if len(grey) <= FEW:
        return unit_vectors
    step = max(1, len(grey) // EXHAUSTIVE)
    sample = unit_vectors(small_pictures(grey[::step], COARSE))
    mean = sample.mean(axis=0)
    _, spread, axes = np.linalg.svd(sample - mean, full_matrices=False)
    kept = spread[:NUMBERS] > 1e-4 * spread[0] + 1e-9
    matrix = (axes[:NUMBERS][kept].T / spread[:NUMBERS][kept] ** WHITENED).astype(np.float32)

    def describe(coarse: Grey) -> Floats:
        vectors = (unit_vectors(coarse) - mean) @ matrix
        return np.asarray(vectors / (np.linalg.norm(vectors, axis=1, keepdims=True) + np.float32(1e-6)))

    return describe


class _DetailComparison:
    """The second stage: aligns two pictures and correlates their details, first coarsely, then closely.

    Parameters
    ----------
    grey
        uint8, shape (slices, side, side).
    """

    def __init__(self, grey: Grey) -> None:
        self._grey = grey
        self._coarse = np.array([_shrunk(picture, LEVELS[0]) for picture in grey])
        self._details = np.array([_details(picture) for picture in self._coarse], dtype=np.float16)

    def likeness(self, pair: CandidatePair) -> tuple[float, bool]:
        """Correlation of the details after alignment from the best window, 0 without one, and whether mirrored."""
        best = 0.0, False
        for window, mirrored in pair.windows:
            best = max(best, (self._aligned(pair, window, mirrored), mirrored))
            if best[0] >= NEAR:
                break
        return best

    def _aligned(self, pair: CandidatePair, window: Window, mirrored: bool) -> float:
        top, left, side = window
        if mirrored:
            left = 1 - left - side
        coarse, close = LEVELS
        middle = (side - 1) / 2
        warp = np.array(
            [[side, 0, left * coarse + middle], [0, side, top * coarse + middle]], dtype=np.float32
        )
        found = _align(_turned(self._coarse[pair.whole], mirrored), self._coarse[pair.part], warp)
        if found is None:
            return 0.0
        details = (self._details[place].astype(np.float32) for place in (pair.whole, pair.part))
        if _agreement(_turned(next(details), mirrored), next(details), found) < HOPELESS:
            return 0.0
        whole, part = _turned(self._grey[pair.whole], mirrored), self._grey[pair.part]
        found = _align(_shrunk(whole, close), _shrunk(part, close), _rescaled(found, close / coarse))
        if found is None:
            return 0.0
        # Details of the mapped picture, since those of the whole one have another scale.
        scaled = _rescaled(found, len(whole) / close)
        mapped = _mapped(whole, part.shape, scaled)
        return _agreement(_details(mapped), _details(part), scaled, mapped=True)


def _turned(picture: Any, mirrored: bool) -> Any:
    return np.ascontiguousarray(picture[:, ::-1]) if mirrored else picture


def _shrunk(picture: Grey, side: int) -> Grey:
    return np.asarray(cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA))


def _align(whole: Grey, part: Grey, warp: Any) -> Any:
    """The affine map from ``part`` into ``whole``, refined from a first guess; None if they cannot be aligned."""
    try:
        return cv2.findTransformECC(part, whole, warp.copy(), cv2.MOTION_AFFINE, _STOP, _EVERYWHERE, 3)[1]
    except cv2.error:
        return None


def _rescaled(warp: Any, factor: float) -> Any:
    """The same affine map between pictures that are ``factor`` times as large, with pixels as squares."""
    larger = warp.copy()
    larger[:, 2] = factor * warp[:, 2] + (factor - 1) / 2 * (1 - warp[:, :2].sum(axis=1))
    return larger


def _mapped(whole: Any, shape: tuple[int, ...], warp: Any) -> Any:
    """The area of ``whole`` that a picture of this shape covers."""
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(whole, warp, shape[::-1], flags=flags, borderMode=cv2.BORDER_REFLECT)


def _agreement(whole: Floats, part: Floats, warp: Any, *, mapped: bool = False) -> float:
    """Correlation of details in the area that both pictures show; 0 if it is too small.

    ``mapped`` says that ``whole`` is already mapped.
    """
    flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    common = cv2.warpAffine(np.ones(whole.shape, np.uint8), warp, part.shape[::-1], flags=flags) > 0
    if common.mean() < LEAST_COMMON:
        return 0.0
    one, other = (whole if mapped else _mapped(whole, part.shape, warp))[common], part[common]
    one, other = one - one.mean(), other - other.mean()
    return float((one * other).sum() / (np.sqrt((one**2).sum() * (other**2).sum()) + 1e-9))


def _details(picture: Any) -> Floats:
    """The structure between the fine and the broad scale, normalised to the same strength everywhere."""
    grey, side = picture.astype(np.float32), len(picture)
    details = cv2.GaussianBlur(grey, (0, 0), FINE * side) - cv2.GaussianBlur(grey, (0, 0), BROAD * side)
    strength = np.sqrt(cv2.GaussianBlur(details * details, (0, 0), 2 * BROAD * side))
    return np.asarray(details / (strength + np.float32(3)), dtype=np.float32)
