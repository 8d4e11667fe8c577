"""The Lightning module of a segmenter."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import groundglass.train.torchvision_ops  # noqa: F401

# isort: split
import lightning.pytorch as pl
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from groundglass.preprocess import Preprocessing
from groundglass.recipe.tasks import SegmentationRecipe
from groundglass.train.module import model_images
from groundglass.train.optimisers import optimiser_and_schedule
from groundglass.train.segmentation.augment import Augment
from groundglass.train.segmentation.losses import MaskLoss
from groundglass.train.segmentation.models import build_segmentation_model

AUGMENTING = 2
"""Threads that augment a batch: OpenCV and numpy let go of Python's lock."""


class SegmenterModule(pl.LightningModule):
    """A segmenter with its recipe's loss, augmentation, optimiser and schedule.

    Parameters
    ----------
    recipe
        The recipe.
    cases
        The case of each slice of the validation part, numbered from 0.
    """

    def __init__(self, recipe: SegmentationRecipe, cases: NDArray[np.intp]) -> None:
        super().__init__()
        self.recipe = recipe
        self.model = build_segmentation_model(recipe.model, recipe.preprocessing.channels)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.augment = Augment(recipe.augmentation)
        self.loss = MaskLoss(recipe.loss)
        self._cases = cases
        self._counts: list[NDArray[np.float64]] = []
        self._losses: list[float] = []

    def preprocessing_at(self, epoch: int) -> Preprocessing:
        """The preprocessing of an epoch: the recipe's, or at its smaller size at first."""
        smaller = self.recipe.training.smaller_first
        if smaller is None or epoch >= smaller.epochs:
            return self.recipe.preprocessing
        return self.recipe.preprocessing.model_copy(update={"size": smaller.size})

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Leave a batch on the processor, which augments it; :meth:`images` moves what the network sees."""
        return batch

    def training_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> Tensor:
        """Loss of one batch, augmented; each slice's draw depends on seed, epoch and row alone."""
        rows, grey8, masks = (part.numpy() for part in batch)
        epoch = self.current_epoch
        torch.manual_seed(self.recipe.seed + 1_000_003 * epoch + 101 * batch_idx)
        preprocessing = self.preprocessing_at(epoch)

        def draw(number: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
            seed = (self.recipe.seed, epoch, int(rows[number]))
            return self.augment(grey8[number], masks[number], preprocessing, seed)

        with ThreadPoolExecutor(AUGMENTING) as pool:
            drawn = list(pool.map(draw, range(len(rows))))
        images = self.images(np.stack([grey for grey, _ in drawn]))
        truth = torch.from_numpy(np.stack([mask for _, mask in drawn])).to(self.device)
        logits = self.model(images)
        with torch.autocast(self.device.type, enabled=False):
            loss: Tensor = self.loss(logits.float(), truth)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(rows))
        return loss

    def images(self, grey8: NDArray[np.uint8]) -> Tensor:
        """Model input of 8-bit grey, shape (batch, height, width)."""
        grey = torch.from_numpy(grey8).to(self.device).to(torch.float32) / 255
        return model_images(grey, self.recipe.preprocessing)

    def validation_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> None:
        """Count what is common to mask and truth, in 32 bits whatever the training precision."""
        _, grey8, masks = batch
        truth = masks.permute(0, 3, 1, 2).to(self.device)
        with torch.autocast(self.device.type, enabled=False):
            logits = self.model(self.images(grey8.numpy()))
            self._losses += [float(self.loss(logits, truth))] * len(grey8)
        found = logits > 0
        parts = [(found & (truth > 0)), found, truth > 0]
        counts = torch.stack([part.sum(dim=(2, 3)) for part in parts], dim=-1)
        self._counts.append(counts.cpu().numpy().astype(np.float64))

    def on_validation_epoch_end(self) -> None:
        """Dice of lungs and of lesions, each the mean over cases of the case's own."""
        counts = np.concatenate(self._counts)
        summed = np.stack([counts[self._cases == case].sum(axis=0) for case in np.unique(self._cases)])
        common, total = summed[..., 0], summed[..., 1] + summed[..., 2]
        # Where there is nothing to find, finding nothing is right.
        dice = np.where(total > 0, 2 * common / np.maximum(1, total), 1).mean(axis=0)
        self.log("val_loss", float(np.mean(self._losses)))
        self.log("val_lung_dice", float(dice[0]))
        self.log("val_lesion_dice", float(dice[1]))
        self.log("val_dice", float(dice.mean()))
        self._counts.clear()
        self._losses.clear()

    def configure_optimizers(self) -> Any:
        """The recipe's optimiser, with a learning rate of its own for a pretrained encoder, and its schedule."""
        spec = self.recipe.optimiser
        encoder = [p for name, p in self.model.named_parameters() if name.startswith("encoder.model.")]
        taken = {id(p) for p in encoder}
        groups = [{"params": [p for p in self.model.parameters() if id(p) not in taken], "lr": spec.lr}]
        if encoder:
            groups.append({"params": encoder, "lr": spec.lr * spec.backbone_factor})
        return optimiser_and_schedule(self, self.recipe, self.recipe.training.epochs, groups)

    @torch.no_grad()
    def probabilities(self, grey8: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities of lung and lesion, float32, shape (slices, 2, height, width), in eval mode."""
        self.eval()
        batches = np.array_split(grey8, max(1, len(grey8) // 8))
        answers = [torch.sigmoid(self.model(self.images(batch))).cpu().numpy() for batch in batches]
        return np.concatenate(answers).astype(np.float32)
