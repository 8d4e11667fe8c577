"""Deep features: a frozen network computes features of a slice, and a scikit-learn classifier answers."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib  # type: ignore[import-untyped]
import numpy as np
import onnxruntime
import pandas as pd
import torch
from numpy.typing import NDArray
from rich.progress import track
from sklearn.metrics import roc_auc_score
from torch import nn

from groundglass.bundle.facts import Choice
from groundglass.data.splits import groups
from groundglass.errors import GroundglassError
from groundglass.files import replacing, write_text
from groundglass.preprocess import Preprocessing
from groundglass.recipe.recipe import Model
from groundglass.recipe.tasks import FeatureModel, FeaturesRecipe
from groundglass.report.page import Table
from groundglass.train.classifiers import Tuned, classifier_logits, tune
from groundglass.train.export import TOLERANCE, DetectorGraph, check_difference, relative_difference
from groundglass.train.features_graph import features_graph, vectors_graph
from groundglass.train.models import build_model, feature_shape
from groundglass.train.module import BATCH, model_images
from groundglass.train.run import Run
from groundglass.train.slices import PartData
from groundglass.train.task import BackboneTask

CHECKPOINT = "classifier.joblib"
TABLE = "classifiers.csv"


class FeaturesTask(BackboneTask[FeaturesRecipe]):
    """Tunes the classifiers of a recipe and keeps the best one in cross-validation.

    The validation set is not used for this; ``classifiers.csv`` in the run's folder also lists each
    classifier's area under the ROC curve on it, for information.
    """

    def train(
        self, run: Run, *, resume_from: Path | None = None, tell: Callable[[str], None] = print
    ) -> None:
        """Compute the features and tune the classifiers; ``tell`` receives one line of text per classifier.

        Raises
        ------
        GroundglassError
            If the network is not available, or there are too few patients for the folds.
        """
        recipe = self.recipe
        train, validation = self.part(run, "train"), self.part(run, "val")
        started = time.monotonic()
        backbone = frozen_backbone(recipe.model, recipe.preprocessing, recipe.seed)
        seen, held_out = (
            pooled(backbone, part.grey, recipe.preprocessing, show_progress=self.show_progress)
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
            lines.append(_line(tuned, roc_auc_score(validation.truth, classifier_logits(tuned, held_out))))
        write_text(run.folder / TABLE, pd.DataFrame(lines).to_csv(index=False))
        best = max(candidates, key=lambda tuned: tuned.cv_auc)
        # The network's weights are stored too, so that an export does not need to load them again.
        with replacing(run.checkpoints / CHECKPOINT, "wb") as handle:
            joblib.dump((best, backbone.state_dict()), handle)
        run.update(
            state="trained",
            seconds=round(time.monotonic() - started, 1),
            classifier=best.name,
            classifier_parameters=best.parameters,
        )

    def kept(self, run: Run) -> tuple[Tuned, nn.Module]:
        """The best classifier and the network whose features it uses; GroundglassError if there is none."""
        path = run.checkpoints / CHECKPOINT
        if not path.exists():
            raise GroundglassError(f"{run.folder}: has no classifier; train it first")
        tuned, weights = joblib.load(path)
        bare = self.recipe.model.model_copy(update={"weights": "none"})
        backbone = frozen_backbone(bare, self.recipe.preprocessing, self.recipe.seed)
        backbone.load_state_dict(weights)
        return tuned, backbone

    def graph(self, run: Run, validation: PartData) -> DetectorGraph:
        """The graph of network and classifier; GroundglassError if its features differ from torch's.

        A vote of a tree or a neighbour can depend on the last digit of a feature, so logits computed from
        torch's features cannot verify the graph. Logits that scikit-learn computes from the graph's own
        features can.
        """
        tuned, backbone = self.kept(run)
        preprocessing = self.recipe.preprocessing
        shape = (preprocessing.channels, *preprocessing.size)
        network = vectors_graph(backbone, shape)
        features = _graph_features(network, preprocessing, validation.grey)
        difference = relative_difference(features, pooled(backbone, validation.grey, preprocessing))
        check_difference(run, difference, TOLERANCE, "features")
        graph = features_graph(network, tuned, feature_shape(backbone, shape))
        return DetectorGraph(graph, classifier_logits(tuned, features), (self._chosen(tuned),))

    def _chosen(self, tuned: Tuned) -> Choice:
        others = ", ".join(name for name in self.recipe.classifiers if name != tuned.name)
        beside = f", compared with {others}" if others else ""
        return Choice(
            what="classifier",
            values={"name": f"{tuned.name} ({tuned.described})", "ROC AUC": tuned.cv_auc},
            criterion=f"the best ROC AUC in {self.recipe.folds}-fold cross-validation by patient{beside}",
            data="the training set",
        )

    def headline(self, run: Run) -> str:
        """The first sentence of the run's report."""
        return f"The classifier is {run.facts()['classifier']}, the best in cross-validation."

    def tables(self, run: Run) -> list[Table]:
        """The classifiers that were tried."""
        rows = [
            (
                str(row.name),
                str(row.parameters),
                f"{row.cv_auc:.3f} ({row.cv_auc_std:.3f})",
                f"{row.val_auc:.3f}",
            )
            for row in pd.read_csv(run.folder / TABLE).itertuples(index=False)
        ]
        header = ("classifier", "parameters", "AUC in cross-validation (deviation)", "validation AUC")
        note = "Parameters and classifier were chosen by cross-validation by patient on the training set."
        return [Table("The classifiers", header, rows, note)]


