"""Augmentation of slices, with and without masks.

Two classes share the work, because they change a slice at different stages. :class:`Augment` changes a whole
batch of network inputs with kornia, which is fastest; masks are further channels. :class:`PictureAugment` is
for segmenters, which must also work on figures cut from papers. It turns each slice into a picture with a size
of its own, such as users have. Resizing, padding and equalising follow, exactly as for a user's picture. kornia
cannot do that on a batch and has no frames, marks or painted anatomy, and the shipped segmenter was trained with
exactly these distributions, so this part uses OpenCV.
"""

from typing import NamedTuple

import groundglass.train.torchvision_ops  # noqa: F401

# isort: split
import cv2
import kornia.augmentation as K
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from groundglass.preprocess import Preprocessing
from groundglass.recipe.parts import Augmentation
from groundglass.recipe.tasks import SegmentationAugmentation
from groundglass.train.losses import UNKNOWN
from groundglass.train.masks import place_masks
from groundglass.train.pictures import draw_marks, not_ct, with_gas, without_lungs

Grey = NDArray[np.float32]
Masks = NDArray[np.uint8]

WIDEST_MARGIN = 0.15
"""Largest margin around the lungs to which a picture is cropped, as a share of the longer side of their box."""


class Augment(nn.Module):
    """Random changes to a batch of grey slices, one draw per slice, from torch's global random state.

    Parameters
    ----------
    spec
        The recipe's augmentation part.
    """

    def __init__(self, spec: Augmentation) -> None:
        super().__init__()
        self.places = nn.Sequential(*_places(spec))
        self.looks = nn.Sequential(*_looks(spec))

    @torch.no_grad()
    def forward(self, grey: Tensor) -> Tensor:
        """Augment grey slices, float32 in [0, 1], shape (batch, height, width); the result has the same form."""
        return self.look(self.move(grey[:, None])[:, 0])

    @torch.no_grad()
    def move(self, channels: Tensor, outside: float = 0.0) -> Tensor:
        """Flip, rotate, shift, zoom and shear slices together with their masks.

        Parameters
        ----------
        channels
            float32, shape (batch, channels, height, width): grey, then the masks. It may be changed in place.
        outside
            Grey of areas that come into view from outside a slice.
        """
        # In bf16, coordinates would be off by whole pixels.
        with torch.autocast(channels.device.type, enabled=False):
            if outside:
                channels[:, 0] -= outside
            moved: Tensor = self.places(channels)
            if outside:
                moved[:, 0] += outside
        return moved

    @torch.no_grad()
    def look(self, grey: Tensor) -> Tensor:
        """Change only grey levels, shape (batch, height, width), as window, kernel and dose do."""
        with torch.autocast(grey.device.type, enabled=False):
            changed: Tensor = self.looks(grey[:, None])[:, 0].clamp(0, 1)
        return changed


class RandomResolution(nn.Module):
    """Shrinks half of the slices by up to ``factor`` and enlarges them again: the detail of a small figure.

    kornia has no such step.
    """

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, images: Tensor) -> Tensor:
        """Images of shape (batch, 1, height, width), some with less detail."""
        changed = images.clone()
        for row in torch.nonzero(torch.rand(len(images)) < 0.5).flatten().tolist():
            scale = 1 / (1 + (self.factor - 1) * torch.rand(()).item())
            small = F.interpolate(images[row : row + 1], scale_factor=scale, mode="area")
            changed[row] = F.interpolate(small, images.shape[2:], mode="bilinear", align_corners=False)[0]
        return changed


def _places(spec: Augmentation) -> list[nn.Module]:
    """Geometric steps, which also apply to masks as further channels."""
    steps: list[nn.Module] = []
    if spec.flip:
        steps.append(K.RandomHorizontalFlip(p=spec.flip))
    if spec.rotation or spec.shift or spec.zoom or spec.shear:
        zoom = (1 - spec.zoom, 1 + spec.zoom)
        steps.append(
            K.RandomAffine(
                degrees=spec.rotation,
                translate=(spec.shift, spec.shift) if spec.shift else None,
                scale=(zoom * 2 if spec.zoom_axes else zoom) if spec.zoom else None,
                shear=(-spec.shear, spec.shear) if spec.shear else None,
                padding_mode="border" if spec.fill == "nearest" else "zeros",
                p=1.0,
            )
        )
    return steps


