"""A user's own folder: the chosen split, and the changes to a recipe."""

from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from groundglass.commands.system_runs import make_protocol, trained_systems
from groundglass.data.manifest import import_path, write_manifest
from groundglass.data.splits import LeakageWarning, best_split, split
from groundglass.errors import GroundglassError
from groundglass.recipe.divide import divided_scans
from groundglass.recipe.own_data import default_recipe, fit_sizes, for_data
from groundglass.recipe.recipe import load_recipe, parse_recipe

RECIPES = Path(__file__).parents[2] / "recipes"


def folder_of(root: Path, names: dict[str, list[str]]) -> Path:
    """A folder with a file of each name for each class, all of them different pictures."""
    grey = 0
    for label, files in names.items():
        for file in files:
            path = root / label / file
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (8, 8), grey % 256).save(path)
            grey += 1
    return root


def numbered(count: int, form: str = "{}.png") -> list[str]:
    return [form.format(number) for number in range(count)]


WORDS = [a + b for a in "abcdefgh" for b in ("elm", "oak", "yew")]
CASES = {
    "parts": (
        {
            f"{part}/{label}": numbered(4)
            for part in ("train", "val", "test")
            for label in ("covid", "normal")
        },
        "official",
    ),
    "no test set": (
        {f"{part}/{label}": numbered(4) for part in ("train", "val") for label in ("covid", "normal")},
        "official",
    ),
    "numbers": ({"COVID-19": numbered(20), "Normal": numbered(20, "img ({}).png")}, "blocks"),
    "names": ({"positive": [f"{w}.png" for w in WORDS], "negative": [f"{w}.png" for w in WORDS]}, "random"),
    "few numbers": ({"1": [*numbered(9), *(f"{w}.png" for w in WORDS)], "0": numbered(30)}, "random"),
    "too few for blocks": ({"covid19": numbered(2), "other": numbered(20)}, "random"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_best_split_is_chosen(case: str, tmp_path: Path) -> None:
    names, scheme = CASES[case]
    assert best_split(import_path(folder_of(tmp_path / "set", names))) == scheme


def test_patients_are_kept_together_where_they_are_named(tmp_path: Path) -> None:
    manifest = import_path(folder_of(tmp_path / "set", {"covid": numbered(20), "other": numbered(20)}))
    patients = manifest.assign(patient=[f"p{number // 4}" for number in range(40)])
    assert best_split(patients) == "grouped"
    one_patient = manifest.assign(patient=["p" if label == "covid" else "" for label in manifest["label"]])
    assert best_split(one_patient) == "random"  # blocks would divide the patient


def test_a_default_recipe_is_valid_with_and_without_weights() -> None:
    assert default_recipe().model.weights == "imagenet"
    small = default_recipe(weights=False)
    assert (small.model.name, small.model.weights, small.preprocessing.size) == (
        "small-cnn",
        "none",
        (128, 128),
    )


def test_settings_of_the_recipes_own_data_are_replaced_and_reported(tmp_path: Path) -> None:
    own = parse_recipe(
        "name: theirs\n"
        "data: {dataset: covid-ct, split: official, per_class: 300, further: [{dataset: sarscov2-ct}], "
        "fractions: [0.8, 0.1, 0.1], leave_out: sarscov2-ct, classes: [covid, other]}\n"
        "training: {batch_size: 32}\n"
    )
    folder = folder_of(tmp_path / "my scans", {"CT_COVID": numbered(20), "Healthy": numbered(20)})
    recipe, told = for_data(own, str(folder))
    data = recipe.data
    assert (data.dataset, data.split, data.per_class, data.further) == (str(folder), "blocks", None, ())
    assert (data.fractions, data.leave_out, data.classes) == (None, None, None)
    assert recipe.name == "theirs-on-my-scans"
    assert recipe.training.batch_size == 7  # 28 slices train, in four batches
    assert recipe.preprocessing == own.preprocessing
    text = "\n".join(told)
    for words in (
        "instead of covid-ct (40 slices: 20 covid, 20 healthy)",
        "data.split: blocks, because no patients are named",
        "data.per_class: none instead of 300",
        "data.further: none instead of ['sarscov2-ct']",
        "data.leave_out: none instead of sarscov2-ct",
        "data.classes: none instead of ('covid', 'other')",
        "training.batch_size: 7 instead of 32, because only 28 slices train",
    ):
        assert words in text
    parts = divided_scans(data, recipe.seed)
    assert set(parts["split"]) == {"train", "val", "test"}
    assert for_data(recipe, str(folder)) == (recipe, [])


def test_a_part_for_validation_is_made_where_there_is_none(tmp_path: Path) -> None:
    names = {f"{part}/{label}": numbered(10) for part in ("train", "test") for label in ("covid", "normal")}
    folder = folder_of(tmp_path / "set", names)
    with pytest.warns(LeakageWarning, match="no patient id"):
        recipe, told = for_data(default_recipe(), str(folder))
    with pytest.warns(LeakageWarning, match="no patient id"):
        parts = divided_scans(recipe.data, recipe.seed)
    assert parts["split"].value_counts().to_dict() == {"test": 20, "train": 16, "val": 4}
    assert any("no validation set" in line for line in told)


@pytest.mark.parametrize("file", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_fits_a_small_folder_or_says_what_it_needs(file: Path, tmp_path: Path) -> None:
    folder = folder_of(
        tmp_path / "set", {"COVID": numbered(12), "pneumonia": numbered(12), "no": numbered(12)}
    )
    recipe = load_recipe(file)
    if recipe.task == "segmentation":
        with pytest.raises(GroundglassError, match="columns lungs and lesions"):
            for_data(recipe, str(folder))
        return
    changed, told = for_data(recipe, str(folder))
    assert set(divided_scans(changed.data, changed.seed)["split"]) == {"train", "val", "test"}
    assert told[0].startswith(f"data.dataset: {folder} instead of ")
    if recipe.data.several:
        assert changed.data.classes == ("covid", "no", "pneumonia")
    if recipe.task == "features":
        assert changed.folds <= 5
    elif recipe.task != "grounded":
        assert changed.training.batch_size <= 6


def test_folds_fit_the_rarer_class(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "set", {"covid": numbered(5), "other": numbered(30)})
    recipe = load_recipe(RECIPES / "deep-features.yaml")
    manifest = split(import_path(folder), "blocks")
    fitted, told = fit_sizes(recipe, manifest)
    assert fitted.folds == 3
    assert told == ["folds: 3 instead of 5, because a class has only 3 patients or slices"]


def test_a_folder_without_covid_is_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "set", {"sick": numbered(5), "healthy": numbered(5)})
    with (
        pytest.warns(UserWarning, match="no class means"),
        pytest.raises(GroundglassError, match="name the pos"),
    ):
        for_data(default_recipe(), str(folder))


def test_a_comparison_divides_and_fits_in_the_same_way(
    tmp_path: Path, recipe_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of(tmp_path / "set", {"COVID-19": numbered(12), "CAP": numbered(12)})
    other = tmp_path / "other.yaml"
    other.write_text(
        recipe_file.read_text().replace("split: random", "split: random, classes: [covid, normal]")
    )
    protocol = make_protocol([other], str(folder), None, split_seed=0, seeds=(0,), folds=None, changes=())
    assert (protocol.split, protocol.classes) == ("blocks", ())
    trained: list[int] = []

    def note(recipe, run, tell):
        trained.append(recipe.training.batch_size)
        return True

    monkeypatch.setattr("groundglass.commands.trainings.finish_training", note)
    told: list[str] = []
    trained_systems([other], protocol, tmp_path / "out", [], told.append)
    assert trained == [4]
    assert "tiny, changed: training.batch_size: 4 instead of 8, because only 16 slices train" in told


def test_a_manifest_is_as_good_as_a_folder(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "set", {"covid": numbered(12), "other": numbered(12)})
    manifest: pd.DataFrame = import_path(folder).assign(patient=[f"p{number // 2}" for number in range(24)])
    write_manifest(manifest, tmp_path / "my.csv")
    recipe, told = for_data(default_recipe(), str(tmp_path / "my.csv"))
    assert (recipe.name, recipe.data.split) == ("default-on-my", "grouped")
    assert "data.split: grouped, because patients are named, and each stays in one part" in told
