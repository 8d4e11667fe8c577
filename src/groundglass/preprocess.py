"""Preprocessing: the single path from a Scan to a model's input, for training, prediction and export.

It is saved in the bundle with the model. Training caches what :meth:`Preprocessing.grey8` gives and augments
it; prediction takes the same array without augmentation; both end in :meth:`Preprocessing.normalise`.
"""

from typing import Annotated, Any, Literal, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, model_validator

from groundglass.scan.scan import LUNG_WINDOW, Scan, apply_window

Array = TypeVar("Array", bound=Any)
Side = Annotated[int, Field(ge=16, le=2048)]
Unit = Annotated[float, Field(ge=0, le=1)]

AIR, TISSUE = 0.15, 0.85
"""Greys of aerated lung and of soft tissue after :func:`to_landmarks`."""
AIR_PERCENTILE, TISSUE_PERCENTILE = 10, 75
RING = 0.02, 0.06
"""Inner and outer distance of the ring of soft tissue from the lungs, as shares of the picture's width."""
BLACK = 0.02
"""Grey up to which the ring's pixels are padding or air outside the body."""
LEAST_RING = 50
"""Minimum pixels of a usable ring; lungs that fill the picture have none."""
LEAST_CONTRAST = 0.05
RIM = 0.015
"""Margin that ``only`` adds around the lungs' hulls, as a share of the picture's width."""


class Window(BaseModel):
    """The window for a scan in HU; grey scans are already windowed and are not changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    level: float = LUNG_WINDOW[0]
    width: Annotated[float, Field(gt=0)] = LUNG_WINDOW[1]


class Box(BaseModel):
    """A rectangle in pixels: rows top to bottom, columns left to right."""

    model_config = ConfigDict(frozen=True)

    top: int
    left: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """The rectangle as an index into an array (height, width)."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


