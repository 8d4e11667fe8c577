import pytest

from groundglass.recipe.recipe import RecipeError, dump_recipe, parse_recipe
from groundglass.recipe.tasks import SegmentationRecipe

MINIMAL = "task: segmentation\nname: x\ndata: {dataset: covid19-ct-seg}\n"


def test_defaults_fill_a_minimal_recipe_and_survive_saving() -> None:
    recipe = parse_recipe(MINIMAL)
    assert isinstance(recipe, SegmentationRecipe)
    assert (recipe.model.name, recipe.training.best_by, recipe.deploy_precision) == (
        "unet",
        "val_dice",
        "f32",
    )
    assert parse_recipe(dump_recipe(recipe)) == recipe


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("augmentation: {gama: 0.3}", "augmentation.gama: unknown key; did you mean gamma?"),
        ("post_processing: {lung_treshold: 0.3}", "did you mean lung_threshold?"),
        (
            "training: {smaller_first: {epochs: 1, siez: [32, 32]}}",
            "smaller_first.siez: unknown key; did you mean size?",
        ),
        ("augmentation: {crop: 0.6, piece: 0.6}", "their chances may add up to 1"),
        ("preprocessing: {lungs: crop}", "a segmenter finds the lungs"),
        ("preprocessing: {size: [200, 256]}", r"sizes that are multiples of 32: \(200, 256\)"),
        (
            "training: {smaller_first: {epochs: 1, size: [32, 100]}}\npreprocessing: {size: [64, 64]}",
            r"sizes that are multiples of 32: \(32, 100\)",
        ),
        (
            "model: {name: bcdunet}\npreprocessing: {size: [200, 100]}",
            r"sizes that are multiples of 8: \(200, 100\)",
        ),
        ("model: {name: bcdunet, filters: 5}", "model.filters: .*multiple of 2"),
        ("training: {best_by: val_auc}", "training.best_by: .*'val_dice'"),
        ("operating_point: {}", "operating_point: unknown key"),
    ],
)
def test_what_is_wrong_is_named(text: str, hint: str) -> None:
    with pytest.raises(RecipeError, match=hint) as caught:
        parse_recipe(MINIMAL + text)
    assert len(str(caught.value)) < 300  # not all values of the recipe


@pytest.mark.parametrize("task", ["[segmentation]", "{a: b}", "detection", "3", "null"])
def test_an_unknown_task_lists_what_there_is(task: str) -> None:
    with pytest.raises(RecipeError, match="there are classification, features, grounded, segmentation"):
        parse_recipe(f"task: {task}\nname: x\ndata: {{dataset: x}}")


def test_bcdunet_accepts_sizes_that_the_unet_does_not() -> None:
    recipe = parse_recipe(MINIMAL + "model: {name: bcdunet, filters: 6}\npreprocessing: {size: [200, 104]}")
    assert recipe.preprocessing.size == (200, 104)
