"""Stacking: the order and location of a stack's frames, from their positions alone (PS3.3 C.7.6.2.1.1)."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Literal, TypeGuard, TypeVar

import numpy as np
from numpy.typing import NDArray

from groundglass.scan.dicom.frame import DicomFrame
from groundglass.scan.volume import Geometry, Instance, Origin, Plane, Vector

MAX_OBLIQUE = 25.0
"""Largest angle from the axial plane, in degrees, at which a slice still shows the lungs as an axial one does."""

T = TypeVar("T")
By = Literal["position", "SliceLocation", "InstanceNumber", "nothing"]


@dataclass(frozen=True, eq=False)
class SliceStack:
    """Frames in a volume's order.

    Attributes
    ----------
    frames
        From the feet to the head; empty if none could be placed.
    origin
        How each frame is turned upright.
    geometry
        None if the spacing is not known.
    plane, off_axial
        Orientation of the slices; angle in degrees between their normal and the long axis of the body.
    by
        The header value that determined their order.
    incomplete, unplaced, repeated
        Numbers of frames left out: cut short, without a position although others have one, and at the
        position of another frame; ``copies`` of the last kind are identical images.
    """

    frames: tuple[DicomFrame, ...]
    origin: Origin
    geometry: Geometry | None
    plane: Plane
    off_axial: float
    by: By
    incomplete: int = 0
    unplaced: int = 0
    repeated: int = 0
    copies: int = 0


def stack(frames: list[DicomFrame]) -> SliceStack:
    """Put the frames of one stack in order; see :func:`groundglass.scan.dicom.stacking.stacks`.

    They are ordered by position. Without positions, they are ordered by SliceLocation, or else by
    InstanceNumber, which usually starts at the head.
    """
    complete = [frame for frame in frames if _complete(frame)]
    by, placed = _placed(complete)
    kept, repeated, copies = _once(placed)
    frame = kept[0] if kept else frames[0]
    across = normal(frame.orientation)
    off_axial = float(np.degrees(np.arccos(min(1.0, abs(float(across[2]))))))
    plane = _plane(across) if sound(frame.orientation) else "unknown"
    ordered = tuple(kept)
    origin = _origin(ordered, frame)
    return SliceStack(
        frames=ordered,
        origin=origin,
        geometry=_geometry(ordered, origin, by) if plane in ("axial", "unknown") else None,
        plane=plane,
        off_axial=off_axial,
        by=by,
        incomplete=len(frames) - len(complete),
        unplaced=len(complete) - len(placed),
        repeated=repeated,
        copies=copies,
    )


def _complete(frame: DicomFrame) -> bool:
    encoding = frame.header.encoding
    if encoding.extent is None or not encoding.extent.complete:
        return False
    size = encoding.rows * encoding.columns * encoding.samples * encoding.allocated // 8
    return encoding.extent.encapsulated or encoding.extent.length >= size * (frame.index + 1)


def _placed(frames: list[DicomFrame]) -> tuple[By, list[tuple[float, DicomFrame]]]:
    """Each frame with its height; frames without a height are left out if others have one.

    If all positions are the same, as after a careless anonymisation, SliceLocation is used if it differs.
    """
    positioned = [frame for frame in frames if frame.position is not None]
    located = [(frame.location, frame) for frame in frames if frame.location is not None]
    tell = len(located) > len(frames) / 2 and len({height for height, _ in located}) > 1
    if positioned and not (tell and len({frame.position for frame in positioned}) == 1):
        return "position", [(height_mm(frame) or 0.0, frame) for frame in positioned]
    if tell:
        return "SliceLocation", located
    numbered = [(frame.instance, frame) for frame in frames if frame.instance is not None]
    if len(numbered) > len(frames) / 2 and len({number for number, _ in numbered}) > 1:
        step = _step(numbered[0][1]) or 1.0
        return "InstanceNumber", [(-number * step, frame) for number, frame in numbered]
    return "nothing", [(0.0, frame) for frame in frames]


def _step(frame: DicomFrame) -> float:
    """The slice distance that a header states, in mm; 0 if it states none."""
    return abs(frame.gap or frame.thickness or 0.0)


def _once(placed: list[tuple[float, DicomFrame]]) -> tuple[list[DicomFrame], int, int]:
    """The frames in order, only the first at each height; the number of others, and how many of these were
    copies."""
    ranked = sorted(placed, key=lambda one: (one[0], *_rank(one[1])))
    kept: list[tuple[float, DicomFrame]] = []
    repeated = copies = 0
    for height, frame in ranked:
        if kept and height - kept[-1][0] < SAME_MM:
            before = kept[-1][1]
            same = bool(frame.header.sop_instance) and frame.header.sop_instance == before.header.sop_instance
            copies += same and frame.index == before.index
            repeated += 1
            if _rank(frame) < _rank(before):
                kept[-1] = (kept[-1][0], frame)
        else:
            kept.append((height, frame))
    return [frame for _, frame in kept], repeated, copies


def _rank(frame: DicomFrame) -> tuple[float, str, str, int]:
    number = float("inf") if frame.instance is None else frame.instance
    return number, frame.header.sop_instance, str(frame.header.found.member), frame.index


def _directions(frame: DicomFrame) -> tuple[Vector, Vector]:
    """Unit vectors along a row, and down a column, of the pixels as they are stored."""
    orientation = frame.orientation if sound(frame.orientation) else (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    along, down = np.array(orientation[:3]), np.array(orientation[3:])
    return along / np.linalg.norm(along), down / np.linalg.norm(down)


def _origin(frames: tuple[DicomFrame, ...], example: DicomFrame) -> Origin:
    along, down = _directions(example)
    transposed = abs(along[1]) > abs(along[0])
    if transposed:
        along, down = down, along
    instances = tuple(
        Instance(frame.header.found.member, frame.header.sop_instance, frame.index) for frame in frames
    )
    return Origin(instances, bool(transposed), bool(down[1] < 0), bool(along[0] < 0))


def _geometry(frames: tuple[DicomFrame, ...], origin: Origin, by: By) -> Geometry | None:
    if not frames or frames[0].spacing is None or min(frames[0].spacing) <= 0:
        return None
    positions = _positions(frames, by)
    if positions is None:
        return None
    down_mm, along_mm = frames[0].spacing
    along, down = _directions(frames[0])
    along, down = along * along_mm, down * down_mm
    last_row, last_column = frames[0].header.encoding.rows - 1, frames[0].header.encoding.columns - 1
    if origin.transposed:
        along, down = down, along
        last_row, last_column = last_column, last_row
    if origin.rows_flipped:
        positions, down = positions + last_row * down, -down
    if origin.columns_flipped:
        positions, along = positions + last_column * along, -along
    return Geometry(positions, row_step=down, column_step=along)


def _positions(frames: tuple[DicomFrame, ...], by: By) -> Vector | None:
    """Shape (slices, 3): the position of each stored slice's first pixel; unknown coordinates are 0."""
    if by == "position":
        return np.array([frame.position for frame in frames], dtype=np.float64)
    across = normal(frames[0].orientation)
    if by == "SliceLocation":
        heights = [frame.location for frame in frames]
    elif by == "InstanceNumber" and (step := _step(frames[0])):
        heights = [-(frame.instance or 0.0) * step for frame in frames]
    elif len(frames) == 1:
        heights = [0.0]
    else:
        return None
    return np.array(heights, dtype=np.float64)[:, None] * across


