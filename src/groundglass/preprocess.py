"""Preprocessing: the one path from a Scan to a model's input, for training, prediction and export alike.

It is saved in the bundle with the model. Training caches what :meth:`Preprocessing.grey8` gives and augments
it; prediction takes the same array without augmentation; both end in :meth:`Preprocessing.normalise`.
"""

from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from groundglass.scan.scan import Scan
from groundglass.scan.windowing import LUNG_WINDOW, apply_window

Array = TypeVar("Array", bound=Any)
Side = Annotated[int, Field(ge=16, le=2048)]
Unit = Annotated[float, Field(ge=0, le=1)]


class Window(BaseModel):
    """The window through which a scan in HU is seen; grey scans already carry one and keep it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    level: float = LUNG_WINDOW[0]
    width: Annotated[float, Field(gt=0)] = LUNG_WINDOW[1]


class Box(BaseModel):
    """Where a slice lies within the model's input, in pixels: rows top to bottom, columns left to right."""

    model_config = ConfigDict(frozen=True)

    top: int
    left: int
    height: int
    width: int


class Preprocessing(BaseModel):
    """How a slice becomes a model's input.

    Attributes
    ----------
    size
        Height and width of the input, in pixels.
    resize
        ``pad`` keeps the aspect ratio and centres the slice on ``pad_value``; ``stretch`` fills the input.
    pad_value
        Grey of the padding, in [0, 1].
    window
        Applied to scans in HU.
    channels
        1, or 3 for models that were made for colour: the grey is repeated.
    mean, std
        The grey, in [0, 1], is normalised to ``(grey - mean) / std``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: tuple[Side, Side] = (224, 224)
    resize: Literal["pad", "stretch"] = "pad"
    pad_value: Unit = 0.0
    window: Window = Window()
    channels: Literal[1, 3] = 3
    mean: float = 0.5
    std: Annotated[float, Field(gt=0)] = 0.5

    def box(self, height: int, width: int) -> Box:
        """Where a slice of ``height`` by ``width`` pixels comes to lie in the input."""
        rows, columns = self.size
        if self.resize == "stretch":
            return Box(top=0, left=0, height=rows, width=columns)
        scale = min(rows / height, columns / width)
        inner_rows = min(rows, max(1, round(height * scale)))
        inner_columns = min(columns, max(1, round(width * scale)))
        top, left = (rows - inner_rows) // 2, (columns - inner_columns) // 2
        return Box(top=top, left=left, height=inner_rows, width=inner_columns)

    def grey8(self, scan: Scan) -> NDArray[np.uint8]:
        """Window, resize (bilinear with antialiasing) and round a slice to 8-bit grey.

        Returns
        -------
        uint8, shape ``size``.

        Raises
        ------
        ValueError
            If ``scan`` is a volume.
        """
        if scan.is_volume:
            raise ValueError("a volume goes through preprocessing slice by slice")
        grey = apply_window(scan.pixels, self.window.level, self.window.width) if scan.is_hu else scan.pixels
        box = self.box(*grey.shape)
        inner = Image.fromarray(grey).resize((box.width, box.height), Image.Resampling.BILINEAR)
        canvas = np.full(self.size, round(self.pad_value * 255), dtype=np.uint8)
        rounded = np.rint(np.asarray(inner) * np.float32(255)).clip(0, 255)
        canvas[box.top : box.top + box.height, box.left : box.left + box.width] = rounded.astype(np.uint8)
        return canvas

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
        normalised = self.normalise(grey8.astype(np.float32) / np.float32(255))
        return np.repeat(normalised[:, None], self.channels, axis=1)

    def __call__(self, scan: Scan) -> NDArray[np.float32]:
        """The whole path for one slice: float32, shape (channels, height, width)."""
        return self.model_input(self.grey8(scan)[None])[0]
