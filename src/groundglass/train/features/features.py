"""Deep features: what a frozen network makes of a slice, averaged over the places of its feature map."""

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import nn

from groundglass.preprocess import Preprocessing
from groundglass.recipe.recipe import Model
from groundglass.recipe.tasks import FeatureModel
from groundglass.train.models import build_model
from groundglass.train.module import model_images

BATCH = 16


def frozen_backbone(spec: FeatureModel, preprocessing: Preprocessing, seed: int) -> nn.Module:
    """The network whose features are classified, in eval mode.

    Parameters
    ----------
    spec
        Which one, and its weights; with ``none`` they are drawn from the seed.
    preprocessing
        Gives the channels and the size of its input.
    seed
        Of the weights.

    Raises
    ------
    GroundglassError
        If there is no such network, it has no feature map, or its weights cannot be had.
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
    """Features of slices: the mean of the feature map over its places.

    Parameters
    ----------
    backbone
        From images to a feature map (batch, features, rows, columns).
    grey8
        The cached slices, shape (slices, height, width).
    preprocessing
        What makes model input of them.
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