def _line(tuned: Tuned, validation_auc: float) -> dict[str, Any]:
    return {
        "name": tuned.name,
        "parameters": tuned.described,
        "cv_auc": tuned.cv_auc,
        "cv_auc_std": tuned.cv_auc_std,
        "val_auc": validation_auc,
    }


def _graph_features(
    network: bytes, preprocessing: Preprocessing, grey8: NDArray[np.uint8]
) -> NDArray[np.float32]:
    """Mean features of slices by the exported network, in the runtime that the bundle's graph needs."""
    session = onnxruntime.InferenceSession(network, providers=["CPUExecutionProvider"])
    inputs = (preprocessing.model_input(one[None]) for one in grey8)
    return np.stack([session.run(None, {"images": one})[0][0] for one in inputs])


def frozen_backbone(spec: FeatureModel, preprocessing: Preprocessing, seed: int) -> nn.Module:
    """The network whose features are classified, in eval mode.

    Parameters
    ----------
    spec
        The network and its weights; ``none`` draws them from the seed.
    preprocessing
        Gives the channels and size of its input.
    seed
        Seed of random weights.

    Raises
    ------
    GroundglassError
        If there is no such network, it has no feature map, or its weights are not available.
    """
    torch.manual_seed(seed)
    network = Model(name=spec.name, weights=spec.weights)
    return build_model(network, preprocessing.channels, preprocessing.size).backbone.eval()


@torch.no_grad()
def pooled(
    backbone: nn.Module,
    grey8: NDArray[np.uint8],
    preprocessing: Preprocessing,
    *,
    show_progress: bool = False,
) -> NDArray[np.float32]:
    """Features of slices: the mean of the feature map over its locations.

    Parameters
    ----------
    backbone
        Maps images to a feature map (batch, features, rows, columns).
    grey8
        The cached slices, shape (slices, height, width).
    preprocessing
        Turns them into model input.
    show_progress
        Draw a progress bar.

    Returns
    -------
    Shape (slices, features).
    """
    backbone.eval()
    batches = torch.from_numpy(grey8).split(BATCH)
    steps = track(batches, "Computing features", disable=not show_progress, transient=True)
    maps = (backbone(model_images(batch.to(torch.float32) / 255, preprocessing)) for batch in steps)
    return torch.cat([features.mean(dim=(2, 3)) for features in maps]).numpy()
