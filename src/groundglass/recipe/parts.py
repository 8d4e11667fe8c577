"""The parts that all kinds of recipe share."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from groundglass.data.registry import DATASETS
from groundglass.errors import GroundglassError
from groundglass.labels import NEGATIVE, POSITIVE, canonical_labels
from groundglass.preprocess import Preprocessing

if TYPE_CHECKING:
    import pandas as pd

    from groundglass.recipe.recipe import AnyRecipe

Share = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class RecipeError(GroundglassError):
    """A recipe with an unknown key or a value out of range; the message names each."""


class RecipePart(BaseModel):
    """A part of a recipe; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(RecipePart):
    """A dataset and how it is divided.

    ``dataset`` is a registered name, a manifest CSV or a folder of one subfolder per class. ``fractions`` are
    of training, validation and test, by default the dataset's own. With ``folds``, number ``fold`` of them is
    the validation set, and the test set is the same for all.
    """

    dataset: str
    split: Literal["official", "grouped", "blocks", "random"] = "official"
    fractions: tuple[float, float, float] | None = None
    folds: Annotated[int, Field(ge=2)] | None = None
    fold: Annotated[int, Field(ge=0)] = 0

    @property
    def name(self) -> str:
        """The registered name, else the name of the file or folder without its suffix."""
        return self.dataset if self.dataset in DATASETS else Path(self.dataset).stem

    @property
    def scheme(self) -> str:
        """How it is divided, in words."""
        return self.split + (f", fold {self.fold} of {self.folds}" if self.folds else "")


