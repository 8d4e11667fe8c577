from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from groundglass.recipe.tasks import FeaturesRecipe

MINIMAL: dict[str, Any] = {
    "task": "features",
    "name": "x",
    "data": {"dataset": "covid-ct"},
    "model": {"name": "timm/resnet18"},
}
SHIPPED = Path(__file__).parents[2] / "recipes" / "deep-features.yaml"


def test_defaults_are_all_five_classifiers_of_pretrained_features() -> None:
    recipe = FeaturesRecipe.model_validate(MINIMAL)
    assert recipe.classifiers == ("svm-rbf", "svm-linear", "logistic", "knn", "forest")
    assert (recipe.folds, recipe.model.weights, recipe.model.substitute) == (5, "imagenet", None)
    assert recipe.operating_point.criterion == "balanced_accuracy"


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"model": {"name": "resnet18"}}, "name"),
        ({"model": {"name": "timm/resnet18", "substitute": "resnet18"}}, "substitute"),
        ({"model": {"name": "timm/resnet18", "dropout": 0.5}}, "dropout"),
        ({"classifiers": ["svm", "knn"]}, "classifiers"),
        ({"classifiers": []}, "classifiers"),
        ({"folds": 1}, "folds"),
        ({"task": "classification"}, "task"),
        ({"augmentation": {"flip": 0.5}}, "augmentation"),
        ({"data": {"dataset": "d", "classes": ["covid", "a", "b"]}}, "yes or no"),
    ],
)
def test_what_does_not_fit_is_named(changes: dict[str, Any], where: str) -> None:
    with pytest.raises(ValidationError, match=where):
        FeaturesRecipe.model_validate(MINIMAL | changes)


def test_the_recipe_that_comes_with_the_project_is_valid() -> None:
    recipe = FeaturesRecipe.model_validate(yaml.safe_load(SHIPPED.read_text(encoding="utf-8")))
    assert recipe.name == SHIPPED.stem
    assert (recipe.data.dataset, recipe.preprocessing.size) == ("covid-ct", (256, 256))
