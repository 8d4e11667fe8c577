"""The networks of segmenters, from images to logits of lungs and lesions: a U-Net, and BCD U-Net.

BCD U-Net is a U-Net whose skip connections pass through convolutional LSTMs, with a densely connected
bottleneck: Azad, Asadi-Aghbolaghi, Fathy and Escalera 2019, "Bi-Directional ConvLSTM U-Net with Densely
Connected Convolutions", ICCV Workshops, arXiv 1909.00166. The layers, their order and their initial weights
are those of the authors' Keras code, ``BCDU_net_D1`` and ``BCDU_net_D3`` in ``Lung Segmentation/models.py``
of github.com/rezazad68/BCDU-Net.
"""

import math
from collections.abc import Sequence
from typing import Literal

import groundglass.train.torchvision_ops  # noqa: F401

# isort: split
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from groundglass.errors import GroundglassError
from groundglass.recipe.tasks import SegmentationModel
from groundglass.segment.segmenter import LUNGS_AND_LESIONS, LUNGS_AND_TYPES
from groundglass.train.models import timm_backbone

LEVELS = 3
DROPOUT = 0.5


def build_segmentation_model(spec: SegmentationModel, channels: int) -> nn.Module:
    """Build the network of a segmenter's recipe.

    Parameters
    ----------
    spec
        The recipe's model part.
    channels
        Number of channels of the input.

    Raises
    ------
    GroundglassError
        If the encoder is unknown or its weights are not available.
    """
    if spec.name == "bcdunet":
        return BCDUNet(channels, len(outputs_of(spec)), spec.filters, spec.dense_blocks, spec.bidirectional)
    return _unet(spec, channels)


def outputs_of(spec: SegmentationModel) -> tuple[str, ...]:
    """The structure that each output channel of the network marks."""
    return LUNGS_AND_TYPES if spec.lesion_types else LUNGS_AND_LESIONS


def _unet(spec: SegmentationModel, channels: int) -> nn.Module:
    # Built first for its clear errors about an unknown encoder or weights that are not available.
    pretrained = timm_backbone(spec.encoder, spec.weights, channels)
    model = smp.Unet(
        f"tu-{spec.encoder}",
        encoder_weights=None,
        in_channels=channels,
        classes=len(outputs_of(spec)),
        decoder_channels=spec.decoder,
    )
    if spec.weights != "none":
        missing = model.encoder.model.load_state_dict(pretrained.state_dict(), strict=False).missing_keys
        if missing:
            raise GroundglassError(
                f"model.encoder {spec.encoder}: its weights lack {len(missing)} of the encoder's, such as "
                f"{missing[0]}"
            )
    return model


