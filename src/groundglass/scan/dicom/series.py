"""Group DICOM files into the series of a listing, and open a listed stack as a volume."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from groundglass.errors import ScanError
from groundglass.scan.dicom.checks import NO_RESCALE, NO_RESCALE_READ, Problem, problem, states_hu, warnings
from groundglass.scan.dicom.frame import DicomFrame
from groundglass.scan.dicom.headers import read_header
from groundglass.scan.dicom.pixels import guess_intercept, sample_hu, slice_hu
from groundglass.scan.dicom.stacking import SliceStack, stack, stacks
from groundglass.scan.members import Found, content_hash
from groundglass.scan.units import refuse_overflow
from groundglass.scan.volume import Series, Volume


def read_headers(files: Iterable[Found]) -> Iterator[list[DicomFrame] | ScanError]:
    """The frames of each DICOM file, in the order of the files, or the error of a header that cannot be read."""
    for found in files:
        try:
            yield read_header(found)
        except ScanError as error:
            yield error


HeaderReader = Callable[[Sequence[Found]], Iterator[list[DicomFrame] | ScanError]]
"""A function that reads headers: :func:`read_headers`, or one that divides them among processes."""


def dicom_series(
    files: Sequence[Found], step: Callable[[], None] | None = None, read: HeaderReader = read_headers
) -> tuple[list[Series], list[ScanError]]:
    """Read the headers of DICOM files and sort them into series.

    Parameters
    ----------
    files
        DICOM files, in any order.
    step
        Called after each file.
    read
        Reads their headers.

    Returns
    -------
    Every stack, usable or not, and an error for each file whose header could not be read.
    """
    frames: list[DicomFrame] = []
    failures: list[ScanError] = []
    for one in read(files):
        if isinstance(one, ScanError):
            failures.append(one)
        else:
            frames.extend(one)
        if step is not None:
            step()
    together = [(part, stack(part)) for part in stacks(frames)]
    parts = [(part, stacked, problem(part, stacked)) for part, stacked in together]
    usable = Counter(_uids(part) for part, _, found in parts if not found.text)
    return [_series(*part, usable[_uids(part[0])]) for part in parts], failures


def _uids(frames: list[DicomFrame]) -> tuple[str, str, str]:
    header = frames[0].header
    return header.patient, header.study, header.series


def _series(frames: list[DicomFrame], stacked: SliceStack, found: Problem, together: int) -> Series:
    """The listing's entry for a stack; ``together`` usable stacks share its SeriesInstanceUID."""
    header, geometry, source = frames[0].header, stacked.geometry, _source(frames)
    said = () if found.text else _warnings(frames, stacked, together)
    return Series(
        source=source,
        kind="dicom",
        slices=len(stacked.frames or frames) if header.encoding.rows else 0,
        rows=header.encoding.rows,
        columns=header.encoding.columns,
        open=partial(_volume, stacked, source, said),
        modality=header.modality,
        body_part=header.body_part,
        kernel=frames[0].kernel,
        plane=stacked.plane,
        spacing=None if geometry is None else geometry.spacing,
        problem=found.text,
        remedy=found.remedy,
        warnings=said,
        number=header.number,
        patient=header.patient,
        study=header.study,
        series_uid=header.series,
        damaged=stacked.incomplete,
        content=content_hash(
            {frame.header.found for frame in frames}, repr(sorted(frame.index for frame in frames))
        ),
        files=frozenset(frame.header.found.member.path for frame in frames),
    )


def _source(frames: Iterable[DicomFrame]) -> Path:
    """The file or ZIP that contains all frames, else the folder."""
    paths = {frame.header.found.member.path for frame in frames}
    return paths.pop() if len(paths) == 1 else Path(os.path.commonpath([path.parent for path in paths]))


def _warnings(frames: list[DicomFrame], stacked: SliceStack, together: int) -> tuple[str, ...]:
    said = warnings(stacked)
    if together > 1 and frames[0].header.series:
        return (
            *said,
            f"one of {together} stacks under one series UID: they differ in size, direction or acquisition",
        )
    return said


def _volume(stacked: SliceStack, source: Path, said: tuple[str, ...]) -> Volume:
    """The volume of a usable stack; raises ScanError if the values are not HU."""
    intercept = None
    if not all(map(states_hu, stacked.frames)):
        intercept = guess_intercept(stacked.frames)
        read_as = "HU" if intercept == 0 else f"HU + {-intercept}"
        said = tuple(NO_RESCALE_READ.format(read_as) if one == NO_RESCALE else one for one in said)
    refuse_overflow(source, sample_hu(stacked.frames, intercept))
    first = stacked.frames[0].header
    size = (first.encoding.rows, first.encoding.columns)
    height, width = size[::-1] if stacked.origin.transposed else size
    return Volume(
        shape=(len(stacked.frames), height, width),
        is_hu=True,
        scan_id=f"series-{first.number}" if first.number.isascii() and first.number.isdigit() else "ct",
        source=source,
        read=partial(slice_hu, stacked.frames, stacked.origin, intercept),
        geometry=stacked.geometry,
        warnings=said,
        origin=stacked.origin,
        age_years=first.age_years,
        oriented=stacked.plane != "unknown" and stacked.by == "position",
    )
