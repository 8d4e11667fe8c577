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
    assert recipe.model.segmenter == "lungs-lite0"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("preprocessing.size=[60, 96]", "multiples of 32"),
        ("preprocessing.lungs=none", "within the lungs"),
        ("data.classes=[covid, normal, viral pneumonia]", "yes or no"),
        ("model.strenght=2", "did you mean strength"),
    ],
)
def test_what_does_not_fit_is_named(override: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse_recipe(TEXT, (override,))
