"""The training loop of all tasks that train a network, with its log and checkpoints."""

import logging
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import groundglass.train.torchvision_ops  # noqa: F401

# isort: split
import lightning.pytorch as pl
import pandas as pd
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import EarlyStopping, EMAWeightAveraging, ModelCheckpoint, RichProgressBar
from torch import Tensor
from torch.utils.data import DataLoader

from groundglass.errors import GroundglassError
from groundglass.files import write_text
from groundglass.recipe.parts import Length, Trainer
from groundglass.recipe.recipe import Stop
from groundglass.train.module import TaskModule
from groundglass.train.run import Run


@dataclass(frozen=True)
class Fit:
    """The input of :func:`fit`: what to train, and for how long.

    Attributes
    ----------
    module
        The network with its loss.
    train, validation
        Batches of the two parts.
    logged
        Names of the metrics in ``log.csv``.
    length
        The length of the run, from the recipe.
    best_by
        The metric by which the best epoch is kept; ``last`` keeps the last.
    early_stopping
        When to stop early, if ever.
    devices
        The devices used for training.
    """

    module: TaskModule
    train: DataLoader[tuple[Tensor, ...]]
    validation: DataLoader[tuple[Tensor, ...]]
    logged: tuple[str, ...]
    length: Length
    best_by: str
    early_stopping: Stop | None = None
    devices: Trainer = field(default_factory=Trainer)


def fit(
    task: Fit,
    run: Run,
    *,
    resume_from: Path | None = None,
    show_progress: bool = False,
    tell: Callable[[str], None] = print,
) -> None:
    """Train a network, keep its best and last epochs, and record in ``run.json`` how long it took.

    Parameters
    ----------
    task
        What to train.
    run
        The run's folder, which has been started.
    resume_from
        A checkpoint of the same run to continue from; the result equals that of an uninterrupted run.
    show_progress
        Draw progress bars.
    tell
        Receives one line of text per epoch.

    Raises
    ------
    GroundglassError
        If it was interrupted from the keyboard, or there is no checkpoint to continue from.
    """
    if resume_from is not None and not resume_from.exists():
        raise GroundglassError(
            f"{run.folder}: was stopped before its first epoch was finished; start again with --overwrite"
        )
    log = EpochLog(run.log_file, task.logged, tell)
    trainer = _trainer(task, run, [log, *_callbacks(task, run)], show_progress)
    if trainer.is_global_zero:
        run.update(parameters=sum(weights.numel() for weights in task.module.model.parameters()))
    checkpoint = str(resume_from) if resume_from else None
    try:
        trainer.fit(task.module, task.train, task.validation, ckpt_path=checkpoint, weights_only=False)
    except SystemExit as stopped:  # Lightning raises this on an interrupt from the keyboard
        raise GroundglassError(
            f"{run.folder}: stopped; `train --resume`, or the same comparison again, continues after the last "
            "finished epoch"
        ) from stopped
    if trainer.is_global_zero:
        run.update(
            state="trained",
            epochs_run=trainer.current_epoch,
            seconds=round(log.seconds, 1),
            precision=str(trainer.precision),
        )


def _callbacks(task: Fit, run: Run) -> list[pl.Callback]:
    """Keep the best epoch, stop early, keep the last epoch and average the weights, in this order."""
    callbacks: list[pl.Callback] = []
    if task.best_by != "last":
        callbacks.append(
            ModelCheckpoint(
                run.checkpoints,
                filename="best",
                monitor=task.best_by,
                mode=_mode(task.best_by),
                enable_version_counter=False,
            )
        )
    if (stop := task.early_stopping) is not None:
        callbacks.append(EarlyStopping(stop.monitor, patience=stop.patience, mode=_mode(stop.monitor)))
    callbacks.append(ModelCheckpoint(run.checkpoints, filename="last", enable_version_counter=False))
    if task.length.ema is not None:
        callbacks.append(EMAWeightAveraging(decay=task.length.ema))
    return callbacks


def _mode(metric: str) -> str:
    return "min" if metric == "val_loss" else "max"


