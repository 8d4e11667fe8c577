from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from groundglass.data.datasets import load_dataset
from groundglass.data.manifest import fingerprint, write_manifest
from groundglass.data.splits import LeakageWarning, split
from groundglass.detect.bundle import Bundle
from groundglass.detect.detector import Detector
from groundglass.errors import GroundglassError
from groundglass.labels import POSITIVE
from groundglass.recipe.tasks import FeaturesRecipe
from groundglass.scan.read import read_scan
from groundglass.train.classifiers import Tuned, classifier_logits
from groundglass.train.run import Run
from groundglass.train.slices import load_part
from groundglass.train.tasks.features import FeaturesTask, pooled

RECIPE = """
task: features
name: tiny-features
seed: 3
data: {{dataset: "{dataset}", split: random}}
preprocessing: {{size: [64, 64], channels: 3}}
model: {{name: timm/test_efficientnet, weights: none}}
classifiers: [logistic, knn]
folds: 3
"""
OTHER = {POSITIVE: "normal", "normal": POSITIVE}
Trained = tuple[FeaturesRecipe, pd.DataFrame, Run, Tuned, list[str]]


def start(recipe: FeaturesRecipe, manifest: pd.DataFrame, folder: Path) -> Run:
    run = Run(folder)
    run.start(recipe, fingerprint(manifest), overwrite=False)
    write_manifest(manifest, run.manifest_file)
    return run


@pytest.fixture(scope="module")
def trained(class_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    recipe = FeaturesRecipe.model_validate(yaml.safe_load(RECIPE.format(dataset=class_folder)))
    with pytest.warns(LeakageWarning):
        manifest = split(load_dataset(str(class_folder)), "random", seed=3, fractions=(0.5, 0.25, 0.25))
    manifest.loc[::5, "label"] = manifest.loc[::5, "label"].map(OTHER)  # so that no classifier is perfect
    run = start(recipe, manifest, tmp_path_factory.mktemp("runs") / "tiny")
    lines: list[str] = []
    task = FeaturesTask(recipe)
    task.train(run, tell=lines.append)
    tuned, _ = task.kept(run)
    return recipe, manifest, run, tuned, lines


def test_the_best_in_cross_validation_is_kept_and_all_are_reported(trained: Trained) -> None:
    recipe, _, run, tuned, lines = trained
    table = pd.read_csv(run.folder / "classifiers.csv")
    assert table.columns.tolist() == ["name", "parameters", "cv_auc", "cv_auc_std", "val_auc"]
    assert table["name"].tolist() == list(recipe.classifiers)
    assert 0.5 < table["cv_auc"][0] < table["cv_auc"][1] < 1  # the best is not the first
    best = table.loc[table["cv_auc"].idxmax()]
    assert (best["name"], best["cv_auc"]) == (tuned.name, pytest.approx(tuned.cv_auc))
    assert len(lines) == 2
    for line, row in zip(lines, table.itertuples(), strict=True):
        assert line.split()[0] == row.name
        assert f"AUC {row.cv_auc:.3f} ({row.cv_auc_std:.3f})  {row.parameters}" in line
    facts = run.facts()
    assert (facts["state"], facts["classifier"]) == ("trained", tuned.name)
    assert facts["classifier_parameters"] == tuned.parameters
    assert facts["seconds"] > 0


def test_the_validation_part_does_not_affect_the_choice(trained: Trained, tmp_path: Path) -> None:
    recipe, manifest, run, tuned, _ = trained
    wrong = manifest.copy()
    validation = wrong["split"] == "val"
    wrong.loc[validation, "label"] = wrong.loc[validation, "label"].map(OTHER)
    other = start(recipe, wrong, tmp_path / "run")
    task = FeaturesTask(recipe)
    task.train(other, tell=lambda line: None)
    again, _ = task.kept(other)
    assert (again.name, again.parameters, again.cv_auc) == (tuned.name, tuned.parameters, tuned.cv_auc)
    before, after = (pd.read_csv(each.folder / "classifiers.csv") for each in (run, other))
    np.testing.assert_allclose(after["val_auc"], 1 - before["val_auc"], atol=1e-9)
    assert before["val_auc"].between(0.55, 0.99).all()


def test_a_run_is_exported_from_what_it_saved(trained: Trained) -> None:
    recipe, manifest, run, tuned, _ = trained
    task = FeaturesTask(recipe)
    _, backbone = task.kept(run)
    validation = load_part(manifest, "val", recipe)
    bundle = task.export(run)
    expected = classifier_logits(tuned, pooled(backbone, validation.grey, recipe.preprocessing))
    loaded = Bundle.load(run.bundle_folder)
    assert loaded.graph == bundle.graph
    assert loaded.facts.chosen[0].values["name"] == f"{tuned.name} ({tuned.described})"
    detector = Detector(loaded)
    for path, logit in zip(validation.rows["path"][:3], expected, strict=False):
        finding = detector(read_scan(path))
        assert finding.evidence.shape == (2, 2)
        assert finding.score == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-3)


def test_drawn_weights_come_back_from_the_run_and_not_from_the_seed(trained: Trained) -> None:
    recipe, manifest, run, _, _ = trained
    validation = load_part(manifest, "val", recipe)
    first, second = (
        pooled(FeaturesTask(one).kept(run)[1], validation.grey, recipe.preprocessing)
        for one in (recipe, recipe.model_copy(update={"seed": 99}))
    )
    np.testing.assert_array_equal(first, second)


def test_a_run_without_a_classifier_names_the_remedy(trained: Trained, tmp_path: Path) -> None:
    recipe, manifest, *_ = trained
    run = start(recipe, manifest, tmp_path / "run")
    with pytest.raises(GroundglassError, match="no classifier; train it first"):
        FeaturesTask(recipe).kept(run)


def test_too_few_slices_for_the_folds_are_an_error_of_the_users(trained: Trained, tmp_path: Path) -> None:
    recipe, manifest, *_ = trained
    run = start(recipe, manifest, tmp_path / "run")
    many = recipe.model_copy(update={"folds": 13})
    with pytest.raises(GroundglassError, match=r"folds 13: the covid slices .* from 1[0-2] patients"):
        FeaturesTask(many).train(run)
