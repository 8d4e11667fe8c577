"""From a trained grounded detector to its bundle."""

import groundglass.train.torchvision_ops  # noqa: F401

# isort: split
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from groundglass.bundle.engine import Engine
from groundglass.bundle.facts import Choice
from groundglass.detect.bundle import Bundle
from groundglass.errors import GroundglassError
from groundglass.recipe.tasks import GroundedRecipe
from groundglass.train.export import VALIDATION, finish_bundle, kept_epoch, onnx_graph
from groundglass.train.grounded.module import GroundedModule
from groundglass.train.grounded.network import Grounded
from groundglass.train.loop import PartData
from groundglass.train.run import Run
from groundglass.train.segmentation.export import halve_weights

COMPONENTS = 32
"""Directions of the training slices' features in which a slice may lie far off."""
TYPICAL = 99.5
"""Percentile of the validation slices' distances from which a slice is unlike what was trained on."""


class _Answering(nn.Module):
    """The network as the bundle's graph has it: logits, evidence, and the distance from the training slices.

    The distance is the root mean square of the coordinates along the principal components of the training slices'
    features, each in its own standard deviation (Mahalanobis distance; Lee et al. 2018, arXiv 1807.03888).
    """

    def __init__(self, network: Grounded, mean: Tensor, axes: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", mean)
        self.register_buffer("axes", axes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        _, logits, evidence, features = self.network(images)
        coordinates = (features - self.get_buffer("mean")) @ self.get_buffer("axes")
        return logits, evidence, coordinates.square().mean(dim=1).sqrt()


def export_grounded(
    run: Run,
    recipe: GroundedRecipe,
    module: GroundedModule,
    manifest: pd.DataFrame,
    train: PartData,
    validation: PartData,
) -> Bundle:
    """Write the bundle of a run, and the run's predictions on its validation part; weights are kept in 16 bits.

    Raises
    ------
    GroundglassError
        As groundglass.train.export.finish_bundle.
    """
    preprocessing = recipe.preprocessing
    shape = (preprocessing.channels, *preprocessing.size)
    module.model.emphasise()
    _round_weights(module)
    mean, axes = _whitening(module.answers(train.grey)[2])
    answering = _Answering(module.model, torch.from_numpy(mean), torch.from_numpy(axes))
    graph = halve_weights(onnx_graph(answering, shape, ["logits", "evidence", "distance"]))
    inputs = (preprocessing.model_input(grey[None])[0] for grey in validation.grey)
    distances = [float(distance) for _, _, distance in Engine(graph, shape).run(inputs)]
    masks = run.facts()["masks"]
    furthest = float(np.percentile(distances, TYPICAL))
    chosen = (
        Choice(
            what="start",
            values={"segmenter": recipe.model.segmenter},
            criterion=f"lesions by {masks['slices']} slices with masks ({masks['cases']} cases)",
            data=masks["dataset"],
        ),
        kept_epoch(run, recipe.training.best_by),
        Choice(
            what="furthest distance",
            values={"distance": furthest},
            criterion=f"percentile {TYPICAL:g}",
            data=VALIDATION,
        ),
    )
    expected = module.answers(validation.grey)[0]
    precision = recipe.deploy_precision
    return finish_bundle(
        run, recipe, graph, expected, manifest, validation, chosen, furthest=furthest, precision=precision
    )


def _round_weights(module: GroundedModule) -> None:
    """Round the weights as the graph will hold them, so that torch and the graph can be compared closely."""
    with torch.no_grad():
        for weights in module.model.parameters():
            rounded = weights.half().float()
            if torch.isfinite(rounded).all():
                weights.copy_(rounded)


def _whitening(features: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The mean of features, shape (slices, features), and their principal axes over their deviations.

    Raises
    ------
    GroundglassError
        If there are too few slices.
    """
    count = min(COMPONENTS, len(features) - 1, features.shape[1])
    if count < 1:
        raise GroundglassError(f"the train part has {len(features)} slices; at least 2 are needed")
    mean = features.mean(axis=0)
    _, deviations, axes = np.linalg.svd(features - mean, full_matrices=False)
    scale = np.maximum(deviations[:count] / np.sqrt(len(features) - 1), 1e-6)
    return mean, (axes[:count].T / scale).astype(np.float32)
