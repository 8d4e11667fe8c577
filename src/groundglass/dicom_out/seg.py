"""The Segmentation object (PS3.3 A.51): right lung, left lung and lesions by type, one bit per voxel."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from highdicom.color import CIELabColor
from highdicom.seg import SegmentAlgorithmTypeValues, Segmentation, SegmentationTypeValues, SegmentDescription
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import CTImageStorage

from groundglass.dicom_out import stamp as codes
from groundglass.dicom_out.sources import SourceImage, Sources, decimals, usual_orientation
from groundglass.dicom_out.stamp import Measured, ResultsError, Stamp, blank_image
from groundglass.scan.volume import Origin
from groundglass.segment.masks import LEFT, RIGHT
from groundglass.segment.shares import CONSOLIDATION, LESION, Labels

SERIES_NUMBER = 9002
OPACITY = "Ground-glass opacity or consolidation"
_LUNGS = RIGHT | LEFT


@dataclass(frozen=True)
class Segment:
    """One of the segments.

    Attributes
    ----------
    side
        Its lung in :class:`Measured`; ``both`` for the lesions.
    colour
        RGB in which viewers may show it.
    bits, value
        A label plane shows the segment where ``labels & bits`` is ``value``.
    """

    number: int
    label: str
    side: str
    category: Code
    kind: Code
    colour: tuple[int, int, int]
    bits: int
    value: int

    def voxels(self, labels: Labels) -> NDArray[np.bool_]:
        """Where a slice's labels show the segment, as bool."""
        return np.asarray((labels & self.bits) == self.value)

    @property
    def tracking_id(self) -> str:
        """A name for it that is the same in every study."""
        return f"{codes.NAME} {self.label.lower()}"

    def tracking_uid(self, stamp: Stamp) -> str:
        """Its UID in this run."""
        return stamp.uid(f"segment {self.number}")


# The colours are those of Okabe and Ito, which colour-blind people can tell apart.
_ORANGE, _PURPLE = (230, 159, 0), (204, 121, 167)
_TYPES = LESION | CONSOLIDATION
LUNGS = (
    Segment(1, "Right lung", "right", codes.ORGAN, codes.RIGHT_LUNG, (86, 180, 233), _LUNGS, RIGHT),
    Segment(2, "Left lung", "left", codes.ORGAN, codes.LEFT_LUNG, (0, 158, 115), _LUNGS, LEFT),
)
UNTYPED = (Segment(3, OPACITY, "both", codes.ABNORMAL, codes.LESION, _ORANGE, LESION, LESION),)
TYPED = (
    Segment(3, "Ground-glass opacity", "both", codes.ABNORMAL, codes.GROUND_GLASS, _ORANGE, _TYPES, LESION),
    Segment(4, "Consolidation", "both", codes.ABNORMAL, codes.CONSOLIDATION, _PURPLE, _TYPES, _TYPES),
)


def segments(measured: Measured) -> tuple[Segment, ...]:
    """The lungs if their sides are known, and the lesions, separated by type if types are distinguished."""
    lungs = (one for one in LUNGS if one.side in measured.extent)
    return (*lungs, *(TYPED if measured.extent["both"].typed else UNTYPED))


def make_segmentation(
    sources: Sources, origin: Origin, labels: Labels, measured: Measured, stamp: Stamp
) -> Segmentation:
    """Make the Segmentation object, without the patient.

    highdicom writes everything but the pixels, from one voxel per slice. Given whole slices it would compute sums
    of 8 bytes per voxel: 1.3 GB for 600 slices of 512 x 512.

    Parameters
    ----------
    sources
        Slices that form one stack in the patient.
    labels
        uint8, shape (slices, height, width), in the volume's order and orientation, as
        :func:`groundglass.segment.shares.label_plane` gives each slice.

    Raises
    ------
    ResultsError
        If the labels do not have the source images' size.
    """
    _require_fit(sources, origin, labels)
    parts = segments(measured)
    shown = np.array([[one.voxels(plane).any() for one in parts] for plane in labels])
    overlap = any((plane > LESION).any() for plane in labels)
    written = Segmentation(
        _placeholders(sources),
        shown[:, None, None, :].astype(np.uint8),
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=[_describe(one, measured, stamp) for one in parts],
        device_serial_number=measured.bundle_sha256[:16] or "0",
        content_label="GROUNDGLASS",
        content_description="Lungs with ground-glass opacity or consolidation",
        **stamp.series("SEG", SERIES_NUMBER, "lungs and lesions"),
    )
    frames = _refer_to_sources(written, sources)
    written.Rows, written.Columns = sources.slices[0].shape
    written.SegmentsOverlap = "YES" if overlap else "NO"
    written.PixelData = _packed(frames, parts, origin, labels)
    written.update(sources.lossy)
    written.BodyPartExamined = "CHEST"
    organization = stamp.uid("dimensions")
    for item in (*written.DimensionOrganizationSequence, *written.DimensionIndexSequence):
        item.DimensionOrganizationUID = organization
    return written


