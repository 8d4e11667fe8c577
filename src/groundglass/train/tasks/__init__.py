"""The four tasks: classification, deep features, lesions and segmentation."""

from typing import Any

from groundglass.recipe.recipe import AnyRecipe
from groundglass.train.task import Task
from groundglass.train.tasks.classify import ClassifyTask
from groundglass.train.tasks.features import FeaturesTask
from groundglass.train.tasks.lesions import LesionsTask
from groundglass.train.tasks.segment import SegmentTask

TASKS: dict[str, type[Task[Any]]] = {
    "classification": ClassifyTask,
    "features": FeaturesTask,
    "grounded": LesionsTask,
    "segmentation": SegmentTask,
}
"""The task classes, by the recipe's ``task``."""


def task_for(recipe: AnyRecipe, *, show_progress: bool = False) -> Task[Any]:
    """The task that a recipe names."""
    return TASKS[recipe.task](recipe, show_progress=show_progress)