def _looks(spec: Augmentation) -> list[nn.Module]:
    """Steps that change only grey levels."""
    steps: list[nn.Module] = []
    if spec.gamma:
        steps.append(K.RandomGamma((1 - spec.gamma, 1 / (1 - spec.gamma)), p=0.5))
    if spec.brightness:
        steps.append(K.RandomBrightness((1 - spec.brightness, 1 + spec.brightness), p=0.5))
    if spec.contrast:
        steps.append(K.RandomContrast((1 - spec.contrast, 1 + spec.contrast), p=0.5))
    if spec.blur:
        steps.append(K.RandomGaussianBlur((7, 7), (0.1, spec.blur), p=0.3))
    if spec.resolution > 1:
        steps.append(RandomResolution(spec.resolution))
    if spec.sharpen:
        steps.append(K.RandomSharpness(spec.sharpen, p=0.3))
    if spec.noise:
        steps.append(K.RandomGaussianNoise(0.0, spec.noise, p=0.3))
    if spec.erase:
        steps.append(K.RandomErasing((0.02, max(0.021, spec.erase)), p=0.5))
    return steps


class MaskedPicture(NamedTuple):
    """Grey, float32 in [0, 1], shape (height, width), and its masks, uint8 0 or 1, shape (height, width, masks)."""

    grey: Grey
    masks: Masks


