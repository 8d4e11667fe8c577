"""Adapt a recipe to other data: the default recipe, the split, and suitable sizes."""

import re
from importlib.resources import files
from typing import Any

import pandas as pd

from groundglass.data.dataset import Scheme
from groundglass.data.datasets import load_labelled
from groundglass.data.registry import DATASETS
from groundglass.data.splits import best_split, groups
from groundglass.errors import GroundglassError
from groundglass.labels import POSITIVE
from groundglass.recipe.divide import divided_scans
from groundglass.recipe.parts import Data
from groundglass.recipe.recipe import AnyRecipe, parse_recipe
from groundglass.recipe.tasks import FeaturesRecipe, GroundedRecipe, SegmentationRecipe

DEFAULT = "default.yaml"
WITHOUT_WEIGHTS = ("model={name: small-cnn, hidden: 128, dropout: 0.5}", "preprocessing.size=[128, 128]")
"""Changes to the default recipe if ImageNet weights are not available."""
FOLDS = 5
"""If the published parts lack a validation set, this share of the training set becomes it."""
BATCHES = 4
"""Smallest number of batches in an epoch; with fewer, the batches become smaller."""
BELONGING = ("fractions", "folds", "fold", "seed", "classes", "per_class", "further", "leave_out")
"""Values of ``data`` that belong to a recipe's own dataset."""
REASONS: dict[Scheme, str] = {
    "official": "the data come with a split",
    "grouped": "patients are named, and each stays in one part",
    "blocks": "no patients are named, but the files are numbered, and neighbours stay in one part",
    "random": "neither patients nor numbers are known, so that slices of one patient may be in two parts",
}


def default_recipe(*, weights: bool = True) -> AnyRecipe:
    """The recipe for data without one; with ``weights`` it starts from ImageNet weights."""
    text = (files("groundglass.recipe") / DEFAULT).read_text(encoding="utf-8")
    return parse_recipe(text, () if weights else WITHOUT_WEIGHTS, origin=DEFAULT)


def for_data(recipe: AnyRecipe, dataset: str, scheme: Scheme | None = None) -> tuple[AnyRecipe, list[str]]:
    """Change a recipe so that it trains on another dataset.

    Parameters
    ----------
    recipe
        The recipe. Settings that belong to its own dataset, such as the split and the number of slices, are
        replaced.
    dataset
        A dataset's name, a manifest CSV or a folder with a subfolder per class.
    scheme
        How to divide it; by default a known dataset's own split, otherwise the best that the data allow.

    Returns
    -------
    The recipe, with the dataset in its name, and a line of text for each change.

    Raises
    ------
    GroundglassError
        If the data cannot be read or divided, no label means COVID-19, or a segmenter's recipe gets no masks.
    """
    manifest = load_labelled(dataset)
    if isinstance(recipe, SegmentationRecipe) and not {"lungs", "lesions"} <= set(manifest):
        raise GroundglassError(
            f"{dataset}: {recipe.name} trains a segmenter, which needs masks; name them in the columns lungs and "
            "lesions of a manifest, or choose the recipe of a detector"
        )
    if dataset == recipe.data.dataset and scheme in (None, recipe.data.split):
        return recipe, []
    data = _data(recipe.data, dataset, manifest, scheme)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{recipe.name}-on-{data.name}")
    changed = recipe.model_copy(update={"data": data, "name": name})
    told = _told(recipe.data, data, manifest, chosen=scheme is None and dataset not in DATASETS)
    fitted, sizes = fit_sizes(changed, divided_scans(data, recipe.seed))
    return fitted, told + sizes


def fit_sizes(recipe: AnyRecipe, divided: pd.DataFrame) -> tuple[AnyRecipe, list[str]]:
    """Reduce a recipe's batch size, or its folds, to what the training set allows.

    Returns
    -------
    The recipe, and a line of text for each change.
    """
    train = divided[divided["split"] == "train"]
    if isinstance(recipe, FeaturesRecipe):
        truth = train["label"] == POSITIVE
        least = min(groups(train)[truth].nunique(), groups(train)[~truth].nunique())
        folds = max(2, min(recipe.folds, least))
        told = (
            f"folds: {folds} instead of {recipe.folds}, because a class has only {least} patients or slices"
        )
        return (recipe, []) if folds == recipe.folds else (recipe.model_copy(update={"folds": folds}), [told])
    if isinstance(recipe, GroundedRecipe):
        return recipe, []
    length: Any = recipe.training
    size = min(length.batch_size, max(2, len(train) // BATCHES))
    if size == length.batch_size:
        return recipe, []
    training = length.model_copy(update={"batch_size": size})
    told = (
        f"training.batch_size: {size} instead of {length.batch_size}, because only {len(train)} slices train"
    )
    return recipe.model_copy(update={"training": training}), [told]


def _data(own: Data, dataset: str, manifest: pd.DataFrame, scheme: Scheme | None) -> Data:
    """The data part for another dataset."""
    split = scheme or (DATASETS[dataset].default_split if dataset in DATASETS else best_split(manifest))
    no_validation = split == "official" and not (manifest["split"] == "val").any()
    labels = sorted(set(manifest["label"]), key=lambda label: (label != POSITIVE, label))
    several = tuple(labels) if own.several and len(labels) > 2 else None
    return Data(dataset=dataset, split=split, folds=FOLDS if no_validation else None, classes=several)


def _told(own: Data, data: Data, manifest: pd.DataFrame, *, chosen: bool) -> list[str]:
    counts = ", ".join(f"{count} {label}" for label, count in manifest["label"].value_counts().items())
    told = [f"data.dataset: {data.dataset} instead of {own.dataset} ({len(manifest)} slices: {counts})"]
    reason = f", because {REASONS[data.split]}" if chosen else ""
    told.append(f"data.split: {data.split}{reason}")
    if data.folds:
        told.append(f"data.folds: {FOLDS}, because the data have no validation set; one fold becomes it")
    for key in BELONGING:
        value, new = getattr(own, key), getattr(data, key)
        if key not in ("folds", "fold", "seed") and value != new and value != Data.model_fields[key].default:
            shown = [part.dataset for part in value] if key == "further" else value
            told.append(f"data.{key}: {new or 'none'} instead of {shown}, which belongs to {own.dataset}")
    return told
