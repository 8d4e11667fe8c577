"""Models: a registry of networks that all split into a feature map and a head.

The split is what lets every model show its evidence: how much each place of the feature map adds to the logit,
computed in the forward direction, so that it becomes an output of the ONNX graph. For global average pooling
and one linear layer this is the class activation map (Zhou et al. 2016, arXiv 1512.04150); for a dense layer
between them it is HiResCAM (Draelos and Carin 2020, arXiv 2011.08891), gradient times feature, which for these
heads has a closed form.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from groundglass.errors import GroundglassError
from groundglass.train.recipe import Model

Builder = Callable[[Model, int], nn.Module]
_BUILDERS: dict[str, Builder] = {}
WEIGHTS_VARIABLE = "GROUNDGLASS_WEIGHTS"


def register(name: str) -> Callable[[Builder], Builder]:
    """Enter a function that builds a backbone under ``name``.

    The function takes the recipe's model part and the number of input channels, and returns a module from images
    to a feature map (batch, features, rows, columns).
    """

    def enter(builder: Builder) -> Builder:
        _BUILDERS[name] = builder
        return builder

    return enter


class Head(Protocol):
    """From a feature map to one logit, and to the evidence for it."""

    def __call__(self, features: Tensor) -> Tensor:
        """Logits, shape (batch,)."""

    def evidence(self, features: Tensor) -> Tensor:
        """What each place adds to the logit, shape (batch, rows, columns)."""


class PoolHead(nn.Module):
    """Global average pooling, dropout and one linear layer."""

    def __init__(self, features: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(features, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Logits, shape (batch,)."""
        return self.linear(self.dropout(features.mean(dim=(2, 3)))).squeeze(1)

    def evidence(self, features: Tensor) -> Tensor:
        """Class activation map: its sum over all places plus the bias is the logit."""
        rows, columns = features.shape[2:]
        return torch.einsum("nfrc,f->nrc", features, self.linear.weight[0]) / (rows * columns)


