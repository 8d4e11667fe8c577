"""What happens around the training loop: the log, and checkpoints that a kill cannot spoil."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import groundglass.train.torchvision_ops  # noqa: F401

# isort: split
import lightning.pytorch as pl
import pandas as pd
from lightning.fabric.plugins import TorchCheckpointIO

from groundglass.files import write_text


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and then moves it there, so that a kill leaves the one before."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Save in one step."""
        whole = Path(path)
        partial = whole.with_name(f".{whole.name}.partial")
        super().save_checkpoint(checkpoint, partial, storage_options)
        partial.replace(whole)


class EpochLog(pl.Callback):
    """Keeps one row an epoch, writes ``log.csv`` anew after each, and tells of it.

    The rows travel in the checkpoint, so a resumed run goes on with the log that it had at that point; so does the
    time that the epochs took.

    Parameters
    ----------
    path
        Where to write the log.
    names
        The metrics that are logged.
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
        rate = float(trainer.optimizers[0].param_groups[0]["lr"])
        self.rows.append({"epoch": trainer.current_epoch + 1, **measured, "lr": rate})
        write_text(self.path, pd.DataFrame(self.rows).to_csv(index=False, float_format="%.6g"))
        shown = "  ".join(f"{name} {value:.4f}" for name, value in measured.items())
        self.tell(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  {shown}")

    def state_dict(self) -> dict[str, Any]:
        """The rows and the time so far."""
        return {"rows": self.rows, "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the rows of a checkpoint."""
        self.rows = list(state_dict["rows"])
        self.seconds = state_dict.get("seconds", 0.0)