def to_landmarks(grey: NDArray[np.float32], lungs: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Map two landmarks of a slice to fixed greys: aerated lung to 0.15, soft tissue to 0.85.

    Aerated lung is the tenth percentile of the lungs' greys, which lesions do not affect as long as a tenth
    of the lungs holds air. Soft tissue is the third quartile of a ring around the lungs; fat and air are
    darker.

    Parameters
    ----------
    grey
        float32, shape (height, width).
    lungs
        uint8, the same shape: 1 in the lungs, 0 outside.

    Returns
    -------
    float32 of the same shape, clipped to [0, 1].
    """
    inside = grey[lungs > 0]
    if not inside.size:
        return grey
    ring = grey[(_grown(lungs, RING[1]) > 0) & (_grown(lungs, RING[0]) == 0) & (grey > BLACK)]
    air = np.percentile(inside, AIR_PERCENTILE)
    tissue = np.percentile(ring, TISSUE_PERCENTILE) if ring.size >= LEAST_RING else grey.max()
    scaled = (grey - air) / max(LEAST_CONTRAST, float(tissue - air))
    return (AIR + (TISSUE - AIR) * scaled).clip(0, 1).astype(np.float32)


def _grown(lungs: NDArray[np.uint8], share: float) -> NDArray[np.uint8]:
    """The lungs grown by a share of the picture's width on each side."""
    return cv2.dilate(lungs, _square(share * lungs.shape[1])).astype(np.uint8, copy=False)


def _square(radius: float) -> NDArray[np.uint8]:
    side = 2 * max(1, round(radius)) + 1
    return np.ones((side, side), np.uint8)


def _surroundings(lungs: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The convex hull of each lung, including lesions missed at its border, and a narrow rim."""
    outlines, _ = cv2.findContours(lungs, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    hulls = np.zeros_like(lungs)
    for outline in outlines:
        cv2.fillConvexPoly(hulls, cv2.convexHull(outline), 1)
    return _grown(hulls, RIM)


def _resized(lungs: NDArray[np.bool_], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    rows, columns = shape
    resized = cv2.resize(lungs.astype(np.uint8), (columns, rows), interpolation=cv2.INTER_NEAREST)
    return resized.astype(np.uint8, copy=False)


class Preprocessing(BaseModel):
    """How a slice becomes a model's input.

    Attributes
    ----------
    size
        Height and width of the input, in pixels.
    resize
        ``pad`` keeps the aspect ratio and centres the slice on ``pad_value``; ``stretch`` fills the input.
    interpolation
        ``bilinear`` with antialiasing, or ``nearest`` neighbour, as in Keras' image generators.
    pad_value
        Grey of the padding, in [0, 1].
    window
        Applied to scans in HU.
    clahe
        Clip limit of contrast-limited adaptive histogram equalisation over 8 x 8 tiles (Zuiderveld 1994,
        Graphics Gems IV), which removes most of the difference between windows; None leaves it out.
    lungs
        ``crop`` keeps the lungs' bounding box, ``mask`` sets everything outside the lungs to ``outside``,
        ``only`` does both, but keeps each lung's convex hull and a narrow rim, so that lesions at the pleura
        remain; all need a lung mask of each slice.
    margin
        Margin that ``crop`` and ``only`` add on each side, as a share of the bounding box's longer side.
    outside
        Grey outside the lungs, in [0, 1].
    greys
        ``window`` keeps the greys of the window or the picture. ``landmarks`` maps two landmarks of each
        slice to fixed greys, aerated lung to 0.15 and soft tissue to 0.85, so that windows of any level and
        width give the same greys; it needs a lung mask.
    segmenter
        The segmenter that finds the lungs: a shipped segmenter's name, or the path of a segmenter's bundle or
        run.
    channels
        1, or 3 for models made for colour: the grey is repeated.
    mean, std
        The grey, in [0, 1], is normalised to ``(grey - mean) / std``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: tuple[Side, Side] = (224, 224)
    resize: Literal["pad", "stretch"] = "pad"
    interpolation: Literal["bilinear", "nearest"] = "bilinear"
    pad_value: Unit = 0.0
    window: Window = Window()
    clahe: Annotated[float, Field(gt=0, le=40)] | None = None
    lungs: Literal["none", "crop", "mask", "only"] = "none"
    margin: Annotated[float, Field(ge=0, le=1)] = 0.05
    outside: Unit = 0.0
    greys: Literal["window", "landmarks"] = "window"
    segmenter: str = "lungs-lite0"
    channels: Literal[1, 3] = 3
    mean: float = 0.5
    std: Annotated[float, Field(gt=0)] = 0.5

    @model_validator(mode="after")
    def _landmarks_need_lungs(self) -> "Preprocessing":
        if self.greys == "landmarks" and self.lungs == "none":
            raise ValueError("greys landmarks are found around the lungs: set lungs to crop, mask or only")
        return self

    def box(self, height: int, width: int) -> Box:
        """The position of a slice of ``height`` by ``width`` pixels in the input."""
        rows, columns = self.size
        if self.resize == "stretch":
            return Box(top=0, left=0, height=rows, width=columns)
        scale = min(rows / height, columns / width)
        inner_rows = min(rows, max(1, round(height * scale)))
        inner_columns = min(columns, max(1, round(width * scale)))
        top, left = (rows - inner_rows) // 2, (columns - inner_columns) // 2
        return Box(top=top, left=left, height=inner_rows, width=inner_columns)

    def region(self, height: int, width: int, lungs: NDArray[np.bool_] | None = None) -> Box:
        """The part of a slice that the model sees: the whole, or the lungs and their margin.

        Parameters
        ----------
        height, width
            Size of the slice in pixels.
        lungs
            bool, shape (height, width); if it is empty, the whole slice is used.

        Raises
        ------
        ValueError
            If ``lungs`` are needed and not given, or have another shape than the slice.
        """
        whole = Box(top=0, left=0, height=height, width=width)
        if self.lungs == "none":
            return whole
        if lungs is None or lungs.shape != (height, width):
            raise ValueError(f"this preprocessing needs a mask of the lungs of shape {(height, width)}")
        if self.lungs == "mask" or not lungs.any():
            return whole
        rows, columns = (np.flatnonzero(lungs.any(axis=axis)) for axis in (1, 0))
        margin = round(self.margin * max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1)
        top, left = max(0, int(rows[0]) - margin), max(0, int(columns[0]) - margin)
        bottom, right = min(height, int(rows[-1]) + 1 + margin), min(width, int(columns[-1]) + 1 + margin)
        return Box(top=top, left=left, height=bottom - top, width=right - left)

    def grey(self, scan: Scan) -> NDArray[np.float32]:
        """A slice at its own size in grey, with the window applied to HU: float32 in [0, 1].

        Raises
        ------
        ValueError
            If ``scan`` is a volume.
        """
        if scan.is_volume:
            raise ValueError("a volume must be preprocessed slice by slice")
        return apply_window(scan.pixels, self.window.level, self.window.width) if scan.is_hu else scan.pixels

    def picture(self, scan: Scan) -> NDArray[np.uint8]:
        """A slice at its own size as 8-bit grey, to be drawn on; errors as :meth:`grey`."""
        return np.rint(self.grey(scan) * 255).astype(np.uint8)

    def grey8(self, scan: Scan, lungs: NDArray[np.bool_] | None = None) -> NDArray[np.uint8]:
        """Window, crop or mask, resize, equalise and round a slice to 8-bit grey.

        Parameters
        ----------
        scan
            The slice.
        lungs
            bool, the slice's shape: where the lungs are; needed unless ``lungs`` is ``none``. If no lungs
            were found, the slice is not changed.

        Returns
        -------
        uint8, shape ``size``.

        Raises
        ------
        ValueError
            If ``scan`` is a volume, or the lungs are needed and not given.
        """
        grey = self.grey(scan)
        height, width = grey.shape
        region = self.region(height, width, lungs)
        found = lungs is not None and lungs.any()
        if self.lungs == "mask" and self.greys == "window" and lungs is not None and found:
            grey = np.where(lungs, grey, np.float32(self.outside))
        shown = lungs[region.slices] if lungs is not None and found else None
        return self.place(grey[region.slices], shown)

    def place(self, grey: NDArray[np.float32], lungs: NDArray[np.bool_] | None = None) -> NDArray[np.uint8]:
        """Resize grey, normalise it to its landmarks, round and equalise it, and pad it to the input's size.

        Parameters
        ----------
        grey
            float32 in [0, 1], any shape (height, width).
        lungs
            bool, the same shape: for landmarks and ``only``, which are applied at the input's size; None
            skips them.

        Returns
        -------
        uint8, shape ``size``.
        """
        height, width = grey.shape
        box = self.box(height, width)
        way = Image.Resampling[self.interpolation.upper()]
        inner = np.asarray(Image.fromarray(grey).resize((box.width, box.height), way))
        if lungs is not None and (self.lungs == "only" or self.greys == "landmarks"):
            inner = self._seen(inner, _resized(lungs, inner.shape))
        rounded = np.rint(inner * np.float32(255)).clip(0, 255).astype(np.uint8)
        if self.clahe is not None:
            rounded = cv2.createCLAHE(self.clahe, (8, 8)).apply(rounded).astype(np.uint8, copy=False)
        canvas = np.full(self.size, round(self.pad_value * 255), dtype=np.uint8)
        canvas[box.slices] = rounded
        return canvas

    def _seen(self, grey: NDArray[np.float32], lungs: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Grey at the input's size, normalised to its landmarks, with everything hidden that the model must
        not see."""
        if self.greys == "landmarks":
            grey = to_landmarks(grey, lungs)
        if self.lungs == "crop":
            return grey
        kept = lungs if self.lungs == "mask" else _surroundings(lungs)
        return np.where(kept > 0, grey, np.float32(self.outside))

    def normalise(self, grey: Array) -> Array:
        """Normalise grey; the same arithmetic for numpy arrays and torch tensors.

        Parameters
        ----------
        grey
            float32 in [0, 1], any shape.

        Returns
        -------
        float32 of the same shape. A model's input repeats it for each of its channels.
        """
        return (grey - self.mean) / self.std

    def model_input(self, grey8: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Turn cached 8-bit grey, shape (batch, height, width), into model input, without augmentation.

        Returns
        -------
        float32, shape (batch, channels, height, width).
        """
        batch, height, width = grey8.shape
        # Compute each of the 256 greys once instead of each pixel.
        table = self.normalise(np.arange(256, dtype=np.float32) / np.float32(255))
        normalised = cv2.LUT(np.ascontiguousarray(grey8).reshape(batch * height, width), table)
        inputs = np.empty((batch, self.channels, height, width), dtype=np.float32)
        inputs[:] = normalised.reshape(batch, 1, height, width)
        return inputs

    def __call__(self, scan: Scan, lungs: NDArray[np.bool_] | None = None) -> NDArray[np.float32]:
        """The whole path for one slice: float32, shape (channels, height, width)."""
        return self.model_input(self.grey8(scan, lungs)[None])[0]