def _require_fit(sources: Sources, origin: Origin, labels: Labels) -> None:
    rows, columns = sources.slices[0].shape
    if len(labels) != len(sources.slices) or origin.stored(labels[0]).shape != (rows, columns):
        raise ResultsError(
            f"masks of the shape {labels.shape} do not fit the {len(sources.slices)} source images, of "
            f"{rows} x {columns} pixels; did the files change after they were read?"
        )


def _describe(segment: Segment, measured: Measured, stamp: Stamp) -> SegmentDescription:
    return SegmentDescription(
        segment.number,
        segment.label,
        segment.category,
        segment.kind,
        SegmentAlgorithmTypeValues.AUTOMATIC,
        codes.algorithm_of_segments(measured),
        tracking_uid=segment.tracking_uid(stamp),
        tracking_id=segment.tracking_id,
        anatomic_regions=[codes.BOTH_LUNGS] if segment.category == codes.ABNORMAL else None,
        display_color=CIELabColor.from_rgb(*segment.colour),
    )


def _placeholders(sources: Sources) -> list[Dataset]:
    """A classic image of one voxel at each slice's position; its SOPInstanceUID ends in the slice's index."""
    images = []
    orientation = decimals(usual_orientation(sources.planes).ravel())
    for number, plane in enumerate(sources.planes):
        image = blank_image(sources.study, "2.25.1", str(CTImageStorage), f"2.25.{number}")
        image.FrameOfReferenceUID = sources.reference
        image.PositionReferenceIndicator = sources.indicator
        image.Rows = image.Columns = 1
        image.ImagePositionPatient = decimals(plane.position)
        image.ImageOrientationPatient = orientation
        image.PixelSpacing = decimals(sources.planes[0].spacing)
        [image.SliceThickness] = decimals([sources.thickness])
        images.append(image)
    return images


def _refer_to_sources(written: Segmentation, sources: Sources) -> list[tuple[int, int]]:
    """Replace the placeholders by the source images; return each frame's segment, from 0, and slice."""
    references, frames = {}, []
    for item in written.PerFrameFunctionalGroupsSequence:
        reference = item.DerivationImageSequence[0].SourceImageSequence[0]
        number = int(reference.ReferencedSOPInstanceUID.removeprefix("2.25."))
        frames.append((item.SegmentIdentificationSequence[0].ReferencedSegmentNumber - 1, number))
        references[number] = reference  # shared by the segments of a slice
    for number, reference in references.items():
        source = sources.slices[number]
        reference.update(_reference(source))
        if source.frame is not None:
            reference.ReferencedFrameNumber = source.frame
    images = {one.sop_instance: one for one in sources.slices}.values()
    written.SourceImageSequence = [_reference(one) for one in images]
    written.ReferencedSeriesSequence = [
        _series(series, images) for series in dict.fromkeys(one.series for one in images)
    ]
    return frames


def _series(series: str, images: Iterable[SourceImage]) -> Dataset:
    item = Dataset()
    item.SeriesInstanceUID = series
    item.ReferencedInstanceSequence = [_reference(one) for one in images if one.series == series]
    return item


def _reference(source: SourceImage) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = source.sop_class, source.sop_instance
    return item


def _packed(
    frames: list[tuple[int, int]], parts: tuple[Segment, ...], origin: Origin, labels: Labels
) -> bytes:
    """The frames, one bit per pixel, without gaps between them (PS3.5 8.1.1)."""

    def bits() -> Iterator[bytes]:
        # Eight frames always fill whole bytes.
        for start in range(0, len(frames), 8):
            group = frames[start : start + 8]
            planes = [origin.stored(parts[segment].voxels(labels[number])) for segment, number in group]
            yield np.packbits(np.stack(planes), axis=None, bitorder="little").tobytes()

    packed = b"".join(bits())
    return packed + b"\0" * (len(packed) % 2)