def _trainer(task: Fit, run: Run, callbacks: list[pl.Callback], show_progress: bool) -> pl.Trainer:
    # Deterministic algorithms also fill fresh memory with NaN, which helps debugging but costs much time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if show_progress:
        callbacks.append(RichProgressBar(leave=False))
    options: dict[str, Any] = {
        "max_epochs": task.length.epochs,
        "precision": lightning_precision(task.length.precision),
        "gradient_clip_val": task.module.optimiser.clip_norm,
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
        devices=task.devices.devices,
        num_nodes=task.devices.nodes,
        strategy=task.devices.strategy,
        use_distributed_sampler=False,  # groundglass.train.slices.Batches divides its batches itself
        **options,
    )


def kept_weights(run: Run, by: str) -> dict[str, Any]:
    """The weights of the best epoch by a metric, or of the last; its number is written to ``run.json``.

    Raises
    ------
    GroundglassError
        If the run has no checkpoint.
    """
    path = run.checkpoints / f"{'last' if by == 'last' else 'best'}.ckpt"
    if not path.exists():
        raise GroundglassError(
            f"{run.folder}: has no checkpoint; train the run first, or continue it with --resume"
        )
    checkpoint = torch.load(path, map_location="cpu", weights_only=False)
    run.update(best_epoch=int(checkpoint["epoch"]) + 1)
    weights: dict[str, Any] = checkpoint["state_dict"]
    return weights


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its final path and then renames it, so that a kill leaves the previous one.

    Lightning's own saving is atomic only if the system's temporary folder is on the same file system as the
    run: fsspec writes there, and moving a file between file systems is a copy that a kill can truncate.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Save in one step."""
        whole = Path(path)
        partial = whole.with_name(f".{whole.name}.partial")
        super().save_checkpoint(checkpoint, partial, storage_options)
        partial.replace(whole)


class EpochLog(pl.Callback):
    """Keeps one row per epoch, writes ``log.csv`` after each, and reports it.

    The checkpoint holds the rows and the time that the epochs took, so a resumed run continues its own log.

    Parameters
    ----------
    path
        Where to write the log.
    names
        The metrics to log.
    tell
        Called with one line of text after each epoch.
    """

    def __init__(self, path: Path, names: tuple[str, ...], tell: Callable[[str], None]) -> None:
        self.path = path
        self.names = names
        self.tell = tell
        self.rows: list[dict[str, float]] = []
        self.seconds = 0.0
        self._started = 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._started = time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add the epoch's row; the validation of the epoch has run by now."""
        self.seconds += time.monotonic() - self._started
        measured = {name: float(trainer.callback_metrics[name]) for name in self.names}
        if not trainer.is_global_zero:
            return
        rate = float(trainer.optimizers[0].param_groups[0]["lr"])
        self.rows.append({"epoch": trainer.current_epoch + 1, **measured, "lr": rate})
        write_text(self.path, pd.DataFrame(self.rows).to_csv(index=False, float_format="%.6g"))
        shown = "  ".join(f"{name} {value:.4f}" for name, value in measured.items())
        self.tell(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  {shown}")

    def state_dict(self) -> dict[str, Any]:
        """The rows and the training time so far."""
        return {"rows": self.rows, "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue with the rows of a checkpoint."""
        self.rows = list(state_dict["rows"])
        self.seconds = state_dict.get("seconds", 0.0)


def lightning_precision(wanted: str) -> str:
    """Lightning's name of a precision; ``auto`` is bf16 if the device computes it at full speed."""
    if torch.cuda.is_available():
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = torch.cpu._is_avx512_bf16_supported()
    return "bf16-mixed" if wanted == "bf16" or (wanted == "auto" and fast) else "32-true"


def quieten() -> None:
    """Silence Lightning's advice about choices that are deliberate here."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # The loader has no workers on purpose: the decoded slices are in memory.
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    warnings.filterwarnings("ignore", ".*isinstance.treespec, LeafSpec.*")
    warnings.filterwarnings("ignore", ".*Checkpoint directory .* exists and is not empty.*")
