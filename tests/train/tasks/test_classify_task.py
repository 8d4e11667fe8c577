import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import torch

from groundglass.commands.train import bundle_run, train
from groundglass.data.splits import LeakageWarning
from groundglass.detect.bundle import Bundle
from groundglass.errors import GroundglassError
from groundglass.preprocess import Preprocessing
from groundglass.recipe.recipe import Model
from groundglass.train.models import build_model
from groundglass.train.run import Run
from groundglass.train.tasks.classify import ClassifyTask, classifier_graph

pytestmark = pytest.mark.filterwarnings("ignore::groundglass.data.splits.LeakageWarning")


def quiet_train(recipe: Path, folder: Path, *overrides: str, **options: bool) -> Run:
    return train(recipe, overrides, folder, tell=lambda line: None, **options)


def weights(run: Run) -> dict[str, torch.Tensor]:
    return torch.load(run.checkpoints / "last.ckpt", weights_only=False)["state_dict"]


def test_a_run_holds_all_that_it_depends_on(trained: Path) -> None:
    expected = {
        "recipe.yaml",
        "run.json",
        "manifest.csv",
        "log.csv",
        "curves.png",
        "predictions.csv",
        "report.html",
    }
    assert expected <= {file.name for file in trained.iterdir()}
    facts = json.loads((trained / "run.json").read_text())
    assert (facts["state"], facts["seed"], facts["epochs_run"]) == ("finished", 3, 4)
    assert len(facts["fingerprint"]) == 64
    assert {"torch", "lightning", "groundglass"} <= set(facts["versions"])
    log = pd.read_csv(trained / "log.csv")
    assert log["epoch"].tolist() == [1, 2, 3, 4]
    assert facts["best_epoch"] == log["val_loss"].idxmin() + 1


def test_a_network_learns_what_is_easy(trained: Path) -> None:
    assert pd.read_csv(trained / "log.csv")["val_auc"].max() > 0.9


def test_the_same_seed_gives_the_same_run_and_another_seed_does_not(
    trained: Path, recipe_file: Path, tmp_path: Path
) -> None:
    again = quiet_train(recipe_file, tmp_path / "again")
    assert again.log_file.read_text() == (trained / "log.csv").read_text()
    assert again.predictions_file.read_text() == (trained / "predictions.csv").read_text()
    other = quiet_train(recipe_file, tmp_path / "other", "seed=4", "training.epochs=1")
    assert other.log_file.read_text().splitlines()[1] != again.log_file.read_text().splitlines()[1]


def test_a_killed_run_is_resumed_to_the_same_result(trained: Path, recipe_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    command = [sys.executable, "-m", "groundglass", "train", str(recipe_file), "-o", str(folder)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    log = folder / "log.csv"
    while process.poll() is None and not (log.exists() and len(log.read_text().splitlines()) >= 3):
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    run = Run(folder)
    assert run.facts()["state"] == "started"
    quiet_train(recipe_file, folder, resume=True)
    whole = Run(trained)
    assert run.log_file.read_text() == whole.log_file.read_text()
    for name, value in weights(whole).items():
        torch.testing.assert_close(weights(run)[name], value, rtol=0, atol=0)
    assert run.predictions_file.read_text() == whole.predictions_file.read_text()


def test_the_last_epoch_is_kept_beside_the_best(recipe_file: Path, tmp_path: Path) -> None:
    """The easy classes are separated from the first epoch on, so no later epoch is better."""
    run = quiet_train(recipe_file, tmp_path / "run", "training.best_by=val_auc", "training.epochs=3")
    assert pd.read_csv(run.log_file)["val_auc"].tolist()[0] == 1
    epochs = [
        torch.load(run.checkpoints / f"{n}.ckpt", weights_only=False)["epoch"] for n in ("best", "last")
    ]
    assert epochs == [0, 2]


def test_a_folder_with_a_run_is_not_lost(trained: Path, recipe_file: Path, tmp_path: Path) -> None:
    before = (trained / "run.json").read_text()
    with pytest.raises(GroundglassError, match="already contains a run"):
        quiet_train(recipe_file, trained)
    with pytest.raises(GroundglassError, match="another recipe"):
        quiet_train(recipe_file, trained, "training.epochs=9", resume=True)
    assert (trained / "run.json").read_text() == before
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(GroundglassError, match="do not belong to a run"):
        quiet_train(recipe_file, tmp_path, overwrite=True)
    with pytest.raises(GroundglassError, match="not a run"):
        quiet_train(recipe_file, tmp_path / "gone", resume=True)


def test_a_part_without_one_class_is_refused(recipe_file: Path, class_folder: Path, tmp_path: Path) -> None:
    rows = [
        f"{class_folder}/covid/{n}.png,covid,,{part},x"
        for n, part in enumerate(["train", "train", "val", "val"])
    ]
    manifest = tmp_path / "one.csv"
    manifest.write_text("\n".join(["path,label,patient,split,source", *rows]))
    with pytest.raises(GroundglassError, match="slices of each are needed"):
        quiet_train(recipe_file, tmp_path / "run", f"data.dataset={manifest}", "data.split=official")


def test_a_random_split_warns_of_leakage(recipe_file: Path, tmp_path: Path) -> None:
    with pytest.warns(LeakageWarning):
        quiet_train(recipe_file, tmp_path / "run", "training.epochs=1")


@pytest.mark.parametrize(
    "spec",
    [
        Model(name="small-cnn", filters=(4, 8)),
        Model(name="small-cnn", filters=(4, 8), hidden=6),
        Model(name="timm/tf_efficientnet_lite0"),
    ],
    ids=["pooled", "dense", "lite0"],
)
def test_the_graph_gives_what_torch_gives(spec: Model) -> None:
    torch.manual_seed(0)
    model = build_model(spec, 3, (64, 64)).eval()
    images = torch.rand(5, 3, 64, 64) * 2 - 1
    session = onnxruntime.InferenceSession(classifier_graph(model, (3, 64, 64)))
    logits, evidence = session.run(None, {"images": images.numpy()})
    with torch.no_grad():
        expected_logits, expected_evidence = model.explain(images)
    np.testing.assert_allclose(logits, expected_logits.numpy(), atol=1e-4)
    np.testing.assert_allclose(evidence, expected_evidence.numpy(), atol=1e-4)


def test_a_run_is_exported_again_to_the_same_bundle(trained: Path, tmp_path: Path) -> None:
    target = bundle_run(trained, tmp_path / "tiny.zip")
    zipped, folder = Bundle.load(target), Bundle.load(trained / "bundle")
    assert zipped.facts == folder.facts
    assert zipped.graph == folder.graph


def test_predictions_of_a_run_are_those_of_its_network(trained: Path) -> None:
    run = Run(trained)
    recipe = run.recipe()
    predictions = pd.read_csv(run.predictions_file)
    from groundglass.train.slices import decode

    grey = decode([Path(path) for path in predictions["path"]], Preprocessing(size=(32, 32), channels=1))
    logits = ClassifyTask(recipe).kept(run).logits(grey)
    np.testing.assert_allclose(predictions["score"], 1 / (1 + np.exp(-logits)), atol=1e-4)
