"""The slices with masks of a grounded detector, before anything is trained."""

from pathlib import Path

import pandas as pd
import pytest

from groundglass.commands.evaluate import choose_rows
from groundglass.commands.train import masks_of, train
from groundglass.data.manifest import write_manifest
from groundglass.detect.bundle import Bundle
from groundglass.errors import GroundglassError
from groundglass.phantom import write_phantom_set
from groundglass.recipe.recipe import AnyRecipe, parse_recipe

LESIONS = Path(__file__).parents[3] / "recipes" / "detector-lesions.yaml"


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms")
    rows = write_phantom_set(folder, count=2, disease="covid", seed=0, shape=(8, 96, 96))
    write_manifest(pd.DataFrame(rows).assign(source="north"), folder / "manifest.csv")
    return folder / "manifest.csv"


def recipe(masks: Path | str, *more: str) -> AnyRecipe:
    overrides = (f"data.dataset={masks}", "data.further=[]", f"masks={{dataset: {masks}, split: random}}")
    return parse_recipe(LESIONS.read_text(), (*overrides, *more))


@pytest.mark.filterwarnings("ignore::groundglass.data.splits.LeakageWarning")
def test_they_are_divided_by_their_own_split(manifest: Path) -> None:
    divided = masks_of(recipe(manifest))
    assert divided is not None
    assert set(divided["split"]) == {"train", "val", "test"}


def test_masks_of_the_source_that_is_left_out_are_refused(manifest: Path) -> None:
    with pytest.raises(GroundglassError, match="comes from north, which is left out"):
        masks_of(recipe(manifest, "data.leave_out=north"))


def test_other_recipes_have_none() -> None:
    assert masks_of(parse_recipe("name: x\ndata: {dataset: covid-ct}")) is None


@pytest.mark.filterwarnings("ignore::groundglass.data.splits.LeakageWarning")
def test_unavailable_masks_leave_no_run_behind(manifest: Path, tmp_path: Path) -> None:
    changes = (f"data.dataset={manifest}", "data.further=[]", "data.split=random", "masks.dataset=no.csv")
    with pytest.raises(GroundglassError, match=r"no\.csv"):
        train(LESIONS, changes, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_slices_whose_masks_were_trained_on_are_not_an_external_test(manifest: Path) -> None:
    bundle = Bundle.load("covid-ct-lite0")
    assert choose_rows(bundle, str(manifest), None).external
    training = bundle.facts.training.model_copy(update={"masks": ("north",)})
    bundle.facts = bundle.facts.model_copy(update={"training": training})
    labelled = choose_rows(bundle, str(manifest), None)
    assert not labelled.external
    assert "masks of slices of north" in labelled.warnings[0]
