"""The training loop: from a recipe and a manifest to a run's folder with its best checkpoint."""

import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import groundglass.train.torchvision_ops  # noqa: F401

# isort: split
import lightning.pytorch as pl
import numpy as np
import pandas as pd
import torch
from lightning.pytorch.callbacks import EarlyStopping, EMAWeightAveraging, ModelCheckpoint, RichProgressBar
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from groundglass.errors import GroundglassError
from groundglass.labels import NEGATIVE, POSITIVE
from groundglass.recipe.parts import CommonRecipe, Length
from groundglass.recipe.recipe import Recipe
from groundglass.segment.segmenter import segmenter_for
from groundglass.train.callbacks import AtomicCheckpointIO, EpochLog
from groundglass.train.module import ClassifierModule
from groundglass.train.run import Run
from groundglass.train.slices import Slices, decode, make_loader

LOGGED = ("train_loss", "val_loss", "val_auc", "val_accuracy")
"""What a classifier's log has of each epoch."""


@dataclass(frozen=True)
class PartData:
    """The decoded slices of one part.

    Attributes
    ----------
    rows
        The manifest's rows.
    grey
        uint8, shape (slices, height, width).
    target
        int64, shape (slices,): the number of each slice's class among ``classes``.
    classes
        The others and covid, or the recipe's several classes.
    """

    rows: pd.DataFrame
    grey: NDArray[np.uint8]
    target: NDArray[np.int64]
    classes: tuple[str, ...]

    @property
    def truth(self) -> NDArray[np.bool_]:
        """Whether each slice is labelled covid: bool, shape (slices,)."""
        return self.target == self.classes.index(POSITIVE)

    @property
    def counts(self) -> NDArray[np.int64]:
        """Slices of each class."""
        return np.bincount(self.target, minlength=len(self.classes))


def load_part(
    manifest: pd.DataFrame, part: str, recipe: CommonRecipe, *, show_progress: bool = False
) -> PartData:
    """Decode one part (``train``, ``val`` or ``test``) of a manifest.

    Raises
    ------
    GroundglassError
        If the part lacks one of the classes, or a slice cannot be read.
    """
    rows = manifest[manifest["split"] == part].reset_index(drop=True)
    labels = recipe.data.classes_of(rows["label"])
    classes = recipe.data.several or (NEGATIVE, POSITIVE)
    counts = labels.value_counts().reindex(classes, fill_value=0)
    if (counts == 0).any():
        listed = ", ".join(f"{number} '{name}'" for name, number in counts.items())
        raise GroundglassError(f"the {part} part holds {listed}; slices of each are needed")
    target = pd.Categorical(labels, categories=classes).codes.astype(np.int64)
    paths = [Path(path) for path in rows["path"]]
    segmenter = segmenter_for(recipe.preprocessing)
    grey = decode(paths, recipe.preprocessing, segmenter, show_progress=show_progress)
    return PartData(rows, grey, target, classes)


def train_run(
    recipe: Recipe,
    manifest: pd.DataFrame,
    run: Run,
    *,
    resume_from: Path | None = None,
    show_progress: bool = False,
    tell: Callable[[str], None] = print,
) -> ClassifierModule:
    """Train by a recipe and keep the best epoch.

    Parameters
    ----------
    recipe
        The recipe.
    manifest
        Labelled slices with their split, as groundglass.data gives them.
    run
        The run's folder, which has been started.
    resume_from
        A checkpoint of the same run to go on from; the result is that of an uninterrupted run.
    show_progress
        Draw progress bars.
    tell
        Receives one line of text an epoch.

    Returns
    -------
    The module with the best epoch's weights.
    """
    quieten()
    train = load_part(manifest, "train", recipe, show_progress=show_progress)
    validation = load_part(manifest, "val", recipe, show_progress=show_progress)
    pl.seed_everything(recipe.seed, verbose=False)
    module = ClassifierModule(recipe, train.counts)
    run.update(parameters=sum(weights.numel() for weights in module.model.parameters()))
    best = keep_best(run, recipe.training.best_by)
    callbacks: list[pl.Callback] = [EpochLog(run.log_file, LOGGED, tell), *best]
    if recipe.training.early_stopping is not None:
        stop = recipe.training.early_stopping
        mode = "min" if stop.monitor == "val_loss" else "max"
        callbacks.append(EarlyStopping(stop.monitor, patience=stop.patience, mode=mode))
    trainer = make_trainer(recipe, recipe.training, run, callbacks, show_progress)
    fit(
        trainer,
        module,
        make_loader(
            Slices(train.grey, train.target),
            recipe.training.batch_size,
            seed=recipe.seed,
            steps=recipe.training.steps,
        ),
        make_loader(Slices(validation.grey, validation.target), recipe.training.batch_size),
        run,
        resume_from,
    )
    return best_module(recipe, run)


