"""Backbones and heads; a head maps features to the logits and to the evidence for COVID-19.

The evidence is the contribution of each location of the feature map to the logit (for Grad-CAM, relative to
the other locations). It is computed in the forward pass, so that it becomes an output of the ONNX graph. With
several classes it refers to the logit of COVID-19 minus the mean of the other logits.
"""

import logging
import os
from abc import ABC, abstractmethod
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from groundglass.errors import GroundglassError
from groundglass.labels import POSITIVE
from groundglass.recipe.recipe import CnnHead, Model

Shape = tuple[int, int, int]
"""Features, rows and columns of a feature map, or channels, height and width of images."""


class Head(nn.Module, ABC):
    """Maps features to the logits, through a last linear layer, and to the evidence for COVID-19.

    The logits have the shape (batch,), or (batch, classes) for several classes.

    Parameters
    ----------
    features
        Width of the linear layer's input.
    dropout
        Dropout before this layer.
    outputs, covid
        Number of logits, and which of them belongs to COVID-19.
    """

    contrast: Tensor

    def __init__(self, features: int, dropout: float, outputs: int, covid: int) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(features, outputs)
        contrast = torch.full((outputs,), -1.0 / max(1, outputs - 1))
        contrast[covid] = 1.0
        self.register_buffer("contrast", contrast, persistent=False)

    @abstractmethod
    def evidence(self, features: Tensor) -> Tensor:
        """The contribution of each location to the logit, shape (batch, rows, columns)."""

    def _logits(self, features: Tensor) -> Tensor:
        logits = self.linear(self.dropout(features))
        return logits.squeeze(1) if self.linear.out_features == 1 else logits

    def _weights(self) -> Tensor:
        """The contribution of each feature to the logit of COVID-19, shape (features,)."""
        return self.contrast @ self.linear.weight


class PoolHead(Head):
    """Global average pooling, dropout and one linear layer."""

    def __init__(self, shape: Shape, dropout: float, outputs: int = 1, covid: int = 0) -> None:
        super().__init__(shape[0], dropout, outputs, covid)

    def forward(self, features: Tensor) -> Tensor:
        """Logits of a feature map."""
        return self._logits(features.mean(dim=(2, 3)))

    def evidence(self, features: Tensor) -> Tensor:
        """Class activation map (Zhou et al. 2016, arXiv 1512.04150): its sum plus the bias is the logit."""
        rows, columns = features.shape[2:]
        return torch.einsum("nfrc,f->nrc", features, self._weights()) / (rows * columns)


class DenseHead(Head):
    """Flattening, a dense layer with ReLU, dropout and one linear layer."""

    def __init__(self, shape: Shape, hidden: int, dropout: float, outputs: int = 1, covid: int = 0) -> None:
        super().__init__(hidden, dropout, outputs, covid)
        self.shape = shape
        self.dense = nn.Linear(shape[0] * shape[1] * shape[2], hidden)

    def forward(self, features: Tensor) -> Tensor:
        """Logits of a feature map."""
        return self._logits(torch.relu(self.dense(features.flatten(1))))

    def evidence(self, features: Tensor) -> Tensor:
        """HiResCAM (Draelos and Carin 2020, arXiv 2011.08891): gradient times feature, summed over features."""
        active = (self.dense(features.flatten(1)) > 0).to(features.dtype)
        gradient = (active * self._weights()) @ self.dense.weight
        return (gradient.unflatten(1, self.shape) * features).sum(dim=1)


