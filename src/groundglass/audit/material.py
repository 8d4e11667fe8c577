"""The subject of the checks of data: labelled scans, each read once and kept as a small picture."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from groundglass.audit.headers import read_headers
from groundglass.audit.hidden_groups import HiddenGroups, hidden_groups
from groundglass.audit.marks import Marks, find_marks
from groundglass.audit.near_duplicates import DuplicatePair, find_duplicates
from groundglass.data.splits import groups
from groundglass.errors import ScanError
from groundglass.evaluation.predictions import unit_codes
from groundglass.labels import POSITIVE
from groundglass.preprocess import Preprocessing
from groundglass.scan.scan import Scan
from groundglass.segment.masks import Segmentation
from groundglass.segment.segmenter import Segmenter, answer_files

Pixel = TypeVar("Pixel", np.uint8, np.bool_)

SIDE = 128
"""Height and width of the small pictures: the whole slice, stretched."""


@dataclass(frozen=True)
class SmallPictures:
    """Small pictures and marks of the scans that could be read, in their order.

    Attributes
    ----------
    grey
        uint8, shape (slices, 128, 128): whole slices, stretched.
    lungs, lesions
        bool, the same shape; all False if no lungs were found or looked for.
    marks
        Burnt-in marks of each slice.
    """

    grey: NDArray[np.uint8]
    lungs: NDArray[np.bool_]
    lesions: NDArray[np.bool_]
    marks: tuple[Marks, ...]

    @property
    def found(self) -> NDArray[np.bool_]:
        """bool, shape (slices,): whether lungs were found."""
        return np.asarray(self.lungs.any(axis=(1, 2)))


def read_pictures(
    paths: Sequence[Path],
    segmenter: Segmenter | None,
    watch: Callable[[Iterator[Any], int], Iterator[Any]] | None = None,
) -> tuple[SmallPictures, list[int], list[ScanError]]:
    """Read scans.

    Parameters
    ----------
    paths
        The scans' files.
    segmenter
        Finds lungs and lesions; None leaves them out.
    watch
        Passes the results on and draws a progress bar.

    Returns
    -------
    The pictures, the indices in ``paths`` of the scans that could be read, and the errors of the rest.
    """

    answers: Iterator[tuple[Path, tuple[Any, ...] | ScanError]]
    if segmenter is None:
        answers = answer_files(paths, lambda scans: (_reduced(scan, None) for scan in scans))
    else:
        segmented = segmenter.segment_files(paths)
        answers = ((path, one if isinstance(one, ScanError) else _reduced(*one)) for path, one in segmented)
    read: dict[int, tuple[Any, ...]] = {}
    errors: list[ScanError] = []
    for place, (_, one) in enumerate(watch(answers, len(paths)) if watch else answers):
        if isinstance(one, ScanError):
            errors.append(one)
        else:
            read[place] = one
    grey, lungs, lesions, marks = zip(*read.values(), strict=True) if read else ((), (), (), ())
    shape = (len(read), SIDE, SIDE)
    pictures = SmallPictures(
        np.array(grey, dtype=np.uint8).reshape(shape),
        np.array(lungs, dtype=bool).reshape(shape),
        np.array(lesions, dtype=bool).reshape(shape),
        marks,
    )
    return pictures, list(read), errors


def _reduced(scan: Scan, found: Segmentation | None) -> tuple[Any, ...]:
    picture = Preprocessing().picture(scan)
    masks = (
        (found.trusted_lungs, found.trusted_lesions) if found else (np.zeros((SIDE, SIDE), dtype=bool),) * 2
    )
    return small_picture(picture), *map(small_picture, masks), find_marks(picture)


def small_picture(picture: NDArray[Pixel]) -> NDArray[Pixel]:
    """Stretch a picture or a mask to 128 x 128, averaging."""
    way = cv2.INTER_AREA if min(picture.shape) >= SIDE else cv2.INTER_LINEAR
    is_mask = picture.dtype == bool
    grey: Any = picture.astype(np.uint8) * 255 if is_mask else picture
    stretched: Any = cv2.resize(grey, (SIDE, SIDE), interpolation=way)
    return stretched > 127 if is_mask else stretched


@dataclass
class Material:
    """Labelled scans and measurements on them; anything slow is computed once.

    Attributes
    ----------
    name
        The dataset's name, for messages.
    manifest
        Rows of the scans that could be read, as :func:`groundglass.data.manifest.read_manifest` returns them.
    pictures
        The scans as small pictures, in the same order.
    unreadable, unread
        The errors of the scans that could not be read, and their rows in the manifest, in the same order.
    with_lungs
        Whether lungs were looked for.
    seed
        Seed of everything random.
    """

    name: str
    manifest: pd.DataFrame
    pictures: SmallPictures
    unreadable: tuple[ScanError, ...] = ()
    unread: pd.DataFrame = field(default_factory=pd.DataFrame)
    with_lungs: bool = True
    seed: int = 0

    NEEDS: ClassVar[dict[str, Callable[["Material"], str]]]

    @cached_property
    def paths(self) -> NDArray[np.object_]:
        """Absolute paths, str, shape (slices,)."""
        return self.manifest["path"].to_numpy(dtype=object)

    @cached_property
    def truth(self) -> NDArray[np.bool_]:
        """Whether each slice is labelled COVID-19, shape (slices,)."""
        return (self.manifest["label"] == POSITIVE).to_numpy(dtype=bool)

    @cached_property
    def parts(self) -> NDArray[np.str_]:
        """``train``, ``val``, ``test`` or blank for each slice, shape (slices,)."""
        return self.manifest["split"].to_numpy(dtype=str)

    @cached_property
    def units(self) -> NDArray[np.intp]:
        """The group of each slice according to the manifest, numbered from 0, shape (slices,)."""
        return unit_codes(groups(self.manifest))

    @cached_property
    def headers(self) -> pd.DataFrame:
        """Each file's header; see :func:`read_headers`."""
        return read_headers([Path(path) for path in self.paths])

    @cached_property
    def duplicates(self) -> list[DuplicatePair]:
        """Pairs of scans that show the same picture, exactly or nearly."""
        return find_duplicates(self.paths.tolist(), self.pictures.grey)

    @cached_property
    def hidden(self) -> HiddenGroups:
        """Groups guessed from the order of the files and the likeness of neighbours."""
        return hidden_groups(self.manifest, self.pictures.grey, self.duplicates, self.seed)


def _lungs(material: Material) -> str:
    if not material.with_lungs:
        return "The lungs were not segmented."
    return "" if material.pictures.found.any() else "No lungs were found on any slice."


def _several(column: str, otherwise: str) -> Callable[[Material], str]:
    return lambda material: "" if len(set(material.manifest[column]) - {""}) > 1 else otherwise


Material.NEEDS = {
    "two classes": lambda material: (
        "" if material.truth.any() and not material.truth.all() else "All scans are of one class."
    ),
    "two parts": _several("split", "The manifest is not divided into parts."),
    "two sources": _several("source", "All scans are from one source."),
    "lungs": _lungs,
}
"""For each need of a check, why the material does not meet it; "" if it does."""