def _plane(across: Vector) -> Plane:
    limit = np.cos(np.radians(MAX_OBLIQUE)) - 1e-6
    planes: tuple[Plane, ...] = ("sagittal", "coronal", "axial")
    return next(
        (plane for plane, part in zip(planes, np.abs(across), strict=True) if part >= limit), "oblique"
    )


SAME_MM = 0.02
"""Positions that are closer than this along the normal are the same."""
SAME_DIRECTION = 0.01
"""Largest difference between the direction cosines of a stack's slices."""
SAME_SIZE = 1e-3
"""Largest difference between their pixel spacings, in mm."""
_SLACK = 0.05
PAUSE_S, LONG_PAUSE = 5.0, 10
"""Two passes are separated by at least this many seconds and this many times the usual interval between slices."""
BETWEEN = 0.6
"""Slices of two stacks over the same range coincide within this share of the slice distance."""
EVEN_SHARE = 0.8
"""Share of equal gaps in an evenly spaced stack."""


def stacks(frames: Iterable[DicomFrame]) -> list[list[DicomFrame]]:
    """Sort frames into stacks: by series, then by the values that must agree within a stack.

    Rows, columns, orientation and pixel spacing must agree, and localizers are kept apart. Passes over the
    same range, such as two reconstructions or phases under one SeriesInstanceUID, become separate stacks if
    the header distinguishes them, for example by acquisition, temporal position, kernel, image type or time.
    Consecutive acquisitions remain one stack.

    Returns
    -------
    Each stack's frames; every frame is in one stack.
    """
    found = []
    for alike in _split(frames, _fixed).values():
        for turned in _close(alike, lambda frame: frame.orientation, SAME_DIRECTION):
            for scaled in _close(turned, lambda frame: frame.spacing, SAME_SIZE):
                found.extend(_untangled(scaled))
    return found


