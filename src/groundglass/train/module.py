"""The Lightning modules that all tasks share: seeding, logging, optimiser, schedule and validation of detectors."""

import math
from abc import abstractmethod
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import groundglass.train.torchvision_ops  # noqa: F401

# isort: split
import lightning.pytorch as pl
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torchmetrics.functional.classification import (
    binary_accuracy,
    binary_auroc,
    multiclass_accuracy,
    multiclass_auroc,
)

from groundglass.preprocess import Preprocessing
from groundglass.recipe.parts import Recipe, Schedule

OPTIMISERS: dict[str, Any] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
    "rmsprop": torch.optim.RMSprop,
}
BATCH = 16
"""Batch size of predictions after training."""
Batch = tuple[Tensor, ...]


def model_images(grey: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Model input, shape (batch, channels, height, width), of grey in [0, 1], (batch, height, width)."""
    images = preprocessing.normalise(grey)[:, None].expand(-1, preprocessing.channels, -1, -1)
    return images.contiguous(memory_format=torch.channels_last)


class DepthwiseInFloat32(TorchFunctionMode):
    """Compute depthwise convolutions in 32 bits, where mixed precision would use 16.

    On a CPU their gradients take several times longer in bf16. EfficientNet-Lite0 trains 1.3 to 1.6 times as
    fast this way.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call the function; a grouped convolution (the seventh argument counts its groups) without autocast."""
        if func is F.conv2d and len(args) == 7 and args[6] > 1:
            with torch.autocast("cpu", enabled=False):
                return func(args[0].float(), *args[1:])
        return func(*args, **(kwargs or {}))


class TaskModule(pl.LightningModule):
    """A network with its recipe's optimiser and schedule; a task adds the loss of a batch and the validation.

    Parameters
    ----------
    recipe
        The recipe.
    model
        The network.
    epochs
        Number of epochs in the run.
    """

    def __init__(self, recipe: Recipe, model: nn.Module, epochs: int) -> None:
        super().__init__()
        self.seed = recipe.seed
        self.preprocessing = recipe.preprocessing
        self.optimiser = recipe.optimiser
        self.schedule = recipe.schedule
        self.epochs = epochs
        self.model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @abstractmethod
    def training_loss(self, batch: Batch, step: int) -> Tensor:
        """Loss of one batch of cached 8-bit grey, augmented."""

    @abstractmethod
    def parameter_groups(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """The trained parameters: new ones, and pretrained ones, whose learning rate is scaled."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of one batch.

        Augmentation and dropout are seeded by epoch and step, so that a resumed run draws the same as an
        uninterrupted one, and by the device.
        """
        torch.manual_seed(
            self.seed + 1_000_003 * self.current_epoch + 101 * batch_idx + 15_485_863 * self.global_rank
        )
        with DepthwiseInFloat32() if torch.is_autocast_enabled("cpu") else nullcontext():
            loss = self.training_loss(batch, batch_idx)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(batch[0]), sync_dist=True)
        return loss

    def on_validation_epoch_start(self) -> None:
        """Make all devices validate the network that the checkpoint will contain, that of the first device.

        Its batch normalisation statistics have differed from theirs since the last step.
        """
        if torch.distributed.is_initialized():
            for buffer in self.buffers():
                torch.distributed.broadcast(buffer, 0)

    def grey(self, grey8: Tensor) -> Tensor:
        """Grey in [0, 1], float32 on the module's device, of 8-bit grey of the same shape."""
        return grey8.to(self.device).to(torch.float32) / 255

    def images(self, grey: Tensor) -> Tensor:
        """Model input, shape (batch, channels, height, width), of grey in [0, 1], (batch, height, width)."""
        return model_images(grey, self.preprocessing)

    def configure_optimizers(self) -> Any:
        """The recipe's optimiser, with a separate learning rate for pretrained parameters, and its schedule."""
        spec = self.optimiser
        new, pretrained = self.parameter_groups()
        groups: list[dict[str, Any]] = [{"params": new, "lr": spec.lr}]
        if pretrained:
            groups.append({"params": pretrained, "lr": spec.lr * spec.backbone_factor})
        options: dict[str, Any] = {"lr": spec.lr, "weight_decay": spec.weight_decay}
        if spec.name in ("sgd", "rmsprop"):
            options["momentum"] = spec.momentum
        if spec.name == "rmsprop":
            options["alpha"] = spec.smoothing
        if spec.name != "sgd":
            options["eps"] = spec.epsilon
        optimiser = OPTIMISERS[spec.name](groups, **options)

        def rate(step: int) -> float:
            return _rate(self.schedule, self.epochs, int(self.trainer.estimated_stepping_batches), step)

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimiser, rate)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class DetectorModule(TaskModule):
    """A network whose answer is a logit of COVID-19, or one logit for each of several classes.

    Parameters
    ----------
    recipe, model, epochs
        As in :class:`TaskModule`.
    loss
        The loss of logits and class numbers.
    """

    def __init__(self, recipe: Recipe, model: nn.Module, epochs: int, loss: nn.Module) -> None:
        super().__init__(recipe, model, epochs)
        self.several = recipe.data.several
        self.loss = loss
        self._validated: list[tuple[Tensor, Tensor]] = []

    def predict_logits(self, images: Tensor) -> Tensor:
        """Logits, shape (batch,) or (batch, classes), of model input."""
        logits: Tensor = self.model(images)
        return logits

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Collect logits in 32 bits, regardless of the training precision: the bundle answers in 32 bits."""
        grey8, truth = batch
        with torch.autocast(grey8.device.type, enabled=False):
            self._validated.append((self.predict_logits(self.images(self.grey(grey8))), truth))

    def on_validation_epoch_end(self) -> None:
        """Compute metrics on the whole validation set at once."""
        logits, truth = (torch.cat(parts) for parts in zip(*self._validated, strict=True))
        self._validated.clear()
        self.log("val_loss", self.loss(logits, truth))
        if classes := len(self.several):
            probability = torch.softmax(logits, dim=1)
            self.log("val_auc", multiclass_auroc(probability, truth, classes, average="macro"))
            self.log("val_accuracy", multiclass_accuracy(probability, truth, classes, average="micro"))
        else:
            self.log("val_auc", binary_auroc(torch.sigmoid(logits), truth))
            self.log("val_accuracy", binary_accuracy(torch.sigmoid(logits), truth))

    def logits(self, grey8: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits, float32, shape (slices,) or (slices, classes), of 8-bit grey, (slices, height, width)."""
        return self.in_batches(self.predict_logits, grey8)

    @torch.no_grad()
    def in_batches(self, answer: Callable[[Tensor], Tensor], grey8: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The outputs, float32, of a function of model input for 8-bit grey, (slices, height, width)."""
        self.eval()
        parts = torch.from_numpy(grey8).split(BATCH)
        return torch.cat([answer(self.images(self.grey(part))).float().cpu() for part in parts]).numpy()


def _rate(schedule: Schedule, epochs: int, total: int, step: int) -> float:
    warmup = round(schedule.warmup_epochs * total / epochs)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if schedule.name == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, total - warmup))))
