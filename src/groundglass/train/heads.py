"""Heads: from a feature map to the logits, and to the evidence for COVID-19.

The evidence is how much each place of the feature map adds to the logit (for Grad-CAM in relation to the other
places), computed in the forward direction, so that it becomes an output of the ONNX graph. With several classes it
is of the logit of COVID-19 less the mean of the other logits.
"""

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from groundglass.train.recipe import CnnHead

Shape = tuple[int, int, int]
"""Features, rows and columns of a feature map."""


class Head(Protocol):
    """From a feature map to the logits, and to the evidence for COVID-19."""

    linear: nn.Linear
    contrast: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """Logits, shape (batch,), of several classes (batch, classes)."""

    def evidence(self, features: Tensor) -> Tensor:
        """What each place adds to the logit, shape (batch, rows, columns)."""


class _LinearHead(nn.Module):
    """A head that ends in one linear layer; with one output the logit has no axis of classes.

    Parameters
    ----------
    features
        Width of the linear layer's input.
    dropout
        Before it.
    outputs, covid
        Number of logits, and which of them is of COVID-19.
    """

    contrast: Tensor

    def __init__(self, features: int, dropout: float, outputs: int, covid: int) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(features, outputs)
        contrast = torch.full((outputs,), -1.0 / max(1, outputs - 1))
        contrast[covid] = 1.0
        self.register_buffer("contrast", contrast, persistent=False)

    def _logits(self, features: Tensor) -> Tensor:
        logits = self.linear(self.dropout(features))
        return logits.squeeze(1) if self.linear.out_features == 1 else logits

    def _weights(self) -> Tensor:
        """How much each feature adds to the logit of COVID-19, shape (features,)."""
        return self.contrast @ self.linear.weight


class PoolHead(_LinearHead):
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


class DenseHead(_LinearHead):
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


class ConvolutionalHead(_LinearHead):
    """Two convolutions, max-pooling and a dense layer; see :class:`~groundglass.train.recipe.CnnHead`.

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

        Its weights are means of the gradient over places, and for these it does not matter where max-pooling
        found its greatest value: what each pooled value hands back goes through the sum of the kernel.
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
        """The gradient before an activation, of that behind it."""
        return gradient * (activated > 0).to(gradient.dtype) if self.rectified else gradient
