"""The network of a grounded detector: a segmenter marks lesions, and a linear head scores them."""

import groundglass.train.torchvision_ops  # noqa: F401

# isort: split
import numpy as np
import onnx
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn

from groundglass.errors import GroundglassError
from groundglass.recipe.recipe import parse_recipe
from groundglass.recipe.tasks import GroundedModel, SegmentationRecipe
from groundglass.segment.segmenter import SegmenterBundle
from groundglass.train.losses import mask_probabilities
from groundglass.train.segmentation_models import build_segmentation_model

STRIDE = 8
"""Input pixels per scored location."""
STRIDES = (4, 8, 16, 32)
"""Input pixels per location of the encoder's stages that are scored."""
FAINT = 0.001
"""Lesion share of the lungs above which its term in the logit grows with the logarithm of the share."""
SPREAD = 0.003
"""Share of the lungs that is added to the area of the lesions, so that small lesions have less influence."""
LEAST = 1e-3
"""Area, in locations, that prevents a division by zero for pictures without lungs or lesions."""


class Grounded(nn.Module):
    """A U-Net for lungs and lesions, which is not trained further, and a linear head that scores only the lesions.

    Parameters
    ----------
    unet
        Maps images to logits of lungs and lesions, or of lungs and lesion types, at the images' size.

    With the lesion probability p and the encoder's features f of each location, and the lungs' area A::

        logit = bias + presence * log(1 + sum(p) / A / FAINT) + sum(p * (judge(f))) / (sum(p) + SPREAD * A)

    This is linear in the values of :meth:`summary`, so the head is fitted by logistic regression.
    """

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet
        self.judge = nn.Conv2d(sum(unet.encoder.out_channels[-len(STRIDES) :]), 1, 1)  # type: ignore[union-attr, index]
        self.presence = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(()))
        self.requires_grad_(False)

    @torch.no_grad()
    def set_head(self, weights: NDArray[np.float64], intercept: float) -> None:
        """Set the weights of the values of :meth:`summary`, shape (features + 2,), and the intercept."""
        head = torch.from_numpy(weights).float()
        self.judge.weight.copy_(head[:-2].view_as(self.judge.weight))
        self.judge.bias.fill_(head[-2])  # type: ignore[union-attr]
        self.presence.fill_(head[-1])
        self.bias.fill_(intercept)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Score images.

        Returns
        -------
        The logit of COVID-19, shape (batch,), and the evidence, (batch, height / 8, width / 8), whose sum and the
        bias are that logit.
        """
        lungs, lesions, features = self.marked(images)
        area, weight = lungs.sum(dim=(1, 2)) + LEAST, lesions.sum(dim=(1, 2))
        presence = self.presence * torch.log1p(weight / area / FAINT)
        looks = self.judge(features)[:, 0] / (weight + SPREAD * area)[:, None, None]
        evidence = lesions * (looks + (presence / (weight + LEAST))[:, None, None])
        return self.bias + evidence.sum(dim=(1, 2)), evidence

    def summary(self, images: Tensor) -> Tensor:
        """The inputs of the linear head, shape (batch, features + 2).

        The mean features of the lesions, with the share SPREAD of the lungs added to the lesions' area; their area
        divided by that sum; and the logarithm of their share of the lungs.
        """
        lungs, lesions, features = self.marked(images)
        area, weight = lungs.sum(dim=(1, 2)) + LEAST, lesions.sum(dim=(1, 2))
        spread = (weight + SPREAD * area)[:, None]
        looks = (features * lesions[:, None]).sum(dim=(2, 3)) / spread
        share = torch.log1p(weight / area / FAINT) * weight / (weight + LEAST)
        return torch.cat([looks, weight[:, None] / spread, share[:, None]], dim=1)

    def marked(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Probabilities of lungs and of lesions, shape (batch, height / 8, width / 8), and the encoder's features
        there, (batch, features, height / 8, width / 8)."""
        unet = self.unet
        stages = unet.encoder(images)  # type: ignore[operator]
        masks = unet.segmentation_head(unet.decoder(stages))  # type: ignore[operator]
        chance = F.avg_pool2d(mask_probabilities(masks.float()), STRIDE)
        lungs, lesions = chance[:, 0], chance[:, 1:].sum(dim=1)
        finer, *coarser = (stage.float() for stage in stages[-len(STRIDES) :])
        place = [
            F.interpolate(one, scale_factor=stride / STRIDE)
            for one, stride in zip(coarser, STRIDES[1:], strict=True)
        ]
        return lungs, lesions * lungs, torch.cat([F.avg_pool2d(finer, STRIDE // STRIDES[0]), *place], dim=1)


def grounded_network(spec: GroundedModel, channels: int) -> Grounded:
    """The network of a recipe, with the segmenter's weights and a head of zeros.

    Parameters
    ----------
    spec
        The recipe's model part.
    channels
        Number of channels of the input.

    Raises
    ------
    GroundglassError
        If the segmenter is not available, or is not a U-Net for this number of channels.
    """
    bundle = SegmenterBundle.load(spec.segmenter)
    recipe = parse_recipe(bundle.recipe, origin=f"the recipe of {spec.segmenter}")
    if not isinstance(recipe, SegmentationRecipe) or recipe.model.name != "unet":
        raise GroundglassError(f"model.segmenter {spec.segmenter}: is not a U-Net to start from")
    if recipe.preprocessing.channels != channels:
        raise GroundglassError(
            f"model.segmenter {spec.segmenter}: takes {recipe.preprocessing.channels} channels; set "
            "preprocessing.channels to the same number"
        )
    bare = recipe.model.model_copy(update={"weights": "none"})
    unet = build_segmentation_model(bare, channels).eval()
    convolutions = _convolutions(unet, channels)
    _fold_norms(unet)
    weights = _folded_weights(bundle.graph)
    if len(weights) != len(convolutions):
        raise GroundglassError(f"model.segmenter {spec.segmenter}: its graph does not fit its recipe")
    for convolution, (kernel, bias) in zip(convolutions, weights, strict=True):
        if convolution.bias is None:
            convolution.bias = nn.Parameter(torch.zeros(convolution.out_channels))
        convolution.weight.data.copy_(torch.from_numpy(kernel))
        convolution.bias.data.copy_(torch.from_numpy(bias))
    return Grounded(unet).eval()


def _convolutions(unet: nn.Module, channels: int) -> list[nn.Conv2d]:
    """The convolutions in the order of computation, which is that of an exported graph's nodes."""
    order: list[nn.Conv2d] = []
    hooks = [
        module.register_forward_hook(lambda module, *_: order.append(module))
        for module in unet.modules()
        if isinstance(module, nn.Conv2d)
    ]
    with torch.no_grad():
        unet(torch.zeros(1, channels, 64, 64))
    for hook in hooks:
        hook.remove()
    return order


def _fold_norms(parent: nn.Module) -> None:
    """Replace each batch norm by its activation: an exported graph folds the norm into the convolution."""
    for name, child in parent.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(parent, name, getattr(child, "act", nn.Identity()))
        else:
            _fold_norms(child)


def _folded_weights(graph: bytes) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Kernel and bias of each convolution of a graph, in the order of its nodes."""
    content = onnx.load_from_string(graph).graph
    constants = {one.name: numpy_helper.to_array(one).astype(np.float32) for one in content.initializer}
    for node in content.node:
        if node.op_type == "Cast" and node.input[0] in constants:
            constants[node.output[0]] = constants[node.input[0]]
    found = []
    for node in content.node:
        if node.op_type == "Conv":
            kernel = constants[node.input[1]]
            bias = constants[node.input[2]] if len(node.input) > 2 else np.zeros(len(kernel), np.float32)
            found.append((kernel, bias))
    return found
