import pytest

from groundglass.recipe.parts import RecipeError
from groundglass.recipe.recipe import parse_recipe
from groundglass.recipe.tasks import GroundedRecipe

TEXT = """
task: grounded
name: x
data: {dataset: covid-ct}
preprocessing: {size: [64, 96], lungs: only}
"""


def test_it_is_read_by_its_task() -> None:
    recipe = parse_recipe(TEXT)
    assert isinstance(recipe, GroundedRecipe)
    assert recipe.masks.dataset == "covid19-ct-seg"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("preprocessing.size=[60, 96]", "multiples of 32"),
        ("preprocessing.lungs=none", "within the lungs"),
        ("data.classes=[covid, normal, viral pneumonia]", "yes or no"),
        ("model.presense=2", "did you mean presence"),
        ("augmentation.painted=1.5", "less than or equal to 1"),
        ("augmentation.painted=0.5", "greys of landmarks"),
        ("augmentation.mixup=0.4", "mixup and erase"),
        ("loss.class_weights=balanced", "equally many of each class"),
    ],
)
def test_what_does_not_fit_is_named(override: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse_recipe(TEXT, (override,))
