from pathlib import Path

import pytest

from groundglass.train.recipe import RecipeError, dump_recipe, load_recipe, parse_recipe

MINIMAL = "name: x\ndata: {dataset: covid-ct}\n"
RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))


def test_defaults_fill_a_minimal_recipe_and_survive_saving() -> None:
    recipe = parse_recipe(MINIMAL)
    assert (recipe.training.epochs, recipe.model.name, recipe.data.split) == (15, "small-cnn", "official")
    assert parse_recipe(dump_recipe(recipe)) == recipe


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("trainig: {epochs: 3}", "trainig: unknown key; did you mean training?"),
        ("training: {epoch: 3}", "training.epoch: unknown key; did you mean epochs?"),
        (
            "preprocessing: {window: {wdith: 3}}",
            "preprocessing.window.wdith: unknown key; did you mean width?",
        ),
        ("training: {early_stopping: {patince: 3}}", "patince: unknown key; did you mean patience?"),
        ("loss: {zzzz: 3}", "valid keys: name, gamma"),
        ("training: {epochs: 0}", "training.epochs: .*greater than or equal to 1"),
        ("optimiser: {name: adamm}", "optimiser.name: .*'adamw'"),
        ("model: {name: small-cnn, weights: imagenet}", "no weights to load"),
    ],
)
def test_what_is_wrong_is_named(text: str, hint: str) -> None:
    with pytest.raises(RecipeError, match=hint):
        parse_recipe(MINIMAL + text)


def test_overrides_change_values_by_dotted_key() -> None:
    recipe = parse_recipe(MINIMAL, ("training.epochs=3", "model.filters=[8, 16]", "augmentation.flip=0.5"))
    assert (recipe.training.epochs, recipe.model.filters, recipe.augmentation.flip) == (3, (8, 16), 0.5)


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("training.epochs", "key=value"),
        ("training.epoch=3", "did you mean epochs"),
        ("name.x=3", "is a value"),
        ("seed=[", "cannot be read as YAML"),
    ],
)
def test_wrong_overrides_are_named(override: str, hint: str) -> None:
    with pytest.raises(RecipeError, match=hint):
        parse_recipe(MINIMAL, (override,))


@pytest.mark.parametrize("text", ["", "- a\n- b", "name: [", "name: x"])
def test_what_is_no_recipe_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=r"r\.yaml"):
        load_recipe(path)
    with pytest.raises(RecipeError, match="no such recipe"):
        load_recipe(tmp_path / "gone.yaml")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_of_the_project_is_valid_and_named_as_its_file(path: Path) -> None:
    assert load_recipe(path).name == path.stem


def test_there_are_recipes() -> None:
    assert RECIPES