class ConvLSTM2d(nn.Module):
    """Convolutional LSTM over a sequence of maps, with the defaults of Keras 2's ``ConvLSTM2D``.

    With x the maps of a step, h and c the state before it (zero at the first step), ``*`` convolution and ``.`` the
    product of elements::

        i, f, o = s(W * x + U * h + b)          one W, U and b for each of input, forget and output gate
        c'      = f . c + i . tanh(W * x + U * h + b)
        h'      = o . tanh(c')

    ``s(x) = clip(0.2 x + 0.5, 0, 1)`` is the hard sigmoid of Keras 2, the default of its ``ConvLSTM2D``,
    which the authors' code does not change; in Keras 3 the default is the logistic sigmoid, and torch's hard
    sigmoid has slope 1/6. There are no peepholes (the gates do not see c), as in Keras but unlike in Shi et
    al. 2015 (arXiv 1506.04214).

    Parameters
    ----------
    channels
        Channels of the maps.
    filters
        Channels of the state.
    kernel
        Height and width of the kernels in pixels, odd; the maps keep their size.
    """

    def __init__(self, channels: int, filters: int, kernel: int = 3) -> None:
        super().__init__()
        self.filters = filters
        # One convolution for all gates: candidate, input, output, forget.
        # (Keras stores them as input, forget, candidate, output.)
        self.input_gates = nn.Conv2d(channels, 4 * filters, kernel, padding=kernel // 2)
        self.hidden_gates = nn.Conv2d(filters, 4 * filters, kernel, padding=kernel // 2, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new weights: He-normal for the maps, orthogonal for the state, forget gate open."""
        _he_normal_(self.input_gates)
        nn.init.orthogonal_(self.hidden_gates.weight)
        if self.input_gates.bias is not None:
            nn.init.ones_(self.input_gates.bias[3 * self.filters :])

    def forward(self, sequence: Sequence[Tensor]) -> Tensor:
        """The last hidden state, shape (batch, filters, height, width).

        Parameters
        ----------
        sequence
            One or more maps of shape (batch, channels, height, width), first step first.
        """
        hidden, cell = self._first_step(sequence[0])
        for maps in sequence[1:]:
            gates = self.input_gates(maps) + self.hidden_gates(hidden)
            candidate = torch.tanh(gates[:, : self.filters])
            enter, leave, keep = _hard_sigmoid(gates[:, self.filters :]).chunk(3, dim=1)
            cell = keep * cell + enter * candidate
            hidden = leave * torch.tanh(cell)
        return hidden

    def _first_step(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        # The state is zero, so neither its convolution nor the forget gate is needed; that is why the gate is
        # last.
        used, layer = 3 * self.filters, self.input_gates
        bias = None if layer.bias is None else layer.bias[:used]
        gates = F.conv2d(maps, layer.weight[:used], bias, padding=layer.padding)
        enter, leave = _hard_sigmoid(gates[:, self.filters :]).chunk(2, dim=1)
        cell = enter * torch.tanh(gates[:, : self.filters])
        return leave * torch.tanh(cell), cell


class BCDUNet(nn.Module):
    """BCD U-Net, from images to one map of logits for each class.

    Parameters
    ----------
    channels
        Channels of the images; 1 in the published network.
    classes
        Maps of logits; 1 in the published network. Each has its own sigmoid, so classes may overlap.
    filters
        Filters of the first level, even; 64 in the published network. The levels have 1, 2, 4 and 8 times as many.
    dense_blocks
        Blocks of two convolutions in the bottleneck: 1 is the published D1, 3 is D3, in which the third block
        sees the outputs of the second and the first.
    bidirectional
        True, the default, is the network of the paper: one ConvLSTM runs from the skip connection to the
        upsampled maps and another runs back, and their last states are combined by ``Y = tanh(W_forward *
        H_forward + W_backward * H_backward + b)``, here with 3 x 3 kernels and as many filters as each state.
        False is the published code, in which ``ConvLSTM2D(go_backwards=True)`` is a single ConvLSTM that
        reads the upsampled maps first and the skip connection last.

    Raises
    ------
    ValueError
        If ``filters`` is odd or ``dense_blocks`` is neither 1 nor 3.

    Notes
    -----
    Dropout (0.5) follows each dense block and the deepest skip connection, not the maps that are pooled from
    it. For D1 the authors' lung code leaves the block's dropout unconnected, while their skin code connects
    it, as here.

    The published code reduces its maps to two channels before the single output; here it is two per class.
    """

    def __init__(
        self,
        channels: int = 1,
        classes: int = 1,
        filters: int = 64,
        dense_blocks: Literal[1, 3] = 3,
        bidirectional: bool = True,
    ) -> None:
        super().__init__()
        if filters < 2 or filters % 2:
            raise ValueError(
                f"filters {filters}: choose an even number, since the last ConvLSTM has half as many"
            )
        if dense_blocks not in (1, 3):
            raise ValueError(
                f"dense_blocks {dense_blocks}: the published networks have 1 or 3; choose one of them"
            )
        widths = [filters * 2**level for level in range(LEVELS)]
        bottom = filters * 2**LEVELS
        self.encoder = nn.ModuleList(
            _convolutions(before, width)
            for before, width in zip([channels, *widths[:-1]], widths, strict=True)
        )
        self.pool = nn.MaxPool2d(2)
        self.dropout = nn.Dropout(DROPOUT)
        self.dense = nn.ModuleList(
            _convolutions(before, bottom) for before in (widths[-1], bottom, 2 * bottom)[:dense_blocks]
        )
        self.decoder = nn.ModuleList(_Decoder(width, bidirectional) for width in reversed(widths))
        output = nn.Conv2d(2 * classes, classes, 1)
        # The authors specify no initial weights for this layer, so it has Keras's default.
        nn.init.xavier_uniform_(output.weight)
        if output.bias is not None:
            nn.init.zeros_(output.bias)
        self.head = nn.Sequential(_convolution(filters, 2 * classes), nn.ReLU(inplace=True), output)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, shape (batch, classes, height, width).

        Parameters
        ----------
        images
            Shape (batch, channels, height, width), float; height and width are multiples of 8. The authors
            use values in [0, 1].

        Raises
        ------
        ValueError
            If height or width is not a multiple of 8.
        """
        _check_size(images)
        skips = []
        maps = images
        for block in self.encoder:
            skips.append(block(maps))
            maps = self.pool(skips[-1])
        skips[-1] = self.dropout(skips[-1])
        maps = self._bottom(maps)
        for level in self.decoder:
            maps = level(maps, skips.pop())
        return self.head(maps)

    def _bottom(self, maps: Tensor) -> Tensor:
        first = self.dropout(self.dense[0](maps))
        if len(self.dense) == 1:
            return first
        second = self.dropout(self.dense[1](first))
        return self.dropout(self.dense[2](torch.cat([second, first], dim=1)))


class _Decoder(nn.Module):
    """One decoder level: upsampling, fusion with the skip connection, two convolutions."""

    def __init__(self, width: int, bidirectional: bool) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        _he_normal_(self.up)
        # Keras's epsilon, and its momentum of 0.99, of which torch states the complement.
        self.norm = nn.BatchNorm2d(width, eps=1e-3, momentum=0.01)
        self.fusion = _Fusion(width, bidirectional)
        self.convolutions = _convolutions(width // 2, width)

    def forward(self, maps: Tensor, skip: Tensor) -> Tensor:
        upsampled = F.relu(self.norm(self.up(maps)), inplace=True)
        return self.convolutions(self.fusion(skip, upsampled))


class _Fusion(nn.Module):
    """The skip connection and the upsampled maps, both of ``width`` channels, become half as many channels."""

    def __init__(self, width: int, bidirectional: bool) -> None:
        super().__init__()
        self.bidirectional = bidirectional
        self.backwards = ConvLSTM2d(width, width // 2)
        if bidirectional:
            self.forwards = ConvLSTM2d(width, width // 2)
            # The paper's two kernels, side by side in one convolution.
            self.combine = _convolution(width, width // 2)

    def forward(self, skip: Tensor, upsampled: Tensor) -> Tensor:
        backwards = self.backwards((upsampled, skip))
        if not self.bidirectional:
            return backwards
        forwards = self.forwards((skip, upsampled))
        return torch.tanh(self.combine(torch.cat([forwards, backwards], dim=1)))


def _convolutions(channels: int, filters: int) -> nn.Sequential:
    return nn.Sequential(
        _convolution(channels, filters),
        nn.ReLU(inplace=True),
        _convolution(filters, filters),
        nn.ReLU(inplace=True),
    )


def _convolution(channels: int, filters: int) -> nn.Conv2d:
    layer = nn.Conv2d(channels, filters, 3, padding=1)
    _he_normal_(layer)
    return layer


def _he_normal_(layer: nn.Conv2d | nn.ConvTranspose2d) -> None:
    """Keras's ``he_normal``, a normal distribution truncated at two standard deviations, and biases of zero."""
    # For a transposed convolution this counts output channels, as Keras does.
    fan_in = layer.weight[0].numel()
    # Truncation leaves 0.8796 of the standard deviation.
    deviation = math.sqrt(2 / fan_in) / 0.87962566103423978
    nn.init.trunc_normal_(layer.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def _hard_sigmoid(maps: Tensor) -> Tensor:
    # torch's is clip(x / 6 + 0.5, 0, 1), fused into one pass; the factor gives it the slope of Keras 2.
    return F.hardsigmoid(1.2 * maps)


def _check_size(images: Tensor) -> None:
    if torch.onnx.is_in_onnx_export():  # sizes are then symbols that may take other values later
        return
    multiple = 2**LEVELS
    height, width = images.shape[-2:]
    if height % multiple or width % multiple:
        raise ValueError(
            f"images of {height} x {width} pixels: height and width must be multiples of {multiple}; pad or resize "
            f"them to {math.ceil(height / multiple) * multiple} x {math.ceil(width / multiple) * multiple}"
        )
