"""Reading all scans once, and keeping of each what the checks need: a small picture and where the lungs are."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from groundglass.audit.marks import Marks, find_marks
from groundglass.errors import ScanError
from groundglass.preprocess import Preprocessing
from groundglass.scan.scan import Scan
from groundglass.segment.masks import Segmentation
from groundglass.segment.segmenter import Segmenter, answer_files

Pixel = TypeVar("Pixel", np.uint8, np.bool_)

SIDE = 128
"""Height and width of the small pictures: the whole slice, stretched."""


@dataclass(frozen=True)
class Looks:
    """What is kept of scans that could be read, in their order.

    Attributes
    ----------
    grey
        uint8, shape (slices, 128, 128): whole slices, stretched.
    lungs, lesions
        bool, the same shape; nowhere on a slice where no lungs were found, or none were looked for.
    marks
        What looks burnt in, of each slice.
    """

    grey: NDArray[np.uint8]
    lungs: NDArray[np.bool_]
    lesions: NDArray[np.bool_]
    marks: tuple[Marks, ...]

    @property
    def found(self) -> NDArray[np.bool_]:
        """bool, shape (slices,): whether lungs were found."""
        return np.asarray(self.lungs.any(axis=(1, 2)))


@dataclass(frozen=True)
class _Look:
    grey: NDArray[np.uint8]
    lungs: NDArray[np.bool_]
    lesions: NDArray[np.bool_]
    marks: Marks


def look(
    paths: Sequence[Path],
    segmenter: Segmenter | None,
    watch: Callable[[Iterator[Any], int], Iterator[Any]] | None = None,
) -> tuple[Looks, list[int], list[ScanError]]:
    """Read scans.

    Parameters
    ----------
    paths
        The scans' files.
    segmenter
        Finds lungs and lesions; None leaves them out.
    watch
        Passes the answers on and draws a progress bar.

    Returns
    -------
    What was seen, the places in ``paths`` of those that could be read, and the errors of the others.
    """

    def answer(scans: Iterable[Scan]) -> Iterator[_Look]:
        if segmenter is None:
            return (_look(scan, None) for scan in scans)
        return (_look(scan, found) for scan, found in segmenter.segment_scans(scans))

    seen: list[_Look] = []
    places: list[int] = []
    errors: list[ScanError] = []
    answers = answer_files(paths, answer)
    for place, (_, one) in enumerate(watch(answers, len(paths)) if watch else answers):
        if isinstance(one, ScanError):
            errors.append(one)
        else:
            seen.append(one)
            places.append(place)
    shape = (len(seen), SIDE, SIDE)
    looks = Looks(
        np.array([one.grey for one in seen], dtype=np.uint8).reshape(shape),
        np.array([one.lungs for one in seen], dtype=bool).reshape(shape),
        np.array([one.lesions for one in seen], dtype=bool).reshape(shape),
        tuple(one.marks for one in seen),
    )
    return looks, places, errors


def _look(scan: Scan, found: Segmentation | None) -> _Look:
    picture = Preprocessing().picture(scan)
    nowhere = np.zeros((SIDE, SIDE), dtype=bool)
    return _Look(
        small(picture),
        nowhere if found is None else small(found.trusted_lungs),
        nowhere if found is None else small(found.trusted_lesions),
        find_marks(picture),
    )


def small(picture: NDArray[Pixel]) -> NDArray[Pixel]:
    """Stretch a picture or a mask to 128 x 128, averaging."""
    way = cv2.INTER_AREA if min(picture.shape) >= SIDE else cv2.INTER_LINEAR
    is_mask = picture.dtype == bool
    grey: Any = picture.astype(np.uint8) * 255 if is_mask else picture
    stretched: Any = cv2.resize(grey, (SIDE, SIDE), interpolation=way)
    return stretched > 127 if is_mask else stretched
