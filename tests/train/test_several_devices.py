"""Two processes on the CPU (gloo), as two devices would train: the same metric, and an exact resumption."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch

from groundglass.commands.train import finish_training
from groundglass.errors import GroundglassError
from groundglass.recipe.recipe import load_recipe
from groundglass.train.run import Run
from groundglass.train.slices import Batches

DEVICES = "trainer.devices=2"


def command(recipe: Path, folder: Path, *more: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "groundglass",
        "train",
        str(recipe),
        "--set",
        DEVICES,
        "-o",
        str(folder),
        *more,
    ]


@pytest.fixture(scope="module")
def whole(recipe_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run by two processes."""
    folder = tmp_path_factory.mktemp("devices") / "whole"
    done = subprocess.run(
        command(recipe_file, folder), capture_output=True, text=True, check=False, timeout=200
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Bundle: ") == 1
    return Run(folder)


def test_two_processes_reach_what_one_reaches(whole: Run, trained: Path) -> None:
    facts = json.loads(whole.facts_file.read_text())
    assert (facts["state"], facts["epochs_run"]) == ("finished", 4)
    two, one = pd.read_csv(whole.log_file), pd.read_csv(trained / "log.csv")
    assert two["epoch"].tolist() == [1, 2, 3, 4]
    assert two["val_auc"].max() > 0.9
    assert abs(two["val_auc"].max() - one["val_auc"].max()) < 0.1
    assert two["train_loss"].tolist() != one["train_loss"].tolist()


def test_a_killed_run_of_two_processes_is_resumed_exactly(
    whole: Run, recipe_file: Path, tmp_path: Path
) -> None:
    run = Run(tmp_path / "killed")
    process = subprocess.Popen(
        command(recipe_file, run.folder),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while process.poll() is None and not (run.checkpoints / "last.ckpt").exists():
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert run.facts()["state"] == "started"
    done = subprocess.run(
        command(recipe_file, run.folder, "--resume"), capture_output=True, text=True, check=False, timeout=200
    )
    assert done.returncode == 0, done.stderr
    assert run.log_file.read_text() == whole.log_file.read_text()
    resumed, expected = (
        torch.load(one.checkpoints / "last.ckpt", weights_only=False)["state_dict"] for one in (run, whole)
    )
    for name, value in expected.items():
        torch.testing.assert_close(resumed[name], value, rtol=0, atol=0)
    assert run.predictions_file.read_text() == whole.predictions_file.read_text()


def test_devices_share_each_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = list(Batches(21, 8, seed=1))
    parts = []
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    for device in range(2):
        monkeypatch.setattr(torch.distributed, "get_rank", lambda device=device: device)
        parts.append(list(Batches(21, 8, seed=1)))
        assert list(Batches(21, 8)) == [list(range(8)), list(range(8, 16)), list(range(16, 21))]
    assert [sorted(one + other) for one, other in zip(*parts, strict=True)] == [sorted(one) for one in alone]
    assert [len(batch) for batch in Batches(19, 8, seed=1)] == [4, 5]


def test_a_comparison_refuses_to_train_on_several_devices(recipe_file: Path, tmp_path: Path) -> None:
    with pytest.raises(GroundglassError, match="a separate command"):
        finish_training(load_recipe(recipe_file, (DEVICES,)), Run(tmp_path / "run"))
