"""The slices of a volume with their masks, to scroll through in a report or a notebook."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from groundglass.segment.overlay import layer, small_masks
from groundglass.segment.shares import Labels

MOST_FRAMES = 200
"""Largest number of slices in a stack; for longer volumes it contains every second slice, every third, and so
on."""
QUALITY = 75


@dataclass(frozen=True)
class StackFrame:
    """One slice of a stack: its caption, the slice as JPEG, and the overlay as PNG, b"" if there is none."""

    caption: str
    jpeg: bytes
    laid_over: bytes = b""


@dataclass(frozen=True)
class StackViewer:
    """Slices to scroll through, from the feet to the head.

    ``start`` is the frame to begin with, counted from 0; ``legend`` explains the overlay. ``step`` is 2 if every
    second slice is shown, and ``sides`` says whether the patient's right is known to be at the left.
    """

    frames: Sequence[StackFrame]
    start: int = 0
    legend: str = ""
    step: int = 1
    sides: bool = True

    @property
    def title(self) -> str:
        """A heading."""
        note = "" if self.step == 1 else f", every {self.step}{ {2: 'nd', 3: 'rd'}.get(self.step, 'th') }"
        return f"All slices, from the feet to the head{note}"

    def html(self) -> str:
        """HTML that needs no other file; without scripts it shows the frame ``start``. "" without frames."""
        if not self.frames:
            return ""
        from jinja2 import Environment, PackageLoader

        environment = Environment(
            loader=PackageLoader("groundglass.segment", "."), autoescape=True, trim_blocks=True
        )
        environment.filters["base64"] = lambda content: base64.b64encode(content).decode("ascii")
        return environment.get_template("stack.html.jinja").render(stack=self)


def make_stack(
    thumbnails: Sequence[NDArray[np.uint8] | None],
    labels: Labels,
    captions: Sequence[str],
    wanted: int,
    legend: str,
    *,
    sides: bool,
) -> StackViewer:
    """Draw a stack; see :class:`groundglass.segment.volume.VolumeMasks` for the first two.

    ``wanted`` is the slice to begin with, counted from 0. Slices without a thumbnail are left out.
    """
    step = -(-len(thumbnails) // MOST_FRAMES)
    frames, numbers = [], []
    for number in range(0, len(thumbnails), step or 1):
        grey = thumbnails[number]
        if grey is None:
            continue
        numbers.append(number)
        over = layer(small_masks(labels[number], grey.shape)) if labels[number].any() else b""
        frames.append(StackFrame(captions[number], _jpeg(grey), over))
    start = min(range(len(numbers)), key=lambda place: abs(numbers[place] - wanted), default=0)
    return StackViewer(frames, start, legend, step, sides)


def _jpeg(picture: NDArray[np.uint8]) -> bytes:
    _, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return bytes(encoded)
