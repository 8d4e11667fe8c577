"""The parts that recipes of every kind share."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from groundglass.errors import GroundglassError
from groundglass.preprocess import Preprocessing

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
    the validation part, and the test part is the same for all.
    """

    dataset: str
    split: Literal["official", "grouped", "blocks", "random"] = "official"
    fractions: tuple[float, float, float] | None = None
    folds: Annotated[int, Field(ge=2)] | None = None
    fold: Annotated[int, Field(ge=0)] = 0


class Optimiser(RecipePart):
    """The optimiser; ``backbone_factor`` scales the learning rate of a pretrained backbone."""

    name: Literal["adam", "adamw", "sgd", "rmsprop"] = "adamw"
    lr: Positive = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    momentum: Share = 0.0
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


class CommonRecipe(RecipePart):
    """What stands in every recipe, whatever the network answers."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    description: str = ""
    seed: Annotated[int, Field(ge=0)] = 0
    data: Data
    preprocessing: Preprocessing = Preprocessing()
    optimiser: Optimiser = Optimiser()
    schedule: Schedule = Schedule()
