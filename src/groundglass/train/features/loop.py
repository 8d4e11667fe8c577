"""The training of a detector from deep features: from a recipe and a manifest to the best classifier."""

import time
from collections.abc import Callable
from typing import Any

import joblib  # type: ignore[import-untyped]
import pandas as pd
from sklearn.metrics import roc_auc_score
from torch import nn

from groundglass.data.splits import groups
from groundglass.errors import GroundglassError
from groundglass.files import replacing, write_text
from groundglass.recipe.tasks import FeaturesRecipe
from groundglass.train.features.classifiers import Tuned, classifier_logits, tune
from groundglass.train.features.features import frozen_backbone, pooled
from groundglass.train.loop import load_part
from groundglass.train.run import Run

CHECKPOINT = "classifier.joblib"


def train_features(
    recipe: FeaturesRecipe,
    manifest: pd.DataFrame,
    run: Run,
    *,
    show_progress: bool = False,
    tell: Callable[[str], None] = print,
) -> tuple[Tuned, nn.Module]:
    """Tune the classifiers of a recipe and keep the one that does best in cross-validation.

    The validation part takes no part in that; ``classifiers.csv`` in the run's folder has each classifier's area
    under the ROC curve there too, for information.

    Parameters
    ----------
    recipe
        The recipe.
    manifest
        Labelled slices with their split, as groundglass.data gives them.
    run
        The run's folder, which has been started.
    show_progress
        Draw progress bars.
    tell
        Receives one line of text a classifier.

    Returns
    -------
    The classifier and the network whose features it takes.

    Raises
    ------
    GroundglassError
        If the network cannot be had, or there are too few patients for the folds.
    """
    train = load_part(manifest, "train", recipe, show_progress=show_progress)
    validation = load_part(manifest, "val", recipe, show_progress=show_progress)
    started = time.monotonic()
    backbone = frozen_backbone(recipe.model, recipe.preprocessing, recipe.seed)
    seen, judged = (
        pooled(backbone, part.grey, recipe.preprocessing, show_progress=show_progress)
        for part in (train, validation)
    )
    patients = groups(train.rows)
    candidates, lines = [], []
    for name in recipe.classifiers:
        tuned = tune(name, seen, train.truth, patients, recipe.folds, recipe.seed)
        tell(
            f"{name:<10}  cross-validated AUC {tuned.cv_auc:.3f} ({tuned.cv_auc_std:.3f})  {tuned.described}"
        )
        candidates.append(tuned)
        lines.append(_line(tuned, roc_auc_score(validation.truth, classifier_logits(tuned, judged))))
    write_text(run.folder / "classifiers.csv", pd.DataFrame(lines).to_csv(index=False))
    best = max(candidates, key=lambda tuned: tuned.cv_auc)
    _save(run, best, backbone)
    run.update(
        state="trained",
        seconds=round(time.monotonic() - started, 1),
        classifier=best.name,
        classifier_parameters=best.parameters,
    )
    return best, backbone


def _line(tuned: Tuned, validation_auc: float) -> dict[str, Any]:
    return {
        "name": tuned.name,
        "parameters": tuned.described,
        "cv_auc": tuned.cv_auc,
        "cv_auc_std": tuned.cv_auc_std,
        "val_auc": validation_auc,
    }


def _save(run: Run, tuned: Tuned, backbone: nn.Module) -> None:
    """Keep all that an export needs; the network's weights too, so that they need not be had again."""
    with replacing(run.checkpoints / CHECKPOINT, "wb") as handle:
        joblib.dump((tuned, backbone.state_dict()), handle)


def best_classifier(recipe: FeaturesRecipe, run: Run) -> tuple[Tuned, nn.Module]:
    """The classifier that a run keeps, and the network whose features it takes.

    Raises
    ------
    GroundglassError
        If the run has none.
    """
    path = run.checkpoints / CHECKPOINT
    if not path.exists():
        raise GroundglassError(f"{run.folder}: has no classifier; train it first")
    tuned, weights = joblib.load(path)
    bare = recipe.model.model_copy(update={"weights": "none"})
    backbone = frozen_backbone(bare, recipe.preprocessing, recipe.seed)
    backbone.load_state_dict(weights)
    return tuned, backbone