class PictureAugment:
    """Random pictures of one slice with its masks, one draw per seed, each preprocessed like a user's picture.

    Parameters
    ----------
    spec
        The recipe's augmentation part.
    """

    def __init__(self, spec: SegmentationAugmentation) -> None:
        self.spec = spec

    def __call__(
        self, grey8: NDArray[np.uint8], masks: Masks, preprocessing: Preprocessing, seed: tuple[int, ...]
    ) -> tuple[NDArray[np.uint8], Masks]:
        """A random picture of a slice as 8-bit network input, with its masks.

        Parameters
        ----------
        grey8
            uint8, shape (height, width).
        masks
            uint8 0 or 1, shape (height, width, masks); the first is the mask of the lungs. A plane that is
            not a training target has :data:`UNKNOWN` added.
        preprocessing
            Preprocessing of the picture, as for a user's.
        seed
            Equal seeds give equal pictures.

        Returns
        -------
        8-bit grey, shape ``preprocessing.size``, and masks, shape (masks, height, width), with :data:`UNKNOWN`
        added as before.
        """
        random = np.random.default_rng(seed)
        longest = max(preprocessing.size)
        if random.random() < self.spec.not_ct:
            grey = not_ct(random, longest)
            picture = MaskedPicture(grey, np.zeros((*grey.shape, masks.shape[2]), dtype=np.uint8))
            return preprocessing.place(picture.grey), place_masks(picture.masks, preprocessing)
        unknown = np.asarray(masks.max(axis=(0, 1)) >= UNKNOWN)
        masks = masks % UNKNOWN
        if not unknown[0]:
            grey8, masks = self._anatomy(random, grey8, masks)
        picture = self._intensity(random, _warp(random, self.spec, grey8, masks, longest))
        grey8, placed = self._placed(random, picture, preprocessing)
        return grey8, placed + unknown[:, None, None].astype(np.uint8) * np.uint8(UNKNOWN)

    def _placed(
        self, random: np.random.Generator, picture: MaskedPicture, preprocessing: Preprocessing
    ) -> tuple[NDArray[np.uint8], Masks]:
        """The picture as the network sees it: whole, or cropped to the lungs with fixed greys."""
        grey, masks = picture
        lungs = masks[..., 0] > 0
        if self.spec.focus and random.random() < self.spec.focus and lungs.any():
            near = {"lungs": "crop", "greys": "landmarks", "margin": random.uniform(0, WIDEST_MARGIN)}
            preprocessing = preprocessing.model_copy(update=near)
            part = preprocessing.region(lungs.shape[0], lungs.shape[1], lungs).slices
            return preprocessing.place(grey[part], lungs[part]), place_masks(masks[part], preprocessing)
        return preprocessing.place(grey), place_masks(masks, preprocessing)

    def _anatomy(
        self, random: np.random.Generator, grey8: NDArray[np.uint8], masks: Masks
    ) -> tuple[NDArray[np.uint8], Masks]:
        """The slice, perhaps without lungs or with pockets of gas."""
        if self.spec.no_lungs and random.random() < self.spec.no_lungs:
            grey8, masks = without_lungs(random, grey8, masks[..., 0]), np.zeros_like(masks)
            if random.random() < 0.5:
                grey8 = with_gas(random, grey8, masks[..., 0])
        elif self.spec.gas and random.random() < self.spec.gas:
            grey8 = with_gas(random, grey8, masks[..., 0])
        return grey8, masks

    def _intensity(self, random: np.random.Generator, picture: MaskedPicture) -> MaskedPicture:
        spec = self.spec
        grey = _degrade(random, spec, picture.grey)
        if random.random() < spec.window:
            mediastinal = random.random() < spec.mediastinal
            low = random.uniform(0.3, 0.5) if mediastinal else random.uniform(-0.15, 0.22)
            high = random.uniform(0.7, 1.1) if mediastinal else random.uniform(0.5, 1.2)
            grey = (grey - np.float32(low)) / np.float32(high - low)
        grey = grey.clip(0, 1)
        if spec.gamma and random.random() < 0.7:
            grey = grey ** np.float32(np.exp(random.normal(0, spec.gamma)))
        if spec.window and random.random() < 0.3:
            low, high = random.uniform(0, 0.3), random.uniform(0.6, 1)
            grey = np.float32(low) + np.float32(high - low) * grey
        grey8 = np.rint(grey * 255).clip(0, 255).astype(np.uint8)
        if random.random() < spec.marks:
            draw_marks(random, grey8)
        masks = picture.masks
        if random.random() < spec.frame:
            masks = masks.copy()
            _frame(random, grey8, masks)
        if random.random() < spec.jpeg:
            quality = [cv2.IMWRITE_JPEG_QUALITY, int(random.integers(25, 90))]
            decoded = cv2.imdecode(cv2.imencode(".jpg", grey8, quality)[1], cv2.IMREAD_GRAYSCALE)
            grey8 = np.asarray(decoded, dtype=np.uint8)
        return MaskedPicture(grey8.astype(np.float32) / np.float32(255), masks)


def _frame_corners(
    random: np.random.Generator, spec: SegmentationAugmentation, lungs: NDArray[np.uint8]
) -> tuple[float, float, float, float]:
    """The part of the slice that becomes the picture: left, top, right, bottom; it may extend beyond the slice."""
    height, width = lungs.shape
    choice = random.random()
    if choice < spec.crop and lungs.any():
        rows, columns = np.flatnonzero(lungs.any(axis=1)), np.flatnonzero(lungs.any(axis=0))
        # From slightly inside the lungs' bounding box (0) to the whole slice (1), each side separately.
        t = random.uniform(-0.08, 1, 4)
        left, right = columns[0] * (1 - t[0]), columns[-1] + 1 + (width - columns[-1] - 1) * t[1]
        top, bottom = rows[0] * (1 - t[2]), rows[-1] + 1 + (height - rows[-1] - 1) * t[3]
        return left, top, right, bottom
    if choice < spec.crop + spec.piece:
        piece_width, piece_height = random.uniform(0.3, 0.9, 2) * (width, height)
        left, top = random.uniform(0, width - piece_width), random.uniform(0, height - piece_height)
        return left, top, left + piece_width, top + piece_height
    if choice < spec.crop + spec.piece + spec.zoom_out:
        more = random.uniform(0, 0.2, 4) * (width, height, width, height)
        return -more[0], -more[1], width + more[2], height + more[3]
    return 0.0, 0.0, float(width), float(height)


