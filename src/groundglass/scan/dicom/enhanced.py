"""Enhanced multi-frame images: position, spacing and rescale of each frame, from its functional groups."""

from collections.abc import Callable
from typing import TypeVar

from pydicom import Dataset

from groundglass.errors import ScanError
from groundglass.scan.dicom import values
from groundglass.scan.dicom.frame import Frame, Header

T = TypeVar("T")


def enhanced_frames(dataset: Dataset, header: Header) -> list[Frame]:
    """The frames of an enhanced image (PS3.3 C.7.6.16), as their functional groups describe them.

    A group may stand once for all frames, in the shared groups, or in each frame's own, which wins.

    Raises
    ------
    ScanError
        If the number of frames is not that of their groups.
    """
    shared = values.item(dataset, "SharedFunctionalGroupsSequence")
    own = values.items(dataset, "PerFrameFunctionalGroupsSequence")
    if len(own) != header.encoding.frames:
        problem = f"its header claims {header.encoding.frames} frames and describes {len(own)}"
        raise ScanError(str(header.found.member), problem, "it is damaged, get it anew")
    return [_frame(header, index, _Groups(group, shared)) for index, group in enumerate(own)]


class _Groups:
    """Looks a value up in a frame's own functional groups, then in the shared ones."""

    def __init__(self, own: Dataset, shared: Dataset) -> None:
        self._both = (own, shared)

    def get(self, read: Callable[[Dataset, str], T], sequence: str, keyword: str) -> T:
        own, shared = (read(values.item(group, sequence), keyword) for group in self._both)
        return own if own not in (None, "", ()) else shared


def _frame(header: Header, index: int, groups: _Groups) -> Frame:
    def numbers(count: int) -> Callable[[Dataset, str], tuple[float, ...] | None]:
        return lambda item, keyword: values.numbers(item, keyword, count)

    rescale = "PixelValueTransformationSequence"
    content = "FrameContentSequence"
    kernel = groups.get(values.text, "CTReconstructionSequence", "ConvolutionKernel")
    return Frame(
        header=header,
        index=index,
        position=groups.get(numbers(3), "PlanePositionSequence", "ImagePositionPatient"),
        orientation=groups.get(numbers(6), "PlaneOrientationSequence", "ImageOrientationPatient"),
        spacing=groups.get(numbers(2), "PixelMeasuresSequence", "PixelSpacing"),
        slope=groups.get(values.rescale, rescale, "RescaleSlope"),
        intercept=groups.get(values.rescale, rescale, "RescaleIntercept"),
        location=None,
        instance=groups.get(values.number, content, "InStackPositionNumber"),
        gap=groups.get(values.number, "PixelMeasuresSequence", "SpacingBetweenSlices"),
        thickness=groups.get(values.number, "PixelMeasuresSequence", "SliceThickness"),
        stack=groups.get(values.text, content, "StackID"),
        kernel=kernel,
        marks=(
            groups.get(values.text, content, "FrameAcquisitionNumber"),
            groups.get(values.text, content, "TemporalPositionIndex"),
            kernel,
            groups.get(values.text, "CTImageFrameTypeSequence", "FrameType"),
        ),
    )
