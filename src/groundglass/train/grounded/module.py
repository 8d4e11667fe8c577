"""The Lightning module of a grounded detector."""

from typing import Any

import groundglass.train.torchvision_ops  # noqa: F401

# isort: split
import lightning.pytorch as pl
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics.functional.classification import binary_accuracy, binary_auroc

from groundglass.recipe.tasks import GroundedRecipe
from groundglass.train.augment import Augment
from groundglass.train.grounded.network import frozen_parameters, grounded_network
from groundglass.train.grounded.painted import paint
from groundglass.train.grounded.slices import MaskedSlices
from groundglass.train.losses import make_loss
from groundglass.train.module import model_images
from groundglass.train.optimisers import optimiser_and_schedule
from groundglass.train.segmentation.losses import MaskLoss

HEALTHY = 0.01
"""Lesion share up to which other lesions may be painted in."""


class GroundedModule(pl.LightningModule):
    """A grounded detector with its recipe's losses, augmentation, optimiser and schedule.

    Parameters
    ----------
    recipe
        The recipe.
    masked
        The slices with masks; none where nothing is to be trained.
    start
        Take over the segmenter's weights; without, they are to come from a checkpoint.
    """

    def __init__(
        self, recipe: GroundedRecipe, masked: MaskedSlices | None = None, *, start: bool = True
    ) -> None:
        super().__init__()
        self.recipe = recipe
        self.model = grounded_network(recipe.model, recipe.preprocessing.channels, start=start)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for parameter in frozen_parameters(self.model):
            parameter.requires_grad_(False)
        self.augment = Augment(recipe.augmentation)
        self.loss = make_loss(recipe.loss, (1, 1))
        self.mask_loss = MaskLoss(recipe.loss.masks)
        self._masked = masked
        self._logits: list[Tensor] = []
        self._truth: list[Tensor] = []

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Loss of the answers and of the masks; what is drawn depends on seed, epoch and step alone."""
        seed = (self.recipe.seed, self.current_epoch, batch_idx)
        torch.manual_seed(self.recipe.seed + 1_000_003 * self.current_epoch + 101 * batch_idx)
        random = np.random.default_rng(seed)
        grey8, truth = batch
        answered = self._moved(self._painted(random, grey8, truth)[:, None])
        masked = self._moved(self._with_masks(random))
        grey = torch.cat([masked[:, 0], answered[:, 0]])
        with torch.autocast(self.device.type, enabled=False), torch.no_grad():
            grey = self.augment.looks(grey[:, None])[:, 0].clamp(0, 1)
        masks, logits, _, _ = self.model(self.images(grey))
        with torch.autocast(self.device.type, enabled=False):
            count = len(masked)
            loss: Tensor = self.mask_loss(masks[:count].float(), (masked[:, 1:] > 0.5).float())
            loss = loss + self.recipe.loss.weight * self.loss(logits[count:].float(), truth)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(truth))
        return loss

    def _moved(self, channels: Tensor) -> Tensor:
        """Slices, the first channel, moved with their masks; what comes into view is as dark as outside."""
        with torch.autocast(self.device.type, enabled=False), torch.no_grad():
            outside = self.recipe.preprocessing.outside
            channels[:, 0] -= outside
            moved: Tensor = self.augment.places(channels)
            moved[:, 0] += outside
        return moved

    def _painted(self, random: np.random.Generator, grey8: Tensor, truth: Tensor) -> Tensor:
        """Grey in [0, 1], with other lesions painted into some slices without COVID-19 and with hardly a lesion."""
        chance = self.recipe.augmentation.painted
        chosen = (truth.cpu().numpy() == 0) & (random.random(len(truth)) < chance)
        if chosen.any():
            rows = np.flatnonzero(chosen)
            pictures = grey8[torch.from_numpy(rows)].cpu().numpy()
            with torch.no_grad():
                marked = torch.sigmoid(self.model.marked(self._grey_images(grey8[torch.from_numpy(rows)])))
            probabilities = marked.float().cpu().numpy()
            grey8 = grey8.clone()
            for row, picture, (lungs, lesions) in zip(rows, pictures, probabilities, strict=True):
                if lesions.sum() <= HEALTHY * lungs.sum():
                    grey8[row] = torch.from_numpy(paint(random, picture, lungs > 0.5))
        return grey8.to(torch.float32) / 255

    def _with_masks(self, random: np.random.Generator) -> Tensor:
        """A draw of the slices with masks: float32, shape (slices, 3, height, width), grey, lungs and lesions."""
        if self._masked is None:
            raise ValueError("a module without masks cannot be trained")
        rows = random.integers(len(self._masked.grey), size=self.recipe.training.masks_batch)
        grey = self._masked.grey[rows][:, None].astype(np.float32) / np.float32(255)
        together = np.concatenate([grey, self._masked.masks[rows]], axis=1, dtype=np.float32)
        turned = random.random(len(rows)) < self.recipe.augmentation.upside_down
        together[turned] = together[turned, :, ::-1]
        return torch.from_numpy(together).to(self.device)

    def images(self, grey: Tensor) -> Tensor:
        """Model input, shape (batch, channels, height, width), of grey in [0, 1], (batch, height, width)."""
        return model_images(grey, self.recipe.preprocessing)

    def _grey_images(self, grey8: Tensor) -> Tensor:
        return self.images(grey8.to(self.device).to(torch.float32) / 255)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Collect logits, in 32 bits whatever the training precision: the bundle answers in 32 bits."""
        grey8, truth = batch
        with torch.autocast(self.device.type, enabled=False):
            self._logits.append(self.model(self._grey_images(grey8))[1])
        self._truth.append(truth)

    def on_validation_epoch_end(self) -> None:
        """Metrics of the whole validation part at once."""
        logits, truth = torch.cat(self._logits), torch.cat(self._truth)
        self._logits.clear()
        self._truth.clear()
        self.log("val_loss", self.loss(logits, truth))
        self.log("val_auc", binary_auroc(torch.sigmoid(logits), truth))
        self.log("val_accuracy", binary_accuracy(torch.sigmoid(logits), truth))

    def configure_optimizers(self) -> Any:
        """The recipe's optimiser, with a learning rate of its own for the U-Net, and its schedule."""
        spec = self.recipe.optimiser
        unet = [one for one in self.model.unet.parameters() if one.requires_grad]
        groups = [
            {"params": [*self.model.judge.parameters(), self.model.bias], "lr": spec.lr},
            {"params": unet, "lr": spec.lr * spec.backbone_factor},
        ]
        return optimiser_and_schedule(self, self.recipe, self.recipe.training.epochs, groups)

    @torch.no_grad()
    def answers(self, grey8: NDArray[np.uint8], batch_size: int = 16) -> tuple[NDArray[np.float32], ...]:
        """What the network makes of 8-bit grey, shape (slices, height, width).

        Returns
        -------
        Logits, float32, shape (slices,); the evidence, (slices, rows, columns); the lungs' mean features, (slices,
        features).
        """
        self.eval()
        parts = torch.from_numpy(grey8).split(batch_size)
        outputs = [self.model(self._grey_images(part))[1:] for part in parts]
        return tuple(torch.cat(one).float().cpu().numpy() for one in zip(*outputs, strict=True))
