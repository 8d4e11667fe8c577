"""The optimiser of a recipe, and its learning rate over the run."""

import math
from typing import Any

import groundglass.train.torchvision_ops  # noqa: F401

# isort: split
import lightning.pytorch as pl
import torch

from groundglass.recipe.parts import CommonRecipe, Schedule

OPTIMISERS: dict[str, Any] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
    "rmsprop": torch.optim.RMSprop,
}


def optimiser_and_schedule(
    module: pl.LightningModule, recipe: CommonRecipe, epochs: int, groups: list[dict[str, Any]]
) -> dict[str, Any]:
    """What a Lightning module's ``configure_optimizers`` returns, by its recipe.

    Parameters
    ----------
    module
        The module.
    recipe
        Its recipe.
    epochs
        Of the run.
    groups
        Parameters, with their learning rates.
    """
    spec = recipe.optimiser
    options: dict[str, Any] = {"lr": spec.lr, "weight_decay": spec.weight_decay}
    if spec.name in ("sgd", "rmsprop"):
        options["momentum"] = spec.momentum
    if spec.name == "rmsprop":
        options["alpha"] = spec.smoothing
    if spec.name != "sgd":
        options["eps"] = spec.epsilon
    optimiser = OPTIMISERS[spec.name](groups, **options)

    def rate(step: int) -> float:
        return _rate(recipe.schedule, epochs, int(module.trainer.estimated_stepping_batches), step)

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimiser, rate)
    return {"optimizer": optimiser, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def _rate(schedule: Schedule, epochs: int, total: int, step: int) -> float:
    warmup = round(schedule.warmup_epochs * total / epochs)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if schedule.name == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, total - warmup))))
