"""Every recipe of the project, shortened to two epochs on phantoms, from training to the detector's answer.

What a recipe needs in addition to the general shortening is in ``FITTED``, by its file's name.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from groundglass.commands.train import train
from groundglass.data.manifest import write_manifest
from groundglass.data.registry import DATASETS
from groundglass.detect.detector import Detector
from groundglass.labels import NEGATIVE, POSITIVE
from groundglass.phantom import write_phantom_set
from groundglass.recipe.recipe import AnyRecipe, load_recipe
from groundglass.recipe.tasks import FeaturesRecipe, GroundedRecipe, SegmentationRecipe
from groundglass.scan.read import read_scan
from groundglass.segment.segmenter import Segmenter
from groundglass.train.run import Run

RECIPES = sorted((Path(__file__).parents[1] / "recipes").glob("*.yaml"))
DISEASES = {POSITIVE: "covid", "normal": "none", "mycoplasma pneumonia": "other", "viral pneumonia": "other"}
"""The phantoms that represent each class."""
FITTED: dict[str, tuple[str, ...]] = {
    "bcdunet-efficientnet": (
        "preprocessing.segmenter=lungs-lite0",
        "preprocessing.size=[192, 192]",
        "model.cnn_head.filters=16",
        "model.cnn_head.pool=1",
        "training.batch_size=16",
    ),
    "bcdunet-efficientnet-modern": ("preprocessing.size=[192, 192]", "model.cnn_head.filters=16"),
    "deep-features": ("classifiers=[logistic, knn]",),
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of two phantoms of each class, with masks: all slices of covid, every second of the others."""
    parts = []
    for number, (label, disease) in enumerate(DISEASES.items()):
        folder = tmp_path_factory.mktemp("phantoms")
        rows = write_phantom_set(folder, count=2, disease=disease, seed=2 * number, shape=(10, 128, 128))
        parts.append(pd.DataFrame(rows[:: 1 if label == POSITIVE else 2]).assign(label=label))
    write_manifest(pd.concat(parts), folder / "manifest.csv")
    return folder / "manifest.csv"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A run's folder, which is deleted at once, since checkpoints of large networks add up."""
    yield tmp_path / "run"
    shutil.rmtree(tmp_path / "run", ignore_errors=True)


def shortened(path: Path, dataset: Path) -> tuple[str, ...]:
    """Settings that make a run of any recipe short."""
    recipe = load_recipe(path)
    overrides = [
        f"data.dataset={dataset}",
        "data.split=random",
        "data.fractions=[0.6, 0.4, 0]",
        "data.further=[]",
        "preprocessing.size=[64, 64]",
    ]
    if isinstance(recipe, GroundedRecipe):
        return tuple(overrides)
    overrides.append("model.weights=none")
    if recipe.data.per_class is not None:
        overrides.append("data.per_class=12")
    if isinstance(recipe, FeaturesRecipe):
        return (*overrides, "folds=2", *FITTED.get(path.stem, ()))
    overrides.append("training.epochs=2")
    if isinstance(recipe, SegmentationRecipe):
        overrides += ["model.filters=4", "model.decoder=[16, 16, 8, 8, 8]", "training.start_from=null"]
        overrides.append("training.repeat={}")
        if recipe.training.smaller_first is not None:
            overrides.append("training.smaller_first={epochs: 1, size: [32, 32]}")
    elif recipe.training.steps is not None:
        overrides.append("training.steps=2")
    return (*overrides, *FITTED.get(path.stem, ()))


@pytest.mark.filterwarnings("ignore::groundglass.data.splits.LeakageWarning")
@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_trains_for_two_epochs_and_its_bundle_answers(
    path: Path, dataset: Path, folder: Path
) -> None:
    run = train(path, shortened(path, dataset), folder, tell=lambda line: None)
    assert run.facts()["state"] == "finished"
    assert run.report_file.stat().st_size > 10_000
    recipe = run.recipe()
    assert recipe.name == path.stem
    check_log(run, recipe)
    scan = read_scan(Path(pd.read_csv(dataset)["path"][0]))
    if isinstance(recipe, SegmentationRecipe):
        segmenter = Segmenter.load(run.folder)
        assert segmenter.bundle.facts.name == path.stem
        assert segmenter(scan).lungs.shape == scan.pixels.shape
        return
    detector = Detector.load(run.folder, lungs=False)
    assert detector.bundle.facts.name == path.stem
    finding = detector(scan)
    assert 0 <= finding.probability <= 1
    assert finding.verdict in (POSITIVE, NEGATIVE)
    assert np.isfinite(finding.evidence).all()
    assert tuple(finding.probabilities) == recipe.data.several


def check_log(run: Run, recipe: AnyRecipe) -> None:
    """Two epochs with finite numbers; for classifiers of features, one row each; none for a head on lesions."""
    if isinstance(recipe, GroundedRecipe):
        return
    if isinstance(recipe, FeaturesRecipe):
        table = pd.read_csv(run.folder / "classifiers.csv")
        assert table["name"].tolist() == list(recipe.classifiers)
        assert table["cv_auc"].between(0, 1).all()
        return
    log = pd.read_csv(run.log_file)
    assert log["epoch"].tolist() == [1, 2]
    assert np.isfinite(log.to_numpy(dtype=float)).all()


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_dataset_of_every_recipe_is_registered(path: Path) -> None:
    recipe = load_recipe(path)
    named = {part.dataset for part in recipe.data.datasets}
    assert named <= DATASETS.keys()


def test_no_fitting_is_left_of_a_recipe_that_is_gone() -> None:
    assert FITTED.keys() <= {path.stem for path in RECIPES}
