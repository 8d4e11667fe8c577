"""Finding scans that show the same picture: copies, crops, rescaled, recompressed, brighter or mirrored ones.

In two stages. The first compares everything with everything, cheaply: a picture and 39 windows of it, and the
mirror image of each, become 64 numbers, and the nearest whole pictures to each are looked up in an index. The
second looks closely at the few pairs that are left: one picture is aligned with the other (enhanced correlation
coefficient: Evangelidis & Psarakis 2008, doi 10.1109/TPAMI.2008.113, which contrast and brightness do not change),
and then their details are correlated, which even neighbouring slices of one patient do not share.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import groupby, product
from pathlib import Path
from typing import Any, Literal

import cv2
import faiss
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from groundglass.files import sha256

Grey = NDArray[np.uint8]
Floats = NDArray[np.float32]
Window = tuple[float, float, float]
"""Top, left and side of a part of a picture, in shares of its height and width."""

NEAR = 0.88
"""Correlation of details from which on two pictures are the same. Chosen on planted copies (benchmarks/README.md)
and covid-ct: of its slices, the nearest that show something else reach 0.75 in 97 of 100 cases."""
HOPELESS = 0.65
"""Pairs whose details agree less after a first, coarse alignment are not looked at again."""
LIKE = 0.5
"""Likeness in the first stage from which on a pair is looked at."""
EFFORT, EFFORT_OF_MANY = (3, 24), (1, 12)
"""Neighbours that are looked up for each window, and pairs that are kept for each picture: of few and of many."""
SIDES = ((1.0, 1), (0.94, 2), (0.88, 3), (0.82, 3), (0.76, 4))
"""Sides of the windows, and how many of each lie along an axis."""
COARSE, NUMBERS, WHITENED = 16, 64, 0.5
"""Side of the smallest picture, numbers kept of it, and the power to which principal components are evened out."""
FEW = 32
"""Of up to so many pictures it cannot be told what is usual, neither in slices nor in a window of them."""
EXHAUSTIVE = 20_000
"""Up to so many pictures are few, and all of the index is searched through; beyond, near clusters of it are."""
PROBED = 12
LEVELS = (32, 64)
"""Sides at which pictures are aligned, one after the other."""
FINE, BROAD = 1 / 128, 3 / 128
"""Details lie between these scales: standard deviations in shares of the picture's side."""
LEAST_COMMON = 0.75
"""Share of the one picture that must lie within the other after alignment."""
_STOP = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 20, 1e-3)
_EVERYWHERE: Any = None  # OpenCV takes None for a mask, its stubs do not.