class ConvolutionalHead(Head):
    """Two convolutions, max-pooling and a dense layer; see :class:`~groundglass.recipe.recipe.CnnHead`.

    Raises
    ------
    ValueError
        If the feature map is too small for it.
    """

    def __init__(
        self, shape: Shape, spec: CnnHead, hidden: int, dropout: float, outputs: int = 1, covid: int = 0
    ) -> None:
        super().__init__(hidden, 0.0, outputs, covid)
        places = [(side // 2 - 2) // spec.pool for side in shape[1:]]
        if min(places) < 1:
            least = 2 * (spec.pool + 2)
            raise ValueError(
                f"the feature map of {shape[1]} x {shape[2]} is too small for cnn_head, which needs {least} x "
                f"{least} with cnn_head.pool {spec.pool}: enlarge preprocessing.size or lower cnn_head.pool"
            )
        self.first = nn.Conv2d(shape[0], spec.filters, 2, stride=2)
        self.between = nn.Dropout(dropout)
        self.second = nn.Conv2d(spec.filters, spec.filters, 3)
        self.pool = spec.pool
        self.before_dense = nn.Dropout(dropout)
        self.dense = nn.Linear(spec.filters * places[0] * places[1], hidden)
        self.rectified = spec.activation == "relu"

    def _activate(self, features: Tensor) -> Tensor:
        return torch.relu(features) if self.rectified else features

    def forward(self, features: Tensor) -> Tensor:
        """Logits of a feature map."""
        first = self._activate(self.first(features))
        second = self._activate(self.second(self.between(first)))
        pooled = F.max_pool2d(second, self.pool)
        return self._logits(self._activate(self.dense(self.before_dense(pooled.flatten(1)))))

    def evidence(self, features: Tensor) -> Tensor:
        """Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391) on the penultimate convolution, without its ReLU.

        Its weights are means of the gradient over locations. These do not depend on where max-pooling found its
        maximum, because the gradient of each pooled value is passed back through the sum of the kernel.
        """
        first = self._activate(self.first(features))
        pooled = F.max_pool2d(self._activate(self.second(first)), self.pool)
        dense = self._activate(self.dense(pooled.flatten(1)))
        gradient = self._gradient(dense, self._weights().expand_as(dense)) @ self.dense.weight
        gradient = self._gradient(pooled, gradient.unflatten(1, tuple(pooled.shape[1:])))
        handed_back = gradient.sum(dim=(2, 3)) @ self.second.weight.sum(dim=(2, 3))
        weights = handed_back / (first.shape[2] * first.shape[3])
        return (weights[:, :, None, None] * first).sum(dim=1)

    def _gradient(self, activated: Tensor, gradient: Tensor) -> Tensor:
        """The gradient before an activation, from the one after it."""
        return gradient * (activated > 0).to(gradient.dtype) if self.rectified else gradient


WEIGHTS_VARIABLE = "GROUNDGLASS_WEIGHTS"


class Classifier(nn.Module):
    """A backbone and a head; the output is the logit of COVID-19, or the logits of several classes."""

    def __init__(self, backbone: nn.Module, head: Head) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        """Logits, shape (batch,) or (batch, classes), of images of shape (batch, channels, height, width)."""
        return self.head(self.backbone(images))

    def explain(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, shape (batch,) or (batch, classes), and evidence, shape (batch, rows, columns)."""
        features = self.backbone(images)
        return self.head(features), self.head.evidence(features)


def build_model(
    spec: Model, channels: int, size: tuple[int, int], classes: tuple[str, ...] = ()
) -> Classifier:
    """Build the network of a recipe.

    Parameters
    ----------
    spec
        The recipe's model part.
    channels, size
        Channels, and height and width in pixels, of the input.
    classes
        Names of the classes that get a logit each; none for the single logit of a binary question.

    Raises
    ------
    GroundglassError
        If the name is unknown, the input is too small for the network, or weights are not available.
    """
    if spec.name.startswith("timm/"):
        backbone = timm_backbone(spec.name.removeprefix("timm/"), spec.weights, channels)
    elif spec.name == "small-cnn":
        backbone = _small_cnn(spec, channels)
    else:
        raise GroundglassError(f"model.name {spec.name}: unknown; choose small-cnn or timm/NAME")
    head = _head(spec, feature_shape(backbone, (channels, *size), f"model.name {spec.name}"), classes)
    if spec.init == "glorot":
        head.apply(_glorot)
        if spec.weights == "none":
            backbone.apply(_glorot)
    return Classifier(backbone, head)


def _head(spec: Model, shape: Shape, classes: tuple[str, ...]) -> Head:
    outputs, covid = (len(classes), classes.index(POSITIVE)) if classes else (1, 0)
    if spec.hidden is None:
        return PoolHead(shape, spec.dropout, outputs, covid)
    if spec.cnn_head is None:
        return DenseHead(shape, spec.hidden, spec.dropout, outputs, covid)
    try:
        return ConvolutionalHead(shape, spec.cnn_head, spec.hidden, spec.dropout, outputs, covid)
    except ValueError as error:
        raise GroundglassError(f"model.name {spec.name}: {error}") from error


def _glorot(layer: nn.Module) -> None:
    """Glorot's uniform weights and biases of 0 (Glorot and Bengio 2010), as Keras draws them."""
    if isinstance(layer, nn.Conv2d | nn.Linear):
        nn.init.xavier_uniform_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def feature_shape(backbone: nn.Module, shape: Shape, name: str = "backbone") -> Shape:
    """Features, rows and columns of the feature map that a backbone gives for images of a shape.

    Parameters
    ----------
    backbone
        Maps images to a feature map.
    shape
        Channels, height and width of the images.
    name
        The backbone's name in errors.

    Raises
    ------
    GroundglassError
        If the backbone cannot take such images or does not give a feature map.
    """
    training = backbone.training
    try:
        with torch.no_grad():
            features = backbone.eval()(torch.zeros(1, *shape))
    except RuntimeError as error:
        raise GroundglassError(f"{name}: cannot take an input of {shape[1:]}: {error}") from error
    finally:
        backbone.train(training)
    if features.ndim != 4 or 0 in features.shape:
        raise GroundglassError(
            f"{name}: gives no feature map (batch, features, rows, columns) for an input of {shape[1:]}; "
            "choose a convolutional backbone or a larger input"
        )
    _, count, rows, columns = features.shape
    return count, rows, columns


class GreyConv2d(nn.Conv2d):
    """A convolution over channels that all hold the same grey, computed once for all of them.

    Preprocessing repeats the grey for each channel, so the weights can be summed over channels: output and
    gradients are the same as with nn.Conv2d, at the cost of one channel.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Feature maps of images whose channels are equal; only the first is used."""
        return self._conv_forward(images[:, :1], self.weight.sum(dim=1, keepdim=True), self.bias)


def _small_cnn(spec: Model, channels: int) -> nn.Module:
    layers: list[nn.Module] = []
    for filters in spec.filters:
        convolution = nn.Conv2d if layers else GreyConv2d
        # Pooling before ReLU gives the same output as after it, at a fraction of the memory traffic.
        layers += [convolution(channels, filters, spec.kernel), nn.MaxPool2d(spec.pool), nn.ReLU()]
        if spec.block_dropout:
            layers.append(nn.Dropout(spec.block_dropout))
        channels = filters
    return nn.Sequential(*layers)


def timm_backbone(name: str, weights: str, channels: int) -> nn.Module:
    """A timm model without its classifier.

    Parameters
    ----------
    name
        Its name in timm.
    weights
        ``none``, ``imagenet`` (from the folder GROUNDGLASS_WEIGHTS, else timm's download) or a safetensors file.
    channels
        Number of channels of the input.

    Raises
    ------
    GroundglassError
        If timm has no such model, or the weights are not available.
    """
    timm = _timm_with(name)
    options: dict[str, Any] = {"num_classes": 0, "global_pool": "", "in_chans": channels}
    file = None if weights == "none" else _weights_file(name, weights)
    if file is not None:
        options["pretrained_cfg_overlay"] = {"file": str(file)}
    if weights == "none" or file is not None:
        backbone = timm.create_model(name, pretrained=file is not None, **options)
    else:
        backbone = _download(timm, name, options)
    if hasattr(backbone, "pre_logits"):
        backbone.pre_logits = nn.Identity()  # the dense layers of VGG, which belong to its classifier
    return backbone


def _download(timm: Any, name: str, options: dict[str, Any]) -> nn.Module:
    # The hub's client reports each of its attempts; the error below reports the failure once.
    hub = logging.getLogger("huggingface_hub")
    level = hub.level
    hub.setLevel(logging.ERROR)
    try:
        return timm.create_model(name, pretrained=True, **options)
    except Exception as error:  # the hub client raises a dozen unrelated exceptions if there is no network
        raise GroundglassError(
            f"model.weights imagenet: {name} could not be downloaded by timm ({type(error).__name__}), and "
            f"{WEIGHTS_VARIABLE} names no folder with {name}.*safetensors; "
            "set it, or give model.weights the path of a file"
        ) from error
    finally:
        hub.setLevel(level)


def with_substitute(name: str, weights: str, substitute: str | None) -> str:
    """The backbone for this machine: ``substitute`` if there is one and the ImageNet weights are not available.

    With network access, checking downloads the weights.

    Raises
    ------
    GroundglassError
        If timm has no model ``name``.
    """
    if substitute is None or weights != "imagenet" or _can_be_had(name.removeprefix("timm/")):
        return name
    return substitute


def check_weights(name: str, weights: str) -> None:
    """Raise GroundglassError if a backbone's weights are not available; checking may download them."""
    if name.startswith("timm/") and weights == "imagenet" and not _can_be_had(name.removeprefix("timm/")):
        raise GroundglassError(
            f"{name}: its ImageNet weights cannot be downloaded and are not in the folder {WEIGHTS_VARIABLE}"
        )


@cache
def _can_be_had(name: str) -> bool:
    timm = _timm_with(name)
    if _weights_file(name, "imagenet") is not None:
        return True
    try:
        _download(timm, name, {})
    except GroundglassError:
        return False
    return True


def _timm_with(name: str) -> Any:
    """The timm library, if it has a model of this name; GroundglassError if it has none."""
    import timm

    import groundglass.train.torchvision_ops  # noqa: F401

    if not timm.is_model(name):
        near = ", ".join(timm.list_models(f"*{name.split('_')[-1]}*")[:5]) or "see timm.list_models()"
        raise GroundglassError(f"timm/{name}: timm has no such model; similar: {near}")
    return timm


def _weights_file(name: str, weights: str) -> Path | None:
    """The file to load ``weights`` from; None if timm is to download it."""
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
