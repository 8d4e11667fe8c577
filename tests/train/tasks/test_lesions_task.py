"""A lesion detector from phantoms, from recipe to bundle."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from groundglass.commands.evaluate import choose_rows
from groundglass.commands.train import train
from groundglass.data.manifest import read_manifest, write_manifest
from groundglass.detect.bundle import Bundle
from groundglass.detect.detector import Detector
from groundglass.phantom import write_phantom_set
from groundglass.train.slices import PartData
from groundglass.train.tasks.lesions import balanced

LESIONS = Path(__file__).parents[3] / "recipes" / "detector-lesions.yaml"


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms")
    rows = [
        row
        for seed, disease in enumerate(("covid", "none"))
        for row in write_phantom_set(
            folder / disease, count=6, disease=disease, seed=100 * seed, shape=(8, 128, 128)
        )
    ]
    write_manifest(pd.DataFrame(rows).assign(source="north"), folder / "manifest.csv")
    return folder / "manifest.csv"


@pytest.mark.filterwarnings("ignore::groundglass.data.splits.LeakageWarning")
def test_it_separates_phantoms_and_its_evidence_adds_up(manifest: Path, tmp_path: Path) -> None:
    small = ("preprocessing.size=[64, 96]", "deploy_precision=f32")
    changes = (f"data.dataset={manifest}", "data.further=[]", "data.split=random", *small)
    run = train(LESIONS, changes, tmp_path / "run")
    rows = read_manifest(manifest)
    detector = Detector.load(tmp_path / "run")
    findings = [detector(path) for path in rows["path"]]
    scores = np.array([finding.network.score for finding in findings])
    covid = (rows["label"] == "covid").to_numpy()
    assert scores[covid].mean() > scores[~covid].mean() + 0.2
    assert set(detector.bundle.facts.training.masks) >= {"covid19-ct-seg"}
    assert run.facts()["state"] == "finished"


def test_classes_and_their_sources_count_alike() -> None:
    source, target = np.repeat(["a", "b", "c"], [6, 2, 4]), np.array([0] * 4 + [1] * 2 + [0] * 2 + [1] * 4)
    part = PartData(
        pd.DataFrame({"source": source}), np.zeros((12, 1, 1), np.uint8), target, ("not covid", "covid")
    )
    cells = pd.Series(balanced(part)).groupby([source, target]).sum()
    assert np.allclose(cells, 3)


def test_slices_whose_masks_were_trained_on_are_not_an_external_test(manifest: Path) -> None:
    bundle = Bundle.load("covid-ct-lite0")
    assert choose_rows(bundle, str(manifest), None).external
    training = bundle.facts.training.model_copy(update={"masks": ("north",)})
    bundle.facts = bundle.facts.model_copy(update={"training": training})
    labelled = choose_rows(bundle, str(manifest), None)
    assert not labelled.external
    assert "masks of slices of north" in labelled.warnings[0]
