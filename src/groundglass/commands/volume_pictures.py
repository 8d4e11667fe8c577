"""A study's answer with its pictures: the montage, and the stack of slices to scroll through."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from groundglass.commands.studies import Study
from groundglass.detect.detector import Detector
from groundglass.detect.patient import PatientFinding
from groundglass.detect.volume import VolumeFinding, answer_volume
from groundglass.preprocess import Preprocessing
from groundglass.report.page import PICTURE_SIDE, StackFrame, StackViewer
from groundglass.scan.scan import Scan
from groundglass.scan.volume import Volume
from groundglass.segment.masks import Segmentation
from groundglass.segment.overlay import contact_sheet, layer, overlay
from groundglass.segment.shares import segmentation_of

MOST_FRAMES = 200
"""Slices that a stack holds; of a longer volume every second, third and so on."""
TILES, COLUMNS, TILE = 20, 5, 256
"""Slices of the montage, in a row, and their side in pixels."""
QUALITY = 75
BAND = 44
"""Height in pixels of the words above the montage."""


class Thumbnails:
    """Small grey pictures of a volume's slices, taken as they pass by.

    Parameters
    ----------
    preprocessing
        Whose window HU are seen through.
    slices
        How many will pass.
    """

    def __init__(self, preprocessing: Preprocessing, slices: int) -> None:
        self._preprocessing = preprocessing
        self.pictures: list[NDArray[np.uint8] | None] = [None] * slices

    def take(self, number: int, scan: Scan) -> None:
        """Keep a slice, by its number from 0: uint8, with the longer side of PICTURE_SIDE pixels."""
        height, width = scan.pixels.shape
        scale = PICTURE_SIDE / max(height, width)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        small = np.asarray(cv2.resize(scan.pixels, size, interpolation=method), dtype=np.float32)
        self.pictures[number] = self._preprocessing.picture(replace(scan, pixels=small))


@dataclass(frozen=True, eq=False)
class AnsweredStudy:
    """A study's volume with the answer, and small pictures of its slices."""

    study: Study
    volume: Volume
    answer: VolumeFinding
    thumbnails: Thumbnails

    @property
    def finding(self) -> PatientFinding:
        """The patient's answer."""
        return self.answer.finding


def answer_study(detector: Detector, study: Study, seen: Callable[[], object]) -> AnsweredStudy:
    """Answer for the series of a study that was chosen; ``seen`` is called after each slice.

    Raises
    ------
    ScanError
        If the study has no usable series, or it cannot be read.
    """
    if study.series is None:
        raise study.error()
    volume = study.series.load()
    thumbnails = Thumbnails(detector.bundle.facts.preprocessing, volume.shape[0])

    def passing(number: int, scan: Scan) -> None:
        thumbnails.take(number, scan)
        seen()

    return AnsweredStudy(study, volume, answer_volume(detector, volume, passing), thumbnails)


def stack(thumbnails: Thumbnails, answer: VolumeFinding) -> StackViewer:
    """The slices with their masks, from the feet to the head, beginning with the one with most lesion."""
    finding = answer.finding
    step = -(-len(finding.slices) // MOST_FRAMES)
    frames, numbers = [], []
    for number in range(0, len(finding.slices), step):
        grey = thumbnails.pictures[number]
        if grey is None:
            continue
        numbers.append(number)
        labels = answer.labels[number]
        over = layer(_small(labels, grey.shape)) if labels.any() else b""
        frames.append(StackFrame(_caption(answer, number), _jpeg(grey), over))
    telling = finding.most_telling(1)
    wanted = telling[0].number - 1 if telling else len(finding.slices) // 2
    start = min(range(len(numbers)), key=lambda place: abs(numbers[place] - wanted), default=0)
    legend = "lungs outlined, the right one in blue and the left one in yellow; lesions in orange"
    note = "" if step == 1 else f", every {step}{ {2: 'nd', 3: 'rd'}.get(step, 'th') }"
    return StackViewer(f"All slices, from the feet to the head{note}", frames, start, legend)


def _small(labels: NDArray[np.uint8], shape: tuple[int, ...]) -> Segmentation:
    """A slice's masks at the size of its thumbnail: by the nearest pixel, which is quick and fine enough here."""
    resized = cv2.resize(labels, shape[::-1], interpolation=cv2.INTER_NEAREST)
    return segmentation_of(np.asarray(resized, dtype=np.uint8))


def _jpeg(picture: NDArray[np.uint8]) -> bytes:
    _, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return bytes(encoded)


def _caption(answer: VolumeFinding, number: int) -> str:
    found = answer.finding.slices[number]
    parts = [f"slice {found.number} of {len(answer.finding.slices)}"]
    if found.height_mm is not None:
        parts.append(f"{found.height_mm:.1f} mm")
    if found.lesion_share is not None and found.probability is not None:
        parts.append(
            f"lesions {found.lesion_share:.1%} of the lungs, slice probability {found.probability:.2f}"
        )
    else:
        parts.append(found.reason)
    return ", ".join(parts)


def montage(thumbnails: Thumbnails, answer: VolumeFinding, words: tuple[str, str]) -> Image.Image:
    """Lung-bearing slices evenly spread over the volume, with their masks, under two lines of words."""
    bearing = [one.number - 1 for one in answer.finding.slices if sum(one.lungs_px)]
    numbers = bearing or [n for n, picture in enumerate(thumbnails.pictures) if picture is not None]
    chosen = sorted({numbers[round(at)] for at in np.linspace(0, len(numbers) - 1, TILES)})
    pictures = []
    for number in reversed(chosen):
        grey = thumbnails.pictures[number]
        if grey is not None:
            masks = _small(answer.labels[number], grey.shape)
            pictures.append((overlay(grey, masks, line=1), f"slice {number + 1}"))
    sheet = contact_sheet(pictures, COLUMNS, TILE, numbered=False)
    whole = Image.new("RGB", (sheet.width, sheet.height + BAND))
    whole.paste(sheet, (0, BAND))
    draw = ImageDraw.Draw(whole)
    font = ImageFont.load_default(15)
    for line, text in enumerate(words):
        draw.text((8, 4 + 19 * line), text, fill=(255, 255, 255), font=font)
    return whole
