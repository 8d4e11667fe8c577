"""Recipe: everything that a training run depends on, as validated YAML."""

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from groundglass.recipe.parts import (
    Augmentation,
    Count,
    DetectorRecipe,
    Length,
    Loss,
    Recipe,
    RecipeError,
    RecipePart,
    Share,
    Trainer,
)
from groundglass.recipe.tasks import FeaturesRecipe, GroundedRecipe, SegmentationRecipe


class CnnHead(RecipePart):
    """A head of two convolutions, as in the published system of recipes/bcdunet-efficientnet.yaml.

    Convolution 2 x 2 with stride 2, dropout, convolution 3 x 3, max-pooling of ``pool`` x ``pool``, dropout and a
    dense layer of ``model.hidden``, without padding. ``activation`` follows each convolution and the dense layer.
    """

    filters: Count = 512
    pool: Annotated[int, Field(ge=1, le=16)] = 6
    activation: Literal["none", "relu"] = "none"


class Model(RecipePart):
    """The network: ``small-cnn``, or ``timm/NAME`` for any timm backbone with a feature map.

    ``weights`` is ``none``, ``imagenet`` (from the folder GROUNDGLASS_WEIGHTS, else timm's download) or the
    path of a safetensors file; if they are not available, the backbone ``substitute`` is used, and the run
    reports it. ``filters``, ``kernel`` and ``pool`` shape the small CNN, ``block_dropout`` follows each of
    its convolutions. With ``hidden`` the flattened feature map goes through a dense layer of that width,
    otherwise through global average pooling; ``cnn_head`` replaces both. ``dropout`` is the head's. ``init``
    ``glorot`` draws the weights that are not pretrained as Keras does (Glorot and Bengio 2010), else as torch
    does.
    """

    name: str = "small-cnn"
    weights: str = "none"
    substitute: str | None = None
    freeze_backbone: bool = False
    dropout: Share = 0.0
    filters: tuple[Count, ...] = (32, 64, 64)
    kernel: Annotated[int, Field(ge=1, le=11)] = 3
    pool: Annotated[int, Field(ge=2, le=8)] = 2
    block_dropout: Share = 0.0
    hidden: Count | None = None
    cnn_head: CnnHead | None = None
    init: Literal["torch", "glorot"] = "torch"

    @model_validator(mode="after")
    def _weights_fit(self) -> "Model":
        if not self.name.startswith("timm/") and self.weights != "none":
            raise ValueError(f"{self.name} has no weights to load: set model.weights to none")
        if self.cnn_head is not None and self.hidden is None:
            raise ValueError("cnn_head ends in a dense layer: set model.hidden to its width")
        return self


class Stop(RecipePart):
    """Stop when ``monitor`` has not improved for ``patience`` epochs."""

    monitor: Literal["val_auc", "val_loss", "val_accuracy"] = "val_loss"
    patience: Count = 10


class Training(Length):
    """Length of the run, and how the epoch to keep is chosen on the validation set.

    With ``steps`` an epoch has this many batches, regardless of the number of slices: they are repeated, each
    time in another order.
    """

    steps: Count | None = None

    best_by: Literal["val_auc", "val_loss", "val_accuracy"] = "val_auc"
    early_stopping: Stop | None = None


class ClassificationRecipe(DetectorRecipe):
    """The recipe of a network that classifies slices."""

    task: Literal["classification"] = "classification"
    augmentation: Augmentation = Augmentation()
    model: Model = Model()
    loss: Loss = Loss()
    training: Training = Training()
    trainer: Trainer = Trainer()

    @model_validator(mode="after")
    def _loss_fits(self) -> "ClassificationRecipe":
        if self.data.several and self.loss.alpha is not None:
            raise ValueError(
                "loss.alpha weighs covid against the rest; with several classes use class_weights"
            )
        return self


AnyDetectorRecipe = ClassificationRecipe | FeaturesRecipe | GroundedRecipe
AnyRecipe = AnyDetectorRecipe | SegmentationRecipe
TASKS: dict[str, type[AnyRecipe]] = {
    "classification": ClassificationRecipe,
    "features": FeaturesRecipe,
    "grounded": GroundedRecipe,
    "segmentation": SegmentationRecipe,
}


def load_recipe(path: Path, overrides: tuple[str, ...] = ()) -> AnyRecipe:
    """Read and validate a recipe.

    Parameters
    ----------
    path
        The YAML file.
    overrides
        ``key=value`` pairs with dotted keys, such as ``training.epochs=3``; values are read as YAML.

    Raises
    ------
    RecipeError
        If the file is missing or not a YAML mapping, a key is unknown (the nearest valid one is named) or a
        value does not fit.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise RecipeError(f"{path}: there is no such recipe") from error
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: cannot be read ({error})") from error
    return parse_recipe(text, overrides, origin=str(path))


def parse_recipe(text: str, overrides: tuple[str, ...] = (), *, origin: str = "recipe.yaml") -> AnyRecipe:
    """Validate a recipe's YAML text, as :func:`load_recipe` does; ``origin`` names it in errors."""
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"{origin}: cannot be read as YAML: {error}") from error
    if not isinstance(content, dict):
        raise RecipeError(f"{origin}: a recipe is a mapping of keys to values")
    for override in overrides:
        _set(content, override)
    task = content.get("task", "classification")
    if not isinstance(task, str) or task not in TASKS:
        raise RecipeError(f"{origin}: task {task!r}: unknown; there are {', '.join(TASKS)}")
    try:
        return TASKS[task].model_validate(content)
    except ValidationError as error:
        lines = "\n".join(f"  {line}" for line in _explain(error, TASKS[task]))
        raise RecipeError(f"{origin}:\n{lines}") from error


def dump_recipe(recipe: Recipe) -> str:
    """The whole recipe as YAML, defaults included."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _set(content: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise RecipeError(f"--set {override}: write it as key=value, such as training.epochs=3")
    *parents, last = key.split(".")
    place = content
    for parent in parents:
        place = place.setdefault(parent, {})
        if not isinstance(place, dict):
            raise RecipeError(f"--set {override}: {parent} is a value and has no keys below it")
    try:
        place[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise RecipeError(f"--set {override}: the value cannot be read as YAML") from error


def _explain(error: ValidationError, root: type[BaseModel]) -> list[str]:
    lines = []
    for problem in error.errors():
        *parents, last = [str(part) for part in problem["loc"]] or [""]
        key = ".".join([*parents, last])
        if problem["type"] == "extra_forbidden":
            valid = _keys_at(parents, root)
            near = difflib.get_close_matches(last, valid, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"valid keys: {', '.join(valid)}"
            lines.append(f"{key}: unknown key; {hint}")
        else:
            # The message says what is wrong with a part as a whole; printing all of its values would bury it.
            got = "" if isinstance(problem["input"], dict) else f" (got {problem['input']!r})"
            lines.append(f"{key or 'recipe'}: {problem['msg']}{got}")
    return lines


def _keys_at(parents: list[str], root: type[BaseModel]) -> list[str]:
    model: Any = root
    for parent in parents:
        if parent.isdigit():  # an index into a list, whose annotation gives the type of its items
            continue
        annotation = model.model_fields[parent].annotation
        candidates = (annotation, *get_args(annotation))
        model = next(c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel))
    return list(model.model_fields)
