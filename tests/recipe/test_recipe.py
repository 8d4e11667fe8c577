from pathlib import Path

import pytest

from groundglass.recipe.recipe import (
    ClassificationRecipe,
    RecipeError,
    dump_recipe,
    load_recipe,
    parse_recipe,
)

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
        ("model: {cnn_head: {pool: 2}}", "cnn_head ends in a dense layer: set model.hidden"),
        (
            "data: {dataset: x, further: [{datset: y}]}",
            "data.further.0.datset: unknown key; did you mean dataset?",
        ),
        ("model: {cnn_head: {pol: 2}}", "model.cnn_head.pol: unknown key; did you mean pool?"),
    ],
)
def test_what_is_wrong_is_named(text: str, hint: str) -> None:
    with pytest.raises(RecipeError, match=hint):
        parse_recipe(MINIMAL + text)


@pytest.mark.parametrize(
    ("classes", "hint"),
    [
        ("[covid]", "data.classes: .*at least 2 items"),
        ("[normal, viral pneumonia]", "data.classes: .*name each class once, and covid among them"),
        ("[covid, normal, normal]", "data.classes: .*name each class once"),
    ],
    ids=["one", "without covid", "one twice"],
)
def test_unsuitable_classes_are_refused(classes: str, hint: str) -> None:
    with pytest.raises(RecipeError, match=hint):
        parse_recipe(MINIMAL, (f"data.classes={classes}",))


def test_more_than_two_classes_get_a_probability_each() -> None:
    several = ("normal", "covid", "viral pneumonia")
    assert parse_recipe(MINIMAL, (f"data.classes=[{', '.join(several)}]",)).data.several == several
    assert parse_recipe(MINIMAL, ("data.classes=[normal, covid]",)).data.several == ()
    assert parse_recipe(MINIMAL).data.several == ()


def test_alpha_is_for_the_yes_or_no_alone() -> None:
    focal = "loss={name: focal, alpha: 0.25}"
    with pytest.raises(RecipeError, match=r"loss\.alpha weighs covid .* use class_weights"):
        parse_recipe(MINIMAL, (focal, "data.classes=[covid, normal, viral pneumonia]"))
    recipe = parse_recipe(MINIMAL, (focal, "data.classes=[covid, normal]"))
    assert isinstance(recipe, ClassificationRecipe)
    assert recipe.loss.alpha == 0.25


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
def test_what_is_not_a_recipe_is_refused(tmp_path: Path, text: str) -> None:
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