def localizer(frame: DicomFrame) -> bool:
    """Whether a frame's ImageType says that it is a localizer (scout, topogram)."""
    return "LOCALIZER" in frame.header.image_type


def _fixed(frame: DicomFrame) -> Hashable:
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


def _split(
    frames: Iterable[DicomFrame], key: Callable[[DicomFrame], Hashable]
) -> dict[Hashable, list[DicomFrame]]:
    parts: dict[Hashable, list[DicomFrame]] = defaultdict(list)
    for frame in frames:
        parts[key(frame)].append(frame)
    return dict(parts)


def _close(
    frames: list[DicomFrame], value: Callable[[DicomFrame], tuple[float, ...] | None], tolerance: float
) -> list[list[DicomFrame]]:
    """Groups of frames whose values differ by no more than ``tolerance``; those without a value are one group."""
    groups: dict[tuple[float, ...] | None, list[DicomFrame]] = {}
    for frame in frames:
        mine = value(frame)
        same = next((key for key in groups if _agree(key, mine, tolerance)), mine)
        groups.setdefault(same, []).append(frame)
    return list(groups.values())


def _agree(one: tuple[float, ...] | None, other: tuple[float, ...] | None, tolerance: float) -> bool:
    if one is None or other is None:
        return one is other
    return all(abs(a - b) <= tolerance for a, b in zip(one, other, strict=True))


def _untangled(frames: list[DicomFrame]) -> list[list[DicomFrame]]:
    """Separate passes over the same part of the body, and keep consecutive acquisitions together."""
    for parts in _separations(frames):
        if 1 < len(parts) <= len(frames) / 2 and len(passes := _passes(parts)) > 1:
            return [stack for one in passes for stack in _untangled(one)]
    return [frames]


def _separations(frames: list[DicomFrame]) -> Iterator[list[list[DicomFrame]]]:
    """The possible divisions of the frames by header values: by each mark in turn, then by each time."""
    for mark in range(max(len(frame.marks) for frame in frames)):
        parts = _split(frames, partial(_mark, number=mark))
        yield [parts[value] for value in sorted(parts, key=lambda value: (len(str(value)), str(value)))]
    for clock in range(max(len(frame.times) for frame in frames)):
        timed = [(frame.times[clock], frame) for frame in frames if len(frame.times) > clock]
        known = sorted(((time, frame) for time, frame in timed if time is not None), key=lambda one: one[0])
        if len(known) == len(frames):
            gaps = np.diff([time for time, _ in known])
            usual = float(np.median(gaps[gaps > 0])) if (gaps > 0).sum() > 2 else 0.0
            cuts = np.flatnonzero(gaps > max(PAUSE_S, LONG_PAUSE * usual)) + 1
            yield [[frame for _, frame in part] for part in _cut(known, cuts)]


