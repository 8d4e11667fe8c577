"""The parts that recipes of every kind share."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from groundglass.errors import GroundglassError
from groundglass.labels import NEGATIVE, POSITIVE
from groundglass.preprocess import Preprocessing

if TYPE_CHECKING:
    import pandas as pd

Share = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class RecipeError(GroundglassError):
    """A recipe with an unknown key or a value out of range; the message names each."""


class RecipePart(BaseModel):
    """A part of a recipe; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Data(RecipePart):
    """Which scans, and which of them train, choose and test.

    ``dataset`` is a registered name, a manifest CSV or a folder of one subfolder per class. ``fractions`` are
    of training, validation and test, by default the dataset's own. With ``folds``, number ``fold`` of them is
    the validation part, and the test part is the same for all. ``seed`` is that of the split, by default the
    recipe's, so that runs of several seeds can share a split.

    ``classes`` are the labels that take part; scans with others are left out. Two of them are a yes or no, of
    three and more each gets a probability of its own; without them it is covid against all other labels.
    ``per_class`` draws so many scans of each class.
    """

    dataset: str
    split: Literal["official", "grouped", "blocks", "random"] = "official"
    fractions: tuple[float, float, float] | None = None
    folds: Annotated[int, Field(ge=2)] | None = None
    fold: Annotated[int, Field(ge=0)] = 0
    seed: Annotated[int, Field(ge=0)] | None = None
    classes: Annotated[tuple[str, ...], Field(min_length=2)] | None = None
    per_class: Count | None = None

    @field_validator("classes")
    @classmethod
    def _classes_fit(cls, classes: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if classes is not None and (POSITIVE not in classes or len(set(classes)) < len(classes)):
            raise ValueError(f"name each class once, and {POSITIVE} among them")
        return classes

    @property
    def several(self) -> tuple[str, ...]:
        """The classes that get a probability each; none where the question is a yes or no."""
        return self.classes if self.classes is not None and len(self.classes) > 2 else ()

    def classes_of(self, labels: "pd.Series[str]") -> "pd.Series[str]":
        """The class of each label: itself, where several are told apart, else covid or the rest."""
        return labels if self.several else labels.where(labels == POSITIVE, NEGATIVE)


class Optimiser(RecipePart):
    """The optimiser; ``backbone_factor`` scales the learning rate of a pretrained backbone.

    ``smoothing`` is the decay of RMSprop's mean of squared gradients, ``epsilon`` what is added to the divisor
    of RMSprop and Adam. The defaults are torch's; Keras has 0.9 and 1e-7.
    """

    name: Literal["adam", "adamw", "sgd", "rmsprop"] = "adamw"
    lr: Positive = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    momentum: Share = 0.0
    smoothing: Share = 0.99
    epsilon: Positive = 1e-8
    backbone_factor: Positive = 1.0
    clip_norm: Positive | None = None


class Schedule(RecipePart):
    """The learning rate over the run: constant or half a cosine to zero, after a linear warm-up."""

    name: Literal["constant", "cosine"] = "constant"
    warmup_epochs: Annotated[float, Field(ge=0)] = 0.0


class Length(RecipePart):
    """Length of the run.

    ``precision`` ``auto`` is bf16 autocast where the processor computes in bf16, else 32 bits. ``ema`` is the
    decay of an exponential moving average of the weights, which is then what is validated and kept.
    """

    epochs: Count = 15
    batch_size: Count = 16
    precision: Literal["auto", "32", "bf16"] = "auto"
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None


class OperatingPoint(RecipePart):
    """How the threshold on the calibrated probability is chosen on the validation part."""

    criterion: Literal["balanced_accuracy", "accuracy", "sensitivity", "fixed"] = "balanced_accuracy"
    target: Annotated[float, Field(gt=0, lt=1)] | None = None


class CommonRecipe(RecipePart):
    """What stands in every recipe, whatever the network answers."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    description: str = ""
    seed: Annotated[int, Field(ge=0)] = 0
    data: Data
    preprocessing: Preprocessing = Preprocessing()
    optimiser: Optimiser = Optimiser()
    schedule: Schedule = Schedule()


class DetectorRecipe(CommonRecipe):
    """What stands in every recipe of a detector, whatever it is made of."""

    operating_point: OperatingPoint = OperatingPoint()
