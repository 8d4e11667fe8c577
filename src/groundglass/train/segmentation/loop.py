"""The training loop of a segmenter: from a recipe and a manifest with masks to a run's folder."""

from collections.abc import Callable
from pathlib import Path

import groundglass.train.torchvision_ops  # noqa: F401

# isort: split
import lightning.pytorch as pl
import numpy as np
import pandas as pd

from groundglass.errors import GroundglassError
from groundglass.recipe.tasks import SegmentationRecipe
from groundglass.train.callbacks import EpochLog
from groundglass.train.loop import fit, keep_best, kept_weights, make_trainer, quieten
from groundglass.train.run import Run
from groundglass.train.segmentation.module import SegmenterModule
from groundglass.train.segmentation.slices import MaskedPart, case_codes, load_masked_part, make_masked_loader

LOGGED = ("train_loss", "val_loss", "val_lung_dice", "val_lesion_dice", "val_dice")
"""What a segmenter's log has of each epoch."""


def train_segmenter(
    recipe: SegmentationRecipe,
    manifest: pd.DataFrame,
    run: Run,
    *,
    resume_from: Path | None = None,
    show_progress: bool = False,
    tell: Callable[[str], None] = print,
) -> SegmenterModule:
    """Train by a recipe and keep the best epoch; parameters as of :func:`groundglass.train.loop.train_run`.

    Returns
    -------
    The module with the best epoch's weights.
    """
    quieten()
    plain = recipe.preprocessing.model_copy(update={"clahe": None})
    train = load_masked_part(manifest, "train", plain, show_progress=show_progress)
    validation = load_masked_part(manifest, "val", recipe.preprocessing, show_progress=show_progress)
    pl.seed_everything(recipe.seed, verbose=False)
    module = _new_segmenter(recipe, validation)
    trainer = make_trainer(
        recipe,
        recipe.training,
        run,
        [EpochLog(run.log_file, LOGGED, tell), *keep_best(run, recipe.training.best_by)],
        show_progress,
    )
    size = recipe.training.batch_size
    fit(
        trainer,
        module,
        make_masked_loader(train, size, seed=recipe.seed),
        make_masked_loader(validation, size),
        run,
        resume_from,
    )
    return best_segmenter(recipe, run)


def _new_segmenter(recipe: SegmentationRecipe, validation: MaskedPart) -> SegmenterModule:
    cases = case_codes(validation.rows)
    if recipe.training.start_from is None:
        return SegmenterModule(recipe, cases)
    earlier = Run(Path(recipe.training.start_from))
    first = earlier.recipe()
    if not isinstance(first, SegmentationRecipe):
        raise GroundglassError(f"{earlier.folder}: is no run of a segmenter to start from")
    module = SegmenterModule(_without_pretrained(recipe), cases)
    try:
        module.load_state_dict(kept_weights(earlier, first.training.best_by))
    except RuntimeError as error:
        raise GroundglassError(
            f"training.start_from {earlier.folder}: its network is another one: {error}"
        ) from error
    return module


def _without_pretrained(recipe: SegmentationRecipe) -> SegmentationRecipe:
    """The recipe for weights that come from a checkpoint, so that the pretrained ones need not be had."""
    return recipe.model_copy(update={"model": recipe.model.model_copy(update={"weights": "none"})})


def best_segmenter(recipe: SegmentationRecipe, run: Run) -> SegmenterModule:
    """The module with the weights of a run's best epoch; GroundglassError where the run has no checkpoint."""
    module = SegmenterModule(_without_pretrained(recipe), np.zeros(0, dtype=np.intp))
    module.load_state_dict(kept_weights(run, recipe.training.best_by))
    return module.eval()
