"""The training loop of a grounded detector: from a recipe and two manifests to a run's folder."""

from collections.abc import Callable
from pathlib import Path

import groundglass.train.torchvision_ops  # noqa: F401

# isort: split
import lightning.pytorch as pl
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from groundglass.recipe.tasks import GroundedRecipe
from groundglass.segment.segmenter import Segmenter
from groundglass.train.callbacks import EpochLog
from groundglass.train.grounded.module import GroundedModule
from groundglass.train.grounded.slices import BalancedBatches, load_masked_slices
from groundglass.train.loop import (
    LOGGED,
    PartData,
    fit,
    keep_best,
    kept_weights,
    load_part,
    make_trainer,
    quieten,
)
from groundglass.train.run import Run
from groundglass.train.segmentation.slices import masked_rows
from groundglass.train.slices import Slices, make_loader


def train_grounded(
    recipe: GroundedRecipe,
    manifest: pd.DataFrame,
    masks: pd.DataFrame,
    run: Run,
    *,
    resume_from: Path | None = None,
    show_progress: bool = False,
    tell: Callable[[str], None] = print,
) -> GroundedModule:
    """Train by a recipe.

    Parameters
    ----------
    recipe
        The recipe.
    manifest
        Labelled slices with their split.
    masks
        Slices with masks, with their split; the training part is used.
    run, resume_from, show_progress, tell
        As of :func:`groundglass.train.loop.train_run`.

    Returns
    -------
    The module with the weights of the epoch that is kept.
    """
    quieten()
    train = load_part(manifest, "train", recipe, show_progress=show_progress)
    validation = load_part(manifest, "val", recipe, show_progress=show_progress)
    rows = masked_rows(masks, "train")
    segmenter = Segmenter.load(recipe.preprocessing.segmenter)
    masked = load_masked_slices(rows, recipe.preprocessing, segmenter, show_progress=show_progress)
    pl.seed_everything(recipe.seed, verbose=False)
    module = GroundedModule(recipe, masked)
    run.update(
        parameters=sum(weights.numel() for weights in module.model.parameters()),
        masks={"dataset": recipe.masks.name, "slices": len(rows), "cases": rows["patient"].nunique()},
    )
    callbacks = [EpochLog(run.log_file, LOGGED, tell), *keep_best(run, recipe.training.best_by)]
    trainer = make_trainer(recipe, recipe.training, run, callbacks, show_progress)
    spec = recipe.training
    batches = BalancedBatches(_strata(train), spec.batch_size, spec.steps, recipe.seed)
    fit(
        trainer,
        module,
        DataLoader(Slices(train.grey, train.target), batch_size=None, sampler=batches),
        make_loader(Slices(validation.grey, validation.target), spec.batch_size),
        run,
        resume_from,
    )
    return kept_module(recipe, run)


def kept_module(recipe: GroundedRecipe, run: Run) -> GroundedModule:
    """The module with the weights of a run's kept epoch; GroundglassError where the run has no checkpoint."""
    module = GroundedModule(recipe, start=False)
    module.load_state_dict(kept_weights(run, recipe.training.best_by))
    return module.eval()


def _strata(part: PartData) -> NDArray[np.intp]:
    """A number for each source and class: with as many of each a network does not learn a class by its source."""
    pairs = part.rows["source"].astype(str) + "\0" + part.target.astype(str)
    return np.asarray(pd.factorize(pairs)[0], dtype=np.intp)
