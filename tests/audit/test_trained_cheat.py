from pathlib import Path

import cheats
import pytest

from groundglass.audit.run import AuditOptions
from groundglass.commands.audit import audit_dataset, audit_detector
from groundglass.commands.train import train
from groundglass.data.manifest import write_manifest
from groundglass.detect.detector import Detector

RECIPE = """
name: cheat
description: Trained on purpose to look at a border that tells the label.
seed: 0
data: {{dataset: "{manifest}", split: official}}
preprocessing: {{size: [96, 96], channels: 1}}
augmentation: {{flip: 0.5}}
model: {{name: small-cnn, filters: [8, 16], dropout: 0.1}}
optimiser: {{name: adam, lr: 0.003}}
training: {{epochs: 10, batch_size: 8, precision: "32", best_by: val_loss}}
"""
PERSONS, TRAINED, CHOSEN = 18, 9, 3


def test_a_detector_that_learnt_a_planted_border_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each person is included ill and healthy, so only lesions and the border distinguish the classes."""
    monkeypatch.setattr(cheats, "PERSONS", PERSONS)
    manifest = cheats.plant_border(cheats.twins(tmp_path), tmp_path / "planted")
    persons = sorted(manifest["patient"].unique())
    parts = ["train"] * TRAINED + ["val"] * CHOSEN + ["test"] * (PERSONS - TRAINED - CHOSEN)
    manifest["split"] = manifest["patient"].map(dict(zip(persons, parts, strict=True)))
    write_manifest(manifest, tmp_path / "planted.csv")
    (tmp_path / "cheat.yaml").write_text(RECIPE.format(manifest=tmp_path / "planted.csv"))
    run = train(tmp_path / "cheat.yaml", (), tmp_path / "run", tell=lambda line: None)

    detector = Detector.load(run.bundle_folder)
    asked = AuditOptions(select=("GG201", "GG202", "GG203", "GG204", "GG210"))
    of_detector = audit_detector(detector, str(tmp_path / "planted.csv"), tmp_path / "out", asked)
    found = {outcome.check.code for outcome in of_detector.found}
    assert {"GG201", "GG202", "GG203", "GG204"} <= found
    assert "GG210" not in found  # no slice of the test set was used for training

    of_data = audit_dataset(str(tmp_path / "planted.csv"), AuditOptions(select=("GG104", "GG109", "GG110")))
    assert {outcome.check.code for outcome in of_data.found} == {"GG109", "GG110"}