class DenseHead(nn.Module):
    """Flattening, a dense layer with ReLU, dropout and one linear layer."""

    def __init__(self, features: tuple[int, int, int], hidden: int, dropout: float) -> None:
        super().__init__()
        self.shape = features
        self.dense = nn.Linear(features[0] * features[1] * features[2], hidden)
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(hidden, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Logits, shape (batch,)."""
        return self.linear(self.dropout(torch.relu(self.dense(features.flatten(1))))).squeeze(1)

    def evidence(self, features: Tensor) -> Tensor:
        """HiResCAM: the gradient of the logit by each feature, times the feature, summed over features."""
        active = (self.dense(features.flatten(1)) > 0).to(features.dtype)
        gradient = (active * self.linear.weight[0]) @ self.dense.weight
        return (gradient.unflatten(1, self.shape) * features).sum(dim=1)


class Classifier(nn.Module):
    """A backbone and a head; the output is the logit of the positive class."""

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        """Logits, shape (batch,), of images of shape (batch, channels, height, width)."""
        return self.head(self.backbone(images))

    def explain(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, shape (batch,), and evidence, shape (batch, rows, columns)."""
        features = self.backbone(images)
        head = cast(Head, self.head)
        return head(features), head.evidence(features)


def build_model(spec: Model, channels: int, size: tuple[int, int]) -> Classifier:
    """Build the network of a recipe.

    Parameters
    ----------
    spec
        The recipe's model part.
    channels, size
        Channels, and height and width in pixels, of the input.

    Raises
    ------
    GroundglassError
        If the name is unknown, the input is too small for the network, or weights cannot be had.
    """
    family = "timm" if spec.name.startswith("timm/") else spec.name
    if family not in _BUILDERS:
        known = ", ".join(sorted(set(_BUILDERS) - {"timm"}))
        raise GroundglassError(f"model.name {spec.name}: unknown; there are {known} and timm/NAME")
    backbone = _BUILDERS[family](spec, channels)
    shape = _feature_shape(spec.name, backbone, channels, size)
    if spec.hidden is not None:
        return Classifier(backbone, DenseHead(shape, spec.hidden, spec.dropout))
    return Classifier(backbone, PoolHead(shape[0], spec.dropout))


def _feature_shape(
    name: str, backbone: nn.Module, channels: int, size: tuple[int, int]
) -> tuple[int, int, int]:
    training = backbone.training
    try:
        with torch.no_grad():
            features = backbone.eval()(torch.zeros(1, channels, *size))
    except RuntimeError as error:
        raise GroundglassError(f"model.name {name}: cannot take an input of {size}: {error}") from error
    finally:
        backbone.train(training)
    if features.ndim != 4 or 0 in features.shape:
        raise GroundglassError(
            f"model.name {name}: gives no feature map (batch, features, rows, columns) for an input of {size}; "
            "choose a convolutional backbone or a larger input"
        )
    return int(features.shape[1]), int(features.shape[2]), int(features.shape[3])


class GreyConv2d(nn.Conv2d):
    """A convolution over channels that all hold the same grey, computed once for all of them.

    Preprocessing repeats the grey for each channel, so the sum over channels can be taken of the weights: the
    same output and the same gradients as nn.Conv2d gives, at the cost of one channel.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Feature maps of images whose channels are equal; only the first is looked at."""
        return self._conv_forward(images[:, :1], self.weight.sum(dim=1, keepdim=True), self.bias)


@register("small-cnn")
def _small_cnn(spec: Model, channels: int) -> nn.Module:
    layers: list[nn.Module] = []
    for filters in spec.filters:
        convolution = nn.Conv2d if layers else GreyConv2d
        # Pooling before ReLU gives the same output as after it, at a fraction of the memory traffic.
        layers += [convolution(channels, filters, spec.kernel), nn.MaxPool2d(spec.pool), nn.ReLU()]
        channels = filters
    return nn.Sequential(*layers)


@register("timm")
def _timm(spec: Model, channels: int) -> nn.Module:
    return timm_backbone(spec.name.removeprefix("timm/"), spec.weights, channels)


def timm_backbone(name: str, weights: str, channels: int) -> nn.Module:
    """A timm model without its classifier.

    Parameters
    ----------
    name
        timm's name of it.
    weights
        ``none``, ``imagenet`` (from the folder GROUNDGLASS_WEIGHTS, else timm's download) or a safetensors file.
    channels
        Of the input.

    Raises
    ------
    GroundglassError
        If timm has no such model, or the weights cannot be had.
    """
    import groundglass.train.torchvision_ops  # noqa: F401

    # isort: split
    import timm

    if not timm.is_model(name):
        near = ", ".join(timm.list_models(f"*{name.split('_')[-1]}*")[:5]) or "see timm.list_models()"
        raise GroundglassError(f"timm/{name}: timm has no such model; near it: {near}")
    options: dict[str, Any] = {"num_classes": 0, "global_pool": "", "in_chans": channels}
    if weights == "none":
        return timm.create_model(name, **options)
    file = _weights_file(name, weights)
    if file is not None:
        return timm.create_model(name, pretrained=True, pretrained_cfg_overlay={"file": str(file)}, **options)
    try:
        return timm.create_model(name, pretrained=True, **options)
    except Exception as error:  # the hub client raises a dozen unrelated kinds when there is no network
        raise GroundglassError(
            f"model.weights imagenet: {name} could not be downloaded by timm ({type(error).__name__}), and "
            f"{WEIGHTS_VARIABLE} names no folder with {name}*.safetensors; "
            "set it, or give model.weights the path of a file"
        ) from error


def _weights_file(name: str, weights: str) -> Path | None:
    """The file to load ``weights`` from; None where timm is to download it."""
    if weights != "imagenet":
        path = Path(weights).expanduser()
        if not path.is_file():
            raise GroundglassError(
                f"model.weights {weights}: there is no such file; 'imagenet' downloads them"
            )
        return path
    folder = os.environ.get(WEIGHTS_VARIABLE)
    found = sorted(Path(folder).glob(f"{name}.*safetensors")) if folder else []
    return found[0] if found else None
