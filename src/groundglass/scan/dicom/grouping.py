"""Grouping: which frames make one stack of slices."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from functools import partial
from typing import TypeGuard

import numpy as np
from numpy.typing import NDArray

from groundglass.scan.dicom.frame import Frame

SAME_MM = 0.02
"""Positions that are closer along the normal are the same."""
SAME_DIRECTION = 0.01
"""By how much the direction cosines of one stack's slices may differ."""
SAME_SIZE = 1e-3
"""By how much their pixel spacings may, in mm."""
_SLACK = 0.05


def stacks(frames: Iterable[Frame]) -> list[list[Frame]]:
    """Sort frames into stacks: by series, then by what must agree within a stack.

    Rows, columns, orientation, pixel spacing and whether it is a localizer must agree. Where positions repeat, as
    they do for two reconstructions or phases under one SeriesInstanceUID, what tells the frames apart is sought
    among the acquisition, the temporal position, the kernel, the image type and the like.

    Returns
    -------
    Each stack's frames; every frame is in one.
    """
    found = []
    for alike in _split(frames, _fixed).values():
        for turned in _close(alike, lambda frame: frame.orientation, SAME_DIRECTION):
            for scaled in _close(turned, lambda frame: frame.spacing, SAME_SIZE):
                found.extend(_untangled(scaled))
    return found


def localizer(frame: Frame) -> bool:
    """Whether a frame's ImageType says that it is a localizer (scout, topogram)."""
    return "LOCALIZER" in frame.header.image_type


def _fixed(frame: Frame) -> Hashable:
    header, encoding = frame.header, frame.header.encoding
    series = header.series or str(header.found.member.path.parent)
    image = (encoding.rows, encoding.columns, encoding.samples)
    return (
        header.patient,
        header.study,
        series,
        header.modality,
        header.sop_class,
        *image,
        localizer(frame),
        frame.stack,
    )


def _split(frames: Iterable[Frame], key: Callable[[Frame], Hashable]) -> dict[Hashable, list[Frame]]:
    parts: dict[Hashable, list[Frame]] = defaultdict(list)
    for frame in frames:
        parts[key(frame)].append(frame)
    return dict(parts)


def _close(
    frames: list[Frame], value: Callable[[Frame], tuple[float, ...] | None], tolerance: float
) -> list[list[Frame]]:
    """Groups of frames whose values differ by no more than ``tolerance``; those without a value are one group."""
    groups: dict[tuple[float, ...] | None, list[Frame]] = {}
    for frame in frames:
        mine = value(frame)
        same = next((key for key in groups if _agree(key, mine, tolerance)), mine)
        groups.setdefault(same, []).append(frame)
    return list(groups.values())


def _agree(one: tuple[float, ...] | None, other: tuple[float, ...] | None, tolerance: float) -> bool:
    if one is None or other is None:
        return one is other
    return all(abs(a - b) <= tolerance for a, b in zip(one, other, strict=True))


def _untangled(frames: list[Frame]) -> list[list[Frame]]:
    repeats = _repeats(frames)
    if not repeats:
        return [frames]
    for mark in range(max(len(frame.marks) for frame in frames)):
        parts = list(_split(frames, partial(_mark, number=mark)).values())
        few_enough = 1 < len(parts) <= len(frames) / 2
        if few_enough and sum(map(_repeats, parts)) < repeats:
            return [stack for part in parts for stack in _untangled(part)]
    return [frames]


def _mark(frame: Frame, number: int) -> str:
    return frame.marks[number] if number < len(frame.marks) else ""


def _repeats(frames: list[Frame]) -> int:
    """How many frames lie where another one does, one file that is there twice not counted."""
    places = {
        (frame.header.sop_instance or frame.header.found.member, frame.index, height)
        for frame in frames
        if (height := height_mm(frame)) is not None
    }
    heights = np.sort([height for _, _, height in places])
    return int((np.diff(heights) < SAME_MM).sum())


def height_mm(frame: Frame) -> float | None:
    """Where a frame lies along the normal of its plane, in mm; SliceLocation where it states no position."""
    if frame.position is None:
        return frame.location
    return float(np.dot(frame.position, normal(frame.orientation)))


def normal(orientation: tuple[float, ...] | None) -> NDArray[np.float64]:
    """The unit vector across a plane, to the head where it can be; a plane of unknown orientation is axial."""
    if not sound(orientation):
        return np.array([0.0, 0.0, 1.0])
    across = np.cross(orientation[:3], orientation[3:])
    across = across / np.linalg.norm(across)
    return across if across[np.abs(across).argmax()] > 0 else -across


def sound(orientation: tuple[float, ...] | None) -> TypeGuard[tuple[float, ...]]:
    """Whether an ImageOrientationPatient holds two directions at right angles, as it has to."""
    if orientation is None:
        return False
    rows, columns = np.array(orientation[:3]), np.array(orientation[3:])
    lengths = np.linalg.norm(rows), np.linalg.norm(columns)
    return all(abs(length - 1) < _SLACK for length in lengths) and abs(float(rows @ columns)) < _SLACK