@dataclass(frozen=True, order=True)
class Twin:
    """Two scans that show the same picture.

    Attributes
    ----------
    first, second
        Their places, ``first < second``.
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


def find_twins(
    paths: Sequence[Path | str], grey: Grey, tell: Callable[[str], None] | None = None
) -> list[Twin]:
    """Find all pairs of scans that show the same picture.

    Parameters
    ----------
    paths
        The scans' files.
    grey
        uint8, shape (slices, side, side): the whole slices, stretched.
    tell
        Called with what is done next.

    Returns
    -------
    The pairs, by their places. Of files that are equal each is listed with the first of them. Of pictures with
    many copies in files that differ not every pair is listed, but each with some other.
    """
    equal = list(_equal_files(paths))
    copies: dict[int, list[int]] = {}
    for twin in equal:
        copies.setdefault(twin.first, [twin.first]).append(twin.second)
    kept = np.setdiff1d(np.arange(len(grey)), [twin.second for twin in equal]).tolist()
    similar = similar_pictures(grey[kept] if equal else grey, tell)
    found = equal
    for twin in similar:
        one, other = kept[twin.first], kept[twin.second]
        for ends in product(copies.get(one, [one]), copies.get(other, [other])):
            found.append(replace(twin, first=min(ends), second=max(ends)))
    return sorted(found)


def similar_pictures(grey: Grey, tell: Callable[[str], None] | None = None) -> list[Twin]:
    """The pairs of pictures that are the same up to size, cut, contrast, compression and mirroring.

    Parameters
    ----------
    grey, tell
        As in :func:`find_twins`.
    """
    say = tell or (lambda _: None)
    say("comparing pictures")
    pairs = candidates(grey)
    say(f"looking closely at {len(pairs)} pairs")
    found = []
    look = _Looker(grey).likeness
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for pair, (likeness, mirrored) in zip(pairs, pool.map(look, pairs), strict=True):
            if likeness >= NEAR:
                found.append(Twin(pair.first, pair.second, round(likeness, 4), "same picture", mirrored))
    return found


def clusters(count: int, pairs: Iterable[tuple[int, int]]) -> NDArray[np.intp]:
    """Number of the cluster that each of ``count`` scans belongs to, those in a pair being in one; from 0 on."""
    ends = np.array(list(pairs), dtype=np.intp).reshape(-1, 2)
    links = coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(count, count))
    return np.asarray(connected_components(links, directed=False)[1], dtype=np.intp)


def _equal_files(paths: Sequence[Path | str]) -> Iterable[Twin]:
    sizes = sorted((Path(path).stat().st_size, place) for place, path in enumerate(paths))
    for _, same_size in groupby(sizes, key=lambda item: item[0]):
        places = [place for _, place in same_size]
        seen: dict[str, int] = {}
        for place in places if len(places) > 1 else ():
            first = seen.setdefault(sha256(Path(paths[place])), place)
            if first != place:
                yield Twin(first, place, 1.0, "same file")


@dataclass(frozen=True)
class Pair:
    """Two pictures that may be the same: windows of ``whole`` that look like all of ``part``."""

    whole: int
    part: int
    windows: tuple[tuple[Window, bool], ...]
    """The best one as it is and the best mirrored one, if any; the more alike first, each with whether mirrored."""

    @property
    def first(self) -> int:
        """The lower place."""
        return min(self.whole, self.part)

    @property
    def second(self) -> int:
        """The higher place."""
        return max(self.whole, self.part)


def windows() -> list[Window]:
    """The windows of a picture that are compared, the whole first."""
    return [
        (top, left, side)
        for side, count in SIDES
        for top, left in product(np.linspace(0, 1 - side, count).tolist(), repeat=2)
    ] + [(0.04, 0.04, 0.92)]


def candidates(grey: Grey) -> list[Pair]:
    """Pairs of pictures that look alike as a whole: the first stage."""
    if len(grey) < 2:
        return []
    describe = _describer(grey)
    index = _index(describe(_coarse(grey, (0.0, 0.0, 1.0))))
    threads = faiss.omp_get_max_threads()
    neighbours, kept = EFFORT if len(grey) <= EXHAUSTIVE else EFFORT_OF_MANY
    if len(grey) <= EXHAUSTIVE:
        # Short searches gain nothing from threads, which on a busy machine wait for each other.
        faiss.omp_set_num_threads(1)
    try:
        return _best(*_neighbours(grey, describe, index, neighbours), kept)
    finally:
        faiss.omp_set_num_threads(threads)


def _neighbours(
    grey: Grey, describe: Callable[[Grey], Floats], index: Any, count: int
) -> tuple[NDArray[np.int64], list[tuple[Window, bool]]]:
    """Rows of whole, part, view and likeness, and the views: the ``count`` nearest to each view of each picture."""
    views = [(window, mirrored) for window in windows() for mirrored in (False, True)]
    rows = []
    for window in windows():
        coarse = _coarse(grey, window)
        for mirrored in (False, True):
            like, near = index.search(describe(coarse[:, :, ::-1] if mirrored else coarse), count + 1)
            whole = np.broadcast_to(np.arange(len(grey))[:, None], near.shape)
            kept = (like >= LIKE) & (near != whole) & (near >= 0)
            view = np.full(int(kept.sum()), views.index((window, mirrored)))
            rated = _rated(like[kept], few=len(grey) <= FEW)
            rows.append(np.column_stack([whole[kept], near[kept], view, rated]))
    return np.concatenate(rows).astype(np.int64), views


def _rated(like: Floats, *, few: bool) -> NDArray[np.float64]:
    """How much more alike than is usual in this view; the views of a part are less alike than whole pictures."""
    distance = np.log(1.001 - np.minimum(like.astype(np.float64), 1))
    usual = 0.0 if few or not len(distance) else float(np.median(distance))
    return np.rint(1000 * (usual - distance))


def _best(rows: NDArray[np.int64], views: list[tuple[Window, bool]], at_most: int) -> list[Pair]:
    """The ``at_most`` likeliest pairs of each picture, from rows of whole, part, view and likeness."""
    rows = rows[np.argsort(-rows[:, 3], kind="stable")]
    low, high = rows[:, :2].min(axis=1), rows[:, :2].max(axis=1)
    key = low * (int(high.max(initial=0)) + 1) + high
    _, first, pair_of = np.unique(key, return_index=True, return_inverse=True)
    # Pairs in falling order of their best likeness; kept where they are among the best of either picture.
    order = np.sort(first)
    seen: dict[int, int] = {}
    kept = set()
    for row in order.tolist():
        one, other = int(low[row]), int(high[row])
        seen[one], seen[other] = seen.get(one, 0) + 1, seen.get(other, 0) + 1
        if min(seen[one], seen[other]) <= at_most:
            kept.add(int(pair_of[row]))
    # Lungs are nearly symmetric: the best windows may all be mirrored though the picture is not.
    tried: dict[tuple[int, int], dict[bool, Window]] = {}
    direction: dict[int, tuple[int, int]] = {}
    for row, pair in enumerate(pair_of.tolist()):
        if pair in kept:
            whole, part, view, _ = rows[row].tolist()
            if direction.setdefault(pair, (whole, part)) == (whole, part):
                window, mirrored = views[view]
                tried.setdefault((whole, part), {}).setdefault(mirrored, window)
    return [
        Pair(whole, part, tuple((window, mirrored) for mirrored, window in best.items()))
        for (whole, part), best in tried.items()
    ]


def _coarse(grey: Grey, window: Window) -> Grey:
    """A window of each picture as 16 x 16 pixels."""
    top, left, side = (round(share * grey.shape[1]) for share in window)
    parts = grey[:, top : top + side, left : left + side]
    small = [cv2.resize(part, (COARSE, COARSE), interpolation=cv2.INTER_AREA) for part in parts]
    return np.array(small, dtype=np.uint8)


def _describer(grey: Grey) -> Callable[[Grey], Floats]:
    """From coarse pictures to unit vectors in which what all slices have in common weighs little."""

    def normed(vectors: Floats) -> Floats:
        return vectors / (np.linalg.norm(vectors, axis=1, keepdims=True) + np.float32(1e-6))

    def flat(coarse: Grey) -> Floats:
        vectors = coarse.reshape(len(coarse), -1).astype(np.float32)
        return np.ascontiguousarray(normed(vectors - vectors.mean(axis=1, keepdims=True)))

    if len(grey) <= FEW:
        return flat
    step = max(1, len(grey) // EXHAUSTIVE)
    sample = flat(_coarse(grey[::step], (0.0, 0.0, 1.0)))
    mean = sample.mean(axis=0)
    _, spread, axes = np.linalg.svd(sample - mean, full_matrices=False)
    kept = spread[:NUMBERS] > 1e-4 * spread[0] + 1e-9
    matrix = (axes[:NUMBERS][kept].T / spread[:NUMBERS][kept] ** WHITENED).astype(np.float32)
    return lambda coarse: np.ascontiguousarray(normed((flat(coarse) - mean) @ matrix), dtype=np.float32)


def _index(vectors: Floats) -> Any:
    size = vectors.shape[1]
    flat = faiss.IndexFlatIP(size)
    if len(vectors) <= EXHAUSTIVE:
        flat.add(vectors)
        return flat
    clusters_of_it = int(4 * np.sqrt(len(vectors)))
    index = faiss.IndexIVFFlat(flat, size, clusters_of_it, faiss.METRIC_INNER_PRODUCT)
    index.cp.seed = 1
    index.train(vectors)
    index.add(vectors)
    index.nprobe = PROBED
    return index


class _Looker:
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

    def likeness(self, pair: Pair) -> tuple[float, bool]:
        """Correlation of the details, aligned from the best window that leads anywhere, and whether it is mirrored.

        0 where none leads anywhere.
        """
        best = 0.0, False
        for window, mirrored in pair.windows:
            best = max(best, (self._aligned(pair, window, mirrored), mirrored))
            if best[0] >= NEAR:
                break
        return best

    def _aligned(self, pair: Pair, window: Window, mirrored: bool) -> float:
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
        # Details of the mapped picture, since those of the whole one are of another scale.
        scaled = _rescaled(found, len(whole) / close)
        mapped = _mapped(whole, part.shape, scaled)
        return _agreement(_details(mapped), _details(part), scaled, mapped=True)


def _turned(picture: Any, mirrored: bool) -> Any:
    return np.ascontiguousarray(picture[:, ::-1]) if mirrored else picture


def _shrunk(picture: Grey, side: int) -> Grey:
    return np.asarray(cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA))


def _align(whole: Grey, part: Grey, warp: Any) -> Any:
    """The affine map from ``part`` into ``whole``, from a first guess on; None where they cannot be aligned."""
    try:
        return cv2.findTransformECC(part, whole, warp.copy(), cv2.MOTION_AFFINE, _STOP, _EVERYWHERE, 3)[1]
    except cv2.error:
        return None


def _rescaled(warp: Any, factor: float) -> Any:
    """The same affine map between pictures that are ``factor`` times as large, pixels being squares."""
    larger = warp.copy()
    larger[:, 2] = factor * warp[:, 2] + (factor - 1) / 2 * (1 - warp[:, :2].sum(axis=1))
    return larger


def _mapped(whole: Any, shape: tuple[int, ...], warp: Any) -> Any:
    """What of ``whole`` lies under a picture of this shape."""
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(whole, warp, shape[::-1], flags=flags, borderMode=cv2.BORDER_REFLECT)


def _agreement(whole: Floats, part: Floats, warp: Any, *, mapped: bool = False) -> float:
    """Correlation of details where both pictures are; 0 where they share too little.

    ``mapped`` tells that ``whole`` has been mapped already.
    """
    flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    common = cv2.warpAffine(np.ones(whole.shape, np.uint8), warp, part.shape[::-1], flags=flags) > 0
    if common.mean() < LEAST_COMMON:
        return 0.0
    one, other = (whole if mapped else _mapped(whole, part.shape, warp))[common], part[common]
    one, other = one - one.mean(), other - other.mean()
    return float((one * other).sum() / (np.sqrt((one**2).sum() * (other**2).sum()) + 1e-9))


def _details(picture: Any) -> Floats:
    """What lies between the fine and the broad scale, brought to one strength everywhere."""
    grey, side = picture.astype(np.float32), len(picture)
    details = cv2.GaussianBlur(grey, (0, 0), FINE * side) - cv2.GaussianBlur(grey, (0, 0), BROAD * side)
    strength = np.sqrt(cv2.GaussianBlur(details * details, (0, 0), 2 * BROAD * side))
    return np.asarray(details / (strength + np.float32(3)), dtype=np.float32)
