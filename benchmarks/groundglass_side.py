"""Groundglass in benchmarks/training.py: trains by a recipe through Lightning, as ``groundglass train`` does.

Runs without validation and checkpoints, since the Keras side has neither. training.py starts it.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import groundglass.train.torchvision_ops  # noqa: F401

# isort: split
import lightning.pytorch as pl
import numpy as np
from lightning.pytorch.callbacks import EMAWeightAveraging
from lightning.pytorch.profilers import SimpleProfiler
from numpy.typing import NDArray
from torch import Tensor

from common import MAX_EPOCHS, Pacer
from groundglass.data.manifest import import_path
from groundglass.labels import POSITIVE
from groundglass.recipe.recipe import ClassificationRecipe, load_recipe
from groundglass.train.fit import lightning_precision, quieten
from groundglass.train.slices import Slices, decode, make_loader
from groundglass.train.tasks.classify import ClassifierModule

LOADING = "[_TrainingEpochLoop].train_dataloader_next"
"""Lightning's name for the time for fetching batches."""


class TimedModule(ClassifierModule):
    """Adds up the time between a batch and the network's first layer: augmentation and normalisation."""

    def __init__(self, recipe: ClassificationRecipe, counts: NDArray[np.intp]) -> None:
        super().__init__(recipe, counts)
        self.preparing: float = 0.0
        self.started: float = 0.0
        self.model.register_forward_pre_hook(self._prepared)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        self.started = time.perf_counter()
        return super().training_step(batch, batch_idx)

    def _prepared(self, *_: Any) -> None:
        self.preparing += time.perf_counter() - self.started


class Turns(pl.Callback):
    def __init__(self, pacer: Pacer, profiler: SimpleProfiler, module: TimedModule) -> None:
        self.pacer = pacer
        self.profiler = profiler
        self.module = module

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.profiler.recorded_durations.clear()
        self.module.preparing = 0.0
        self.pacer.begin()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        loading = sum(dict(self.profiler.recorded_durations)[LOADING])
        self.pacer.end(loading=loading, preparing=self.module.preparing)


def timed_decoding(paths: list[Path], preprocessing: Any) -> tuple[Any, float, float]:
    """Decoded slices; seconds to decode them all into the cache, and to load them from it."""
    started = time.perf_counter()
    decode(paths, preprocessing)
    decoded = time.perf_counter()
    grey = decode(paths, preprocessing)
    return grey, decoded - started, time.perf_counter() - decoded


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("recipe", type=Path)
    options.add_argument("--set", action="append", default=[])
    options.add_argument("--data", type=Path, required=True)
    args = options.parse_args()
    pacer = Pacer()
    quieten()
    recipe = load_recipe(args.recipe, tuple(args.set))
    pl.seed_everything(recipe.seed, verbose=False)
    manifest = import_path(args.data)
    target = (manifest["label"] == POSITIVE).to_numpy().astype(np.int64)
    grey, decoding, reading = timed_decoding([Path(path) for path in manifest["path"]], recipe.preprocessing)
    module = TimedModule(recipe, np.bincount(target, minlength=2))
    profiler = SimpleProfiler()
    average: list[pl.Callback] = (
        [EMAWeightAveraging(decay=recipe.training.ema)] if recipe.training.ema is not None else []
    )
    precision: Any = lightning_precision(recipe.training.precision)
    trainer = pl.Trainer(
        max_epochs=MAX_EPOCHS,
        precision=precision,
        gradient_clip_val=recipe.optimiser.clip_norm,
        callbacks=[*average, Turns(pacer, profiler, module)],
        profiler=profiler,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        deterministic="warn",
    )
    pacer.facts = {
        "slices": len(target),
        "parameters": sum(parameter.numel() for parameter in module.model.parameters()),
        "precision": str(trainer.precision),
        "decoding": decoding,
        "reading": reading,
    }
    trainer.fit(module, make_loader(Slices(grey, target), recipe.training.batch_size, seed=recipe.seed))


if __name__ == "__main__":
    main()