def _mark(frame: DicomFrame, number: int) -> str:
    return frame.marks[number] if number < len(frame.marks) else ""


def _cut(values: list[T], at: NDArray[np.intp]) -> list[list[T]]:
    ends = [0, *at.tolist(), len(values)]
    return [values[start:end] for start, end in pairwise(ends)]


def _passes(parts: list[list[DicomFrame]]) -> list[list[DicomFrame]]:
    """Join consecutive parts along the body; parts that cover the same range stay separate."""
    passes: list[list[DicomFrame]] = []
    for part in parts:
        heights = _heights(part)
        home = next((one for one in passes if not _same_range(_heights(one), heights)), None)
        if home is None:
            passes.append(list(part))
        else:
            home.extend(part)
    return passes


def _same_range(one: Vector, other: Vector) -> bool:
    """Whether slices at these heights cover the same range, instead of being consecutive.

    They do if more than half of the smaller stack's slices are at positions of the other, or if two evenly
    spaced stacks of at least three slices interleave over more than half of the shorter range.
    """
    few, many = sorted((one, other), key=len)
    if not len(few):
        return False
    if float((_to_nearest(few, many) < SAME_MM).mean()) > 0.5:
        return True
    if len(few) < 3 or not (_evenly(few) and _evenly(many)):
        return False
    return any(
        float((_to_nearest(inner, outer) <= BETWEEN * float(np.median(np.diff(outer)))).mean()) > 0.5
        for inner, outer in ((few, many), (many, few))
    )


def _to_nearest(heights: Vector, others: Vector) -> Vector:
    """The distance of each height from the nearest of ``others``, in mm; both are ascending."""
    after = np.searchsorted(others, heights)
    below = np.abs(heights - others[np.clip(after - 1, 0, None)])
    return np.minimum(below, np.abs(heights - others[np.clip(after, None, len(others) - 1)]))


def _evenly(heights: Vector) -> bool:
    """Whether most neighbouring slices are equally far apart, which randomly chosen slices are not."""
    gaps = np.diff(heights)
    usual = float(np.median(gaps))
    return float((np.abs(gaps - usual) <= max(SAME_MM, _SLACK * usual)).mean()) >= EVEN_SHARE


def _heights(frames: list[DicomFrame]) -> Vector:
    """The positions of frames along their normal, ascending, each once."""
    heights = np.sort([height for frame in frames if (height := height_mm(frame)) is not None])
    return heights[np.diff(heights, prepend=-np.inf) >= SAME_MM]


def height_mm(frame: DicomFrame) -> float | None:
    """A frame's position along the normal of its plane, in mm; SliceLocation if it has no position."""
    if frame.position is None:
        return frame.location
    return float(np.dot(frame.position, normal(frame.orientation)))


def normal(orientation: tuple[float, ...] | None) -> NDArray[np.float64]:
    """The unit vector normal to a plane, towards the head if possible; a plane of unknown orientation counts
    as axial."""
    if not sound(orientation):
        return np.array([0.0, 0.0, 1.0])
    across = np.cross(orientation[:3], orientation[3:])
    across = across / np.linalg.norm(across)
    return across if across[np.abs(across).argmax()] > 0 else -across


def sound(orientation: tuple[float, ...] | None) -> TypeGuard[tuple[float, ...]]:
    """Whether an ImageOrientationPatient consists of two perpendicular directions, as it must."""
    if orientation is None:
        return False
    rows, columns = np.array(orientation[:3]), np.array(orientation[3:])
    lengths = np.linalg.norm(rows), np.linalg.norm(columns)
    return all(abs(length - 1) < _SLACK for length in lengths) and abs(float(rows @ columns)) < _SLACK