def _warp(
    random: np.random.Generator,
    spec: SegmentationAugmentation,
    grey8: NDArray[np.uint8],
    masks: Masks,
    longest: int,
) -> MaskedPicture:
    """Crop, rotate, mirror, stretch and shear in one resampling; the longer side becomes ``longest`` pixels."""
    left, top, right, bottom = _frame_corners(random, spec, masks[..., 0])
    aspect = (right - left) / (bottom - top) * np.exp(random.normal(0, spec.aspect))
    width = max(32, round(longest * min(1.0, aspect)))
    height = max(32, round(longest * min(1.0, 1 / aspect)))
    angle = np.deg2rad(random.normal(0, spec.rotation)) if random.random() < 0.6 else 0.0
    if spec.rotation and random.random() < 0.03:
        angle += np.pi / 2
    shear = random.normal(0, spec.shear) if random.random() < 0.3 else 0.0
    mirror = np.diag(
        [-1.0 if random.random() < spec.flip else 1.0, -1.0 if random.random() < spec.upside_down else 1.0]
    )
    cosine, sine = np.cos(angle), np.sin(angle)
    linear = np.diag([(right - left) / width, (bottom - top) / height])
    linear = linear @ np.array([[cosine, -sine], [sine, cosine]]) @ np.array([[1, shear], [0, 1]]) @ mirror
    centre = np.array([(left + right) / 2, (top + bottom) / 2])
    offset = centre - linear @ np.array([width / 2, height / 2])
    matrix = np.hstack([linear, offset[:, None]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    border = int(np.median(grey8[:4])) if random.random() < 0.7 else int(random.choice([0, 0, 255]))
    grey = cv2.warpAffine(grey8, matrix, (width, height), flags=flags, borderValue=border)
    warped = [
        cv2.warpAffine(mask * np.uint8(255), matrix, (width, height), flags=flags) > 127
        for mask in _planes(masks)
    ]
    return MaskedPicture(
        grey.astype(np.float32) / np.float32(255), np.stack(warped, axis=-1).astype(np.uint8)
    )


def _planes(masks: Masks) -> list[NDArray[np.uint8]]:
    return [np.ascontiguousarray(masks[..., number]) for number in range(masks.shape[2])]


def _degrade(random: np.random.Generator, spec: SegmentationAugmentation, grey: Grey) -> Grey:
    """A smooth brightness, blur, lost resolution and noise."""
    height, width = grey.shape
    if spec.bias and random.random() < 0.3:
        coarse = random.normal(0, spec.bias, (3, 3)).astype(np.float32)
        grey = grey + cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    if spec.blur and random.random() < 0.25:
        blurred = cv2.GaussianBlur(grey, (0, 0), random.uniform(0.3, max(0.31, spec.blur)))
        grey = blurred.astype(np.float32, copy=False)
    if spec.resolution > 1 and random.random() < 0.4:
        factor = random.uniform(1, spec.resolution)
        size = (max(16, int(width / factor)), max(16, int(height / factor)))
        small = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
        enlarged = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
        grey = enlarged.astype(np.float32, copy=False)
    if spec.noise and random.random() < 0.4:
        grey = grey + random.normal(0, random.uniform(0.1, 1) * spec.noise, grey.shape).astype(np.float32)
    return grey


def _frame(random: np.random.Generator, grey8: NDArray[np.uint8], masks: Masks) -> None:
    """Cover the sides with a frame of 0 to 13 pixels, black or white; what it covers is not lung."""
    height, width = grey8.shape
    top, bottom, left, right = random.integers(0, 14, 4)
    inside = np.zeros((height, width), dtype=bool)
    inside[top : height - bottom, left : width - right] = True
    grey8[~inside] = random.choice([0, 255])
    masks[~inside] = 0
