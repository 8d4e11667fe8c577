"""The Lightning module: one training step, one validation step, optimiser and schedule of a recipe."""

from typing import Any

import groundglass.train.torchvision_ops  # noqa: F401

# isort: split
import lightning.pytorch as pl
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torchmetrics.functional.classification import (
    binary_accuracy,
    binary_auroc,
    multiclass_accuracy,
    multiclass_auroc,
)

from groundglass.preprocess import Preprocessing
from groundglass.recipe.recipe import Recipe
from groundglass.train.augment import Augment
from groundglass.train.losses import make_loss
from groundglass.train.models import Classifier, build_model
from groundglass.train.optimisers import optimiser_and_schedule


def model_images(grey: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Model input, shape (batch, channels, height, width), of grey in [0, 1], (batch, height, width)."""
    images = preprocessing.normalise(grey)[:, None].expand(-1, preprocessing.channels, -1, -1)
    return images.contiguous(memory_format=torch.channels_last)


class ClassifierModule(pl.LightningModule):
    """A classifier with its recipe's loss, augmentation, optimiser and schedule.

    Parameters
    ----------
    recipe
        The recipe.
    counts
        Number of slices of each class in the training part, for class weights: of the others and covid, or of
        each of the recipe's several classes.
    """

    def __init__(self, recipe: Recipe, counts: ArrayLike) -> None:
        super().__init__()
        self.recipe = recipe
        preprocessing = recipe.preprocessing
        self.model: Classifier = build_model(
            recipe.model, preprocessing.channels, preprocessing.size, recipe.data.several
        )
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if recipe.model.freeze_backbone:
            self.model.backbone.requires_grad_(False)
        self.augment = Augment(recipe.augmentation)
        self.loss = make_loss(recipe.loss, counts)
        self._logits: list[Tensor] = []
        self._truth: list[Tensor] = []

    def on_train_epoch_start(self) -> None:
        """Keep a frozen backbone's batch normalisation as it is."""
        if self.recipe.model.freeze_backbone:
            self.model.backbone.eval()

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Loss of one batch of cached 8-bit grey, augmented.

        Augmentation and dropout are seeded by epoch and step, so that a resumed run draws what it would have
        drawn uninterrupted.
        """
        grey8, truth = batch
        torch.manual_seed(self.recipe.seed + 1_000_003 * self.current_epoch + 101 * batch_idx)
        loss = self._mixed_loss(self.augment(grey8.to(torch.float32) / 255), truth)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(truth))
        return loss

    def _mixed_loss(self, grey: Tensor, truth: Tensor) -> Tensor:
        alpha = self.recipe.augmentation.mixup
        if not alpha:
            plain: Tensor = self.loss(self.model(self.images(grey)).float(), truth)
            return plain
        share = float(torch.distributions.Beta(alpha, alpha).sample())
        other = torch.randperm(len(grey), device=grey.device)
        logits = self.model(self.images(share * grey + (1 - share) * grey[other])).float()
        mixed: Tensor = share * self.loss(logits, truth) + (1 - share) * self.loss(logits, truth[other])
        return mixed

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Collect logits, in 32 bits whatever the training precision: the bundle answers in 32 bits."""
        grey8, truth = batch
        with torch.autocast(grey8.device.type, enabled=False):
            logits = self.model(self.images(grey8.to(torch.float32) / 255))
        self._logits.append(logits)
        self._truth.append(truth)

    def images(self, grey: Tensor) -> Tensor:
        """Model input, shape (batch, channels, height, width), of grey in [0, 1], (batch, height, width)."""
        return model_images(grey, self.recipe.preprocessing)

    def on_validation_epoch_end(self) -> None:
        """Metrics of the whole validation part at once."""
        logits, truth = torch.cat(self._logits), torch.cat(self._truth)
        self._logits.clear()
        self._truth.clear()
        self.log("val_loss", self.loss(logits, truth))
        if classes := len(self.recipe.data.several):
            probability = torch.softmax(logits, dim=1)
            self.log("val_auc", multiclass_auroc(probability, truth, classes, average="macro"))
            self.log("val_accuracy", multiclass_accuracy(probability, truth, classes, average="micro"))
        else:
            self.log("val_auc", binary_auroc(torch.sigmoid(logits), truth))
            self.log("val_accuracy", binary_accuracy(torch.sigmoid(logits), truth))

    def configure_optimizers(self) -> Any:
        """The recipe's optimiser, with a learning rate of its own for the backbone, and its schedule."""
        spec = self.recipe.optimiser
        groups = [{"params": list(self.model.head.parameters()), "lr": spec.lr}]
        if not self.recipe.model.freeze_backbone:
            backbone = list(self.model.backbone.parameters())
            groups.append({"params": backbone, "lr": spec.lr * spec.backbone_factor})
        return optimiser_and_schedule(self, self.recipe, self.recipe.training.epochs, groups)

    @torch.no_grad()
    def logits(self, grey8: NDArray[np.uint8], batch_size: int = 16) -> NDArray[np.float32]:
        """Logits, float32, shape (slices,) or (slices, classes), of 8-bit grey, (slices, height, width)."""
        self.eval()
        parts = torch.from_numpy(grey8).to(self.device).split(batch_size)
        logits = [self.model(self.images(part.to(torch.float32) / 255)).cpu() for part in parts]
        return torch.cat(logits).numpy()
