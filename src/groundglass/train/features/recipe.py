"""The recipe of a detector from deep features."""

from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from groundglass.train.parts import DetectorRecipe, RecipePart

ClassifierName = Literal["svm-rbf", "svm-linear", "logistic", "knn", "forest"]
Backbone = Annotated[str, Field(pattern=r"^timm/.+")]


class FeatureModel(RecipePart):
    """The frozen network: ``timm/NAME`` for any timm backbone with a feature map.

    ``weights`` is ``imagenet`` (from the folder GROUNDGLASS_WEIGHTS, else timm's download), ``none`` or the path
    of a safetensors file; where they cannot be had, the backbone ``substitute`` stands in, and the run says so.
    """

    name: Backbone
    weights: str = "imagenet"
    substitute: Backbone | None = None


class FeaturesRecipe(DetectorRecipe):
    """Everything that a detector from deep features depends on.

    Each of the ``classifiers`` is tuned by cross-validation on the training part, in ``folds`` that keep a
    patient's slices together, and the best is kept.
    """

    task: Literal["features"] = "features"
    model: FeatureModel
    classifiers: Annotated[tuple[ClassifierName, ...], Field(min_length=1)] = get_args(ClassifierName)
    folds: Annotated[int, Field(ge=2)] = 5

    @model_validator(mode="after")
    def _yes_or_no(self) -> "FeaturesRecipe":
        if self.data.several:
            raise ValueError("a classifier of features answers yes or no: name two labels in data.classes")
        return self