def best_module(recipe: Recipe, run: Run) -> ClassifierModule:
    """The module with the weights of a run's best epoch, whose number goes into ``run.json``.

    Raises
    ------
    GroundglassError
        If the run has no checkpoint.
    """
    weights = best_weights(run)
    # The weights come from the checkpoint, so the pretrained ones need not be had any more.
    bare = recipe.model_copy(update={"model": recipe.model.model_copy(update={"weights": "none"})})
    module = ClassifierModule(bare, np.ones(max(2, len(recipe.data.several))))
    module.load_state_dict(weights)
    return module.eval()


def keep_best(run: Run, by: str) -> list[pl.Callback]:
    """What keeps the best epoch by a logged figure, nothing for ``last``: the last one is kept in any case."""
    if by == "last":
        return []
    mode = "min" if by == "val_loss" else "max"
    return [
        ModelCheckpoint(run.checkpoints, filename="best", monitor=by, mode=mode, enable_version_counter=False)
    ]


def kept_weights(run: Run, by: str) -> dict[str, Any]:
    """The weights of the epoch that :func:`keep_best` keeps; errors as of :func:`best_weights`."""
    return best_weights(run, "last" if by == "last" else "best")


def best_weights(run: Run, name: Literal["best", "last"] = "best") -> dict[str, Any]:
    """The weights of the epoch that a run keeps, whose number goes into ``run.json``; GroundglassError if none."""
    path = run.checkpoints / f"{name}.ckpt"
    if not path.exists():
        raise GroundglassError(f"{run.folder}: has no checkpoint; train it first, or --resume it")
    checkpoint = torch.load(path, map_location="cpu", weights_only=False)
    run.update(best_epoch=int(checkpoint["epoch"]) + 1)
    weights: dict[str, Any] = checkpoint["state_dict"]
    return weights


def fit(
    trainer: pl.Trainer,
    module: pl.LightningModule,
    train: DataLoader[Any],
    validation: DataLoader[Any],
    run: Run,
    resume_from: Path | None,
) -> None:
    """Fit, or go on from a checkpoint, and enter into ``run.json`` how long it took.

    Raises
    ------
    GroundglassError
        If it was stopped from the keyboard, or there is no checkpoint to go on from.
    """
    if resume_from is not None and not resume_from.exists():
        raise GroundglassError(
            f"{run.folder}: was stopped before its first epoch was finished; --overwrite starts anew"
        )
    checkpoint = str(resume_from) if resume_from else None
    try:
        trainer.fit(module, train, validation, ckpt_path=checkpoint, weights_only=False)
    except SystemExit as stopped:  # Lightning's answer to a stop from the keyboard
        raise GroundglassError(
            f"{run.folder}: stopped; train --resume, or the same comparison once more, goes on from the last "
            "finished epoch"
        ) from stopped
    log = next(callback for callback in trainer.callbacks if isinstance(callback, EpochLog))  # type: ignore[attr-defined]
    run.update(
        state="trained",
        epochs_run=trainer.current_epoch,
        seconds=round(log.seconds, 1),
        precision=str(trainer.precision),
    )


def make_trainer(
    recipe: CommonRecipe, spec: Length, run: Run, callbacks: list[pl.Callback], show_progress: bool
) -> pl.Trainer:
    """Lightning's trainer for a recipe: it keeps the last epoch, and the average of the weights where asked for.

    Parameters
    ----------
    recipe, spec
        The recipe and its length.
    run
        The run's folder.
    callbacks
        What else is done around the epochs; among them what keeps the best one.
    show_progress
        Draw progress bars.
    """
    # Deterministic algorithms also fill fresh memory with NaN, a help in debugging that costs much time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    last = ModelCheckpoint(run.checkpoints, filename="last", enable_version_counter=False)
    callbacks = [*callbacks, last]
    if spec.ema is not None:
        callbacks.append(EMAWeightAveraging(decay=spec.ema))
    if show_progress:
        callbacks.append(RichProgressBar(leave=False))
    options: dict[str, Any] = {
        "max_epochs": spec.epochs,
        "precision": lightning_precision(spec.precision),
        "gradient_clip_val": recipe.optimiser.clip_norm,
    }
    return pl.Trainer(
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO()],
        logger=False,
        enable_progress_bar=show_progress,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=run.folder,
        deterministic="warn",
        **options,
    )


def lightning_precision(wanted: str) -> str:
    """Lightning's name of a precision; ``auto`` takes bf16 where the device computes in it at full speed."""
    if torch.cuda.is_available():
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = torch.cpu._is_avx512_bf16_supported()
    return "bf16-mixed" if wanted == "bf16" or (wanted == "auto" and fast) else "32-true"


def quieten() -> None:
    """Silence Lightning's advice and remarks on what is meant so here."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # The loader has no workers on purpose: slices lie decoded in memory.
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    warnings.filterwarnings("ignore", ".*isinstance.treespec, LeafSpec.*")
    warnings.filterwarnings("ignore", ".*Checkpoint directory .* exists and is not empty.*")
