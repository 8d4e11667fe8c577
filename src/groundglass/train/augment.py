"""Augmentation of a whole batch of grey slices at once, with kornia."""

import groundglass.train.torchvision_ops  # noqa: F401

# isort: split
import kornia.augmentation as K
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from groundglass.recipe.parts import Augmentation


class Augment(nn.Module):
    """Random changes to grey slices, one draw a slice, from torch's global random state.

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
        """Augmented float32 in [0, 1], shape (batch, height, width), of grey of the same shape and range."""
        if len(self.places) + len(self.looks) == 0:
            return grey
        # Coordinates in bf16 would be off by whole pixels.
        with torch.autocast(grey.device.type, enabled=False):
            return self.looks(self.places(grey[:, None]))[:, 0].clamp(0, 1)


class RandomResolution(nn.Module):
    """Shrinks half of the slices by up to ``factor`` and enlarges them again: the detail of a small figure.

    kornia has no such step.
    """

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, images: Tensor) -> Tensor:
        """Images of shape (batch, 1, height, width), with some of their detail gone."""
        changed = images.clone()
        for row in torch.nonzero(torch.rand(len(images)) < 0.5).flatten().tolist():
            scale = 1 / (1 + (self.factor - 1) * torch.rand(()).item())
            small = F.interpolate(images[row : row + 1], scale_factor=scale, mode="area")
            changed[row] = F.interpolate(small, images.shape[2:], mode="bilinear", align_corners=False)[0]
        return changed


def _places(spec: Augmentation) -> list[nn.Module]:
    """What moves a slice's places, its masks' with them where these are further channels."""
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
    """What changes greys alone."""
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