class Data(Source):
    """Which scans are used, and which of them are for training, validation and testing.

    ``seed`` is that of the split, by default the recipe's, so that runs with different seeds can share a
    split.

    ``classes`` are the labels that are used; scans with others are left out. Two classes make a binary
    question; with three or more, each gets its own probability; without ``classes`` it is covid against all
    other labels. ``per_class`` draws this many scans of each class from each dataset.

    ``further`` are further datasets, each with its own split. ``leave_out`` is a source (the manifest's
    column ``source``) whose scans all form the test set and are used for neither training nor validation;
    the other sources' test sets are left out of the run.
    """

    seed: Annotated[int, Field(ge=0)] | None = None
    classes: Annotated[tuple[str, ...], Field(min_length=2)] | None = None
    per_class: Count | None = None
    further: tuple[Source, ...] = ()
    leave_out: str | None = None

    @field_validator("classes", mode="before")
    @classmethod
    def _canonical(cls, classes: object) -> object:
        return canonical_labels(map(str, classes)) if isinstance(classes, list | tuple) else classes

    @field_validator("classes")
    @classmethod
    def _classes_fit(cls, classes: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if classes is not None and (POSITIVE not in classes or len(set(classes)) < len(classes)):
            raise ValueError(f"name each class once, and {POSITIVE} among them")
        return classes

    @property
    def datasets(self) -> tuple[Source, ...]:
        """All datasets, the first one first."""
        return (self, *self.further)

    @property
    def by_source(self) -> bool:
        """Whether the source of scans matters: with several datasets, or if one source is left out."""
        return bool(self.further) or self.leave_out is not None

    @property
    def several(self) -> tuple[str, ...]:
        """The classes that get a probability each; none if the question is binary."""
        return self.classes if self.classes is not None and len(self.classes) > 2 else ()

    def classes_of(self, labels: "pd.Series[str]") -> "pd.Series[str]":
        """The class of each label: the label itself with several classes, else covid or the rest."""
        return labels if self.several else labels.where(labels == POSITIVE, NEGATIVE)


class Augmentation(RecipePart):
    """Random changes that do not change a CT slice's label; 0 switches one off.

    ``rotation`` and ``shear`` in degrees; ``shift`` and ``zoom`` as shares. ``gamma``, ``brightness`` and
    ``contrast``, the largest relative change either way, imitate window and level. ``blur``, the largest
    sigma in pixels, ``resolution``, the largest factor by which a slice is shrunk and enlarged again (1
    switches it off), ``sharpen``, the largest sharpening, and ``noise``, the standard deviation of grey,
    imitate kernel, small figures and dose. ``erase`` is the largest share of area hidden. ``mixup`` is the
    alpha of mixup (Zhang et al. 2018, arXiv 1710.09412), which blends slices and their labels. Areas that a
    shift or rotation brings into view are black or, with ``fill`` ``nearest``, the border's grey, as in
    Keras' image generator; with ``zoom_axes``, height and width are zoomed separately, as there.
    """

    flip: Annotated[float, Field(ge=0, le=1)] = 0.0
    rotation: Annotated[float, Field(ge=0, le=180)] = 0.0
    shift: Share = 0.0
    zoom: Share = 0.0
    shear: Annotated[float, Field(ge=0, le=45)] = 0.0
    gamma: Share = 0.0
    brightness: Share = 0.0
    contrast: Share = 0.0
    blur: Annotated[float, Field(ge=0, le=5)] = 0.0
    resolution: Annotated[float, Field(ge=1, le=8)] = 1.0
    sharpen: Annotated[float, Field(ge=0, le=10)] = 0.0
    noise: Share = 0.0
    erase: Share = 0.0
    mixup: Annotated[float, Field(ge=0, le=10)] = 0.0
    fill: Literal["black", "nearest"] = "black"
    zoom_axes: bool = False


class Loss(RecipePart):
    """Cross-entropy, or focal loss (Lin et al. 2017, arXiv 1708.02002) with ``gamma`` and ``alpha``.

    ``alpha``, the weight of covid against 1 - ``alpha``, is for binary questions only.
    """

    name: Literal["bce", "focal"] = "bce"
    gamma: Annotated[float, Field(ge=0)] = 2.0
    alpha: Annotated[float, Field(gt=0, lt=1)] | None = None
    class_weights: Literal["none", "balanced"] = "none"
    label_smoothing: Share = 0.0


class Optimiser(RecipePart):
    """The optimiser; ``backbone_factor`` scales the learning rate of a pretrained backbone.

    ``smoothing`` is the decay of RMSprop's mean of squared gradients, ``epsilon`` the term added to the
    divisor of RMSprop and Adam. The defaults are torch's; Keras has 0.9 and 1e-7.
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

    ``precision`` ``auto`` is bf16 autocast if the processor supports bf16, else 32 bits. ``ema`` is the decay
    of an exponential moving average of the weights, which are then validated and kept.
    """

    epochs: Count = 15
    batch_size: Count = 16
    precision: Literal["auto", "32", "bf16"] = "auto"
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None


class Trainer(RecipePart):
    """Hardware for training with Lightning: number of ``devices`` (processors or GPUs) per node, and of ``nodes``.

    With ``auto``, Lightning chooses the ``strategy``: none for one device, ``ddp`` for several. A batch is
    divided among the devices, so its total size is that of the recipe. Each device validates on the whole
    validation set. With several nodes, the same command runs on each node with a shared folder, started as
    Lightning or Slurm require.
    """

    devices: Count = 1
    strategy: Literal["auto", "ddp", "ddp_find_unused_parameters_true"] = "auto"
    nodes: Count = 1

    @property
    def processes(self) -> int:
        """How many processes train together."""
        return self.devices * self.nodes


class OperatingPoint(RecipePart):
    """How the threshold on the calibrated probability is chosen on the validation set."""

    criterion: Literal["balanced_accuracy", "accuracy", "sensitivity", "fixed"] = "balanced_accuracy"
    target: Annotated[float, Field(gt=0, lt=1)] | None = None


class Recipe(RecipePart):
    """The part that the recipes of all tasks share."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    description: str = ""
    seed: Annotated[int, Field(ge=0)] = 0
    data: Data
    preprocessing: Preprocessing = Preprocessing()
    optimiser: Optimiser = Optimiser()
    schedule: Schedule = Schedule()

    @staticmethod
    def load(path: "Path | str", *changes: str) -> "AnyRecipe":
        """Read a recipe of any kind; parameters and errors as groundglass.recipe.recipe.load_recipe."""
        from groundglass.recipe.recipe import load_recipe

        return load_recipe(Path(path), changes)


class DetectorRecipe(Recipe):
    """The part that all recipes of detectors share."""

    operating_point: OperatingPoint = OperatingPoint()
