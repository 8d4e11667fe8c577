"""Lesions: a detector whose only evidence is the lesions that a segmenter marks, scored by logistic regression."""

import time
from collections.abc import Callable
from pathlib import Path

import groundglass.train.torchvision_ops  # noqa: F401

# isort: split
import joblib  # type: ignore[import-untyped]
import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from groundglass.bundle.engine import Precision
from groundglass.bundle.facts import Choice
from groundglass.errors import GroundglassError
from groundglass.evaluation.calibration import balanced_weights
from groundglass.files import replacing
from groundglass.recipe.tasks import GroundedRecipe
from groundglass.segment.segmenter import SegmenterBundle
from groundglass.train.export import DetectorGraph, halve_weights, onnx_graph, run_graph
from groundglass.train.lesion_model import Grounded, grounded_network
from groundglass.train.run import Run
from groundglass.train.slices import PartData
from groundglass.train.task import DetectorTask

CHECKPOINT = "head.joblib"
FREE = 30.0
"""The lesions' share and area are scaled up by this, so that the penalty hardly affects their weights."""
Head = tuple[NDArray[np.float64], float]
"""The weights of the values of Grounded.summary, and the intercept."""


class LesionsTask(DetectorTask[GroundedRecipe]):
    """Fits the head of a lesion detector."""

    def check_ready(self) -> None:
        """Raise GroundglassError if the segmenter, or that of the preprocessing, is not available."""
        super().check_ready()
        SegmenterBundle.load(self.recipe.model.segmenter)

    def train(
        self, run: Run, *, resume_from: Path | None = None, tell: Callable[[str], None] = print
    ) -> None:
        """Compute the lesions' features and fit the head; ``tell`` receives one line of text."""
        started, recipe = time.monotonic(), self.recipe
        train, validation = self.part(run, "train"), self.part(run, "val")
        network = self._network()
        head = fit_head(
            self._summaries(network, train.grey), train.truth, balanced(train), recipe.model.strength
        )
        auc = roc_auc_score(validation.truth, self._logits(network, head, validation.grey))
        with replacing(run.checkpoints / CHECKPOINT, "wb") as handle:
            joblib.dump(head, handle)
        tell(f"{len(train.rows)} slices; AUC on the validation set {auc:.3f}")
        run.update(state="trained", seconds=round(time.monotonic() - started, 1))

    def kept(self, run: Run) -> Head:
        """The fitted head; GroundglassError if there is none."""
        path = run.checkpoints / CHECKPOINT
        if not path.exists():
            raise GroundglassError(f"{run.folder}: has no fitted head; train it first")
        head: Head = joblib.load(path)
        return head

    def graph(self, run: Run, validation: PartData) -> DetectorGraph:
        """The graph of the network, with weights in 16 bits."""
        recipe, head, network = self.recipe, self.kept(run), self._network()
        preprocessing = recipe.preprocessing
        for weights in network.parameters():
            weights.copy_(_rounded(weights))
        expected = self._logits(network, head, validation.grey, "f32")
        network.set_head(*head)
        shape = (preprocessing.channels, *preprocessing.size)
        graph = halve_weights(onnx_graph(network, shape, ["logits", "evidence"]))
        chosen = (
            Choice(
                what="start", values={"segmenter": recipe.model.segmenter}, criterion="not trained further"
            ),
            Choice(
                what="head",
                values={"strength": recipe.model.strength},
                criterion="logistic regression, equal weight for both classes, and for the sources within a class",
                data="the training set",
            ),
        )
        return DetectorGraph(graph, expected, chosen, precision=recipe.deploy_precision)

    def headline(self, run: Run) -> str:
        """The first sentence of the run's report."""
        return f"A linear head on the lesions that {self.recipe.model.segmenter} marks."

    def _network(self) -> Grounded:
        return grounded_network(self.recipe.model, self.recipe.preprocessing.channels)

    def _logits(
        self, network: Grounded, head: Head, grey8: NDArray[np.uint8], precision: Precision | None = None
    ) -> NDArray[np.float64]:
        weights, intercept = head
        return np.asarray(self._summaries(network, grey8, precision) @ weights + intercept)

    def _summaries(
        self, network: Grounded, grey8: NDArray[np.uint8], precision: Precision | None = None
    ) -> NDArray[np.float32]:
        """The values of Grounded.summary, shape (slices, features + 2).

        The engine that users run computes them, which is several times as fast as torch.
        """
        preprocessing = self.recipe.preprocessing
        shape = (preprocessing.channels, *preprocessing.size)
        graph = onnx_graph(_Summary(network), shape, ["summary"])
        found = run_graph(graph, preprocessing, grey8, precision or self.recipe.deploy_precision)
        shown = track(found, "Describing lesions", len(grey8), disable=not self.show_progress, transient=True)
        return np.stack([summary for (summary,) in shown])


class _Summary(nn.Module):
    """A network whose output is the inputs of the linear head."""

    def __init__(self, network: Grounded) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network.summary(images)


def balanced(part: PartData) -> NDArray[np.float64]:
    """Weights of the slices, 1 on average: both classes, and the sources within a class, count equally."""
    weights = balanced_weights(part.rows["source"], part.truth)
    return np.asarray(weights * len(weights) / weights.sum())


def fit_head(
    summaries: NDArray[np.float32],
    truth: NDArray[np.bool_],
    weights: NDArray[np.float64],
    strength: float,
) -> Head:
    """Logistic regression on the values of Grounded.summary.

    Parameters
    ----------
    summaries
        Shape (slices, features + 2).
    truth
        Whether a slice is COVID-19, shape (slices,).
    weights
        The weight of each slice, shape (slices,).
    strength
        The inverse of the penalty, which is applied to the features after their deviation over the lesions is
        scaled to 1.
    """
    looks, area, share = np.split(summaries.astype(np.float64), [-2, -1], axis=1)
    total = float(weights @ area[:, 0])
    mean = weights @ looks / total
    # Divided by the area, a slice's features become the mean over its lesions.
    deviations = looks / np.maximum(area, 1e-6) - mean
    scale = np.sqrt((weights * area[:, 0]) @ deviations**2 / total) + 1e-3
    figures = np.concatenate([(looks - area * mean) / scale, FREE * area, FREE * share / 5], axis=1)
    model = LogisticRegression(C=strength, solver="newton-cholesky").fit(
        figures, truth, sample_weight=weights
    )
    found = model.coef_[0]
    per_feature = found[:-2] / scale
    constant = FREE * found[-2] - float(per_feature @ mean)
    return np.array([*per_feature, constant, FREE * found[-1] / 5]), float(model.intercept_[0])


def _rounded(weights: torch.Tensor) -> torch.Tensor:
    """Weights as stored in the graph, so that torch and the graph can be compared closely."""
    rounded = weights.half().float()
    return rounded if torch.isfinite(rounded).all() else weights
