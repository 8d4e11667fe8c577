"""The network of a grounded detector: it marks lesions, and scores what it marks."""

import math

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
from groundglass.train.losses import lungs_and_lesions
from groundglass.train.segmentation_models import build_segmentation_model

STRIDE = 8
"""Input pixels per scored location."""
JUDGED = 1
"""The decoder block whose output has that stride."""
OPEN = 0.017
"""Lesion share at which the answer is undecided before training."""
SPREAD = 0.003
"""Share of the lungs that is added to the weight of all lesions: smaller ones have less influence."""


class Grounded(nn.Module):
    """A U-Net for lungs and lesions, and a head that scores only the lesions.

    Parameters
    ----------
    unet
        Maps images to logits of lungs and lesions, or of lungs and lesion types, at the images' size.
    spec
        The recipe's model part.

    The lesion probability weights the locations in :meth:`forward` but gets no gradient from the answer: only
    masks define what a lesion is.
    """

    def __init__(self, unet: nn.Module, spec: GroundedModel) -> None:
        super().__init__()
        self.unet = unet
        self.spec = spec
        encoder_width, decoder_width = _widths(unet)
        self.judge = nn.Sequential(
            nn.Conv2d(encoder_width + decoder_width, spec.hidden, 1),
            nn.ReLU(),
            nn.Dropout2d(spec.dropout),
            nn.Conv2d(spec.hidden, 1, 1),
        )
        nn.init.zeros_(self.judge[-1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.judge[-1].bias)  # type: ignore[arg-type]
        # Otherwise training would spend its first epochs moving the bias to where the answer is undecided.
        self.bias = nn.Parameter(torch.tensor(-spec.presence * math.log1p(OPEN / spec.faint)))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Score images.

        Returns
        -------
        Logits of lungs and lesions, shape (batch, 2, height, width); the logit of COVID-19, (batch,); the evidence,
        (batch, height / 8, width / 8), whose sum and the bias are that logit; and the mean features of the lungs,
        (batch, features).
        """
        masks, features = self._marked(images)
        probability = torch.sigmoid(masks.float()).detach()
        lungs, lesions = F.avg_pool2d(probability, STRIDE).unbind(1)
        spec = self.spec
        area = lungs.sum(dim=(1, 2)) + 1e-3
        weight = lesions.sum(dim=(1, 2))
        looks = spec.bound * torch.tanh(self.judge(features).float()[:, 0] / spec.bound)
        presence = spec.presence * torch.log1p(weight / area / spec.faint)
        judged = lesions / (weight + SPREAD * area)[:, None, None] * looks
        present = lesions * (presence / (weight + 1e-6))[:, None, None]
        evidence = judged + present
        answer = self.bias + evidence.sum(dim=(1, 2))
        pooled = (features.float() * (lungs / area[:, None, None])[:, None]).sum(dim=(2, 3))
        return masks, answer, evidence, pooled

    def emphasise(self) -> None:
        """Multiply the weight of the lesion share by the recipe's factor, after training."""
        spec = self.spec
        more = spec.presence * (spec.emphasis - 1)
        with torch.no_grad():
            self.bias.sub_(more * math.log1p(OPEN / spec.faint))
        self.spec = spec.model_copy(update={"presence": spec.presence + more, "emphasis": 1.0})

    def marked(self, images: Tensor) -> Tensor:
        """Only the logits of lungs and lesions."""
        return self._marked(images)[0]

    def _marked(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the masks, and the features of encoder and decoder at stride 8."""
        unet = self.unet
        features = unet.encoder(images)  # type: ignore[operator]
        deepest, *skips = features[1:][::-1]
        decoded, judged = deepest, deepest
        for number, block in enumerate(unet.decoder.blocks):  # type: ignore[union-attr, arg-type]
            height, width = (side // 2 ** (len(skips) - number) for side in images.shape[2:])
            decoded = block(decoded, height, width, skips[number] if number < len(skips) else None)
            if number == JUDGED:
                judged = decoded
        context = F.interpolate(features[-2], scale_factor=2.0, mode="bilinear")
        masks = lungs_and_lesions(unet.segmentation_head(decoded))  # type: ignore[operator]
        return masks, torch.cat([judged, context], dim=1)


def _widths(unet: nn.Module) -> tuple[int, int]:
    """Number of features of the encoder's penultimate stage, and of the decoder block that is scored."""
    decoder = unet.decoder
    convolution = decoder.blocks[JUDGED].conv2[0]  # type: ignore[union-attr, index]
    return int(unet.encoder.out_channels[-2]), int(convolution.out_channels)  # type: ignore[union-attr, index]


def grounded_network(spec: GroundedModel, channels: int, *, start: bool = True) -> Grounded:
    """The network of a recipe.

    Parameters
    ----------
    spec
        The recipe's model part.
    channels
        Of the input.
    start
        Start from the segmenter's weights; otherwise a checkpoint provides them.

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
            "preprocessing.channels so"
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
        if start:
            convolution.weight.data.copy_(torch.from_numpy(kernel))
            convolution.bias.data.copy_(torch.from_numpy(bias))
    return Grounded(unet, spec).train()


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


def frozen_parameters(network: Grounded) -> list[nn.Parameter]:
    """The parameters of the encoder's stem and first stages, which keep the segmenter's values."""
    names = ["conv_stem.", *(f"blocks.{stage}." for stage in range(network.spec.frozen))]
    encoder = network.unet.encoder.model  # type: ignore[union-attr]
    parameters = encoder.named_parameters()  # type: ignore[union-attr]
    return [one for name, one in parameters if network.spec.frozen and name.startswith(tuple(names))]
