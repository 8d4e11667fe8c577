"""BCD U-Net compared with the published Keras definition and with the equations, computed naively."""

import io
import warnings

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from groundglass.train.segmentation_models import BCDUNet, ConvLSTM2d

KERAS_FORMULAS = {
    "Conv2D": lambda k, c, f: f * (k * k * c + 1),
    "Conv2DTranspose": lambda k, c, f: f * (k * k * c + 1),
    "BatchNormalization": lambda k, c, f: 4 * f,  # gamma, beta, moving mean, moving variance
    "ConvLSTM2D": lambda k, c, f: 4 * f * (k * k * (c + f) + 1),
}
# Our layer, the layer of Lung Segmentation/models.py, kernel, channels, filters, parameters, and by how much the
# map is smaller than the image. The parameters are those that Keras's model.summary() prints for BCDU_net_D3.
BEFORE = [
    ("encoder.0.0", "Conv2D", 3, 1, 64, 640, 1),
    ("encoder.0.2", "Conv2D", 3, 64, 64, 36_928, 1),
    ("encoder.1.0", "Conv2D", 3, 64, 128, 73_856, 2),
    ("encoder.1.2", "Conv2D", 3, 128, 128, 147_584, 2),
    ("encoder.2.0", "Conv2D", 3, 128, 256, 295_168, 4),
    ("encoder.2.2", "Conv2D", 3, 256, 256, 590_080, 4),
    ("dense.0.0", "Conv2D", 3, 256, 512, 1_180_160, 8),
    ("dense.0.2", "Conv2D", 3, 512, 512, 2_359_808, 8),
]
ONLY_D3 = [
    ("dense.1.0", "Conv2D", 3, 512, 512, 2_359_808, 8),
    ("dense.1.2", "Conv2D", 3, 512, 512, 2_359_808, 8),
    ("dense.2.0", "Conv2D", 3, 1024, 512, 4_719_104, 8),
    ("dense.2.2", "Conv2D", 3, 512, 512, 2_359_808, 8),
]
AFTER = [
    ("decoder.0.up", "Conv2DTranspose", 2, 512, 256, 524_544, 4),
    ("decoder.0.norm", "BatchNormalization", 0, 256, 256, 1_024, 4),
    ("decoder.0.fusion.backwards", "ConvLSTM2D", 3, 256, 128, 1_769_984, 4),
    ("decoder.0.convolutions.0", "Conv2D", 3, 128, 256, 295_168, 4),
    ("decoder.0.convolutions.2", "Conv2D", 3, 256, 256, 590_080, 4),
    ("decoder.1.up", "Conv2DTranspose", 2, 256, 128, 131_200, 2),
    ("decoder.1.norm", "BatchNormalization", 0, 128, 128, 512, 2),
    ("decoder.1.fusion.backwards", "ConvLSTM2D", 3, 128, 64, 442_624, 2),
    ("decoder.1.convolutions.0", "Conv2D", 3, 64, 128, 73_856, 2),
    ("decoder.1.convolutions.2", "Conv2D", 3, 128, 128, 147_584, 2),
    ("decoder.2.up", "Conv2DTranspose", 2, 128, 64, 32_832, 1),
    ("decoder.2.norm", "BatchNormalization", 0, 64, 64, 256, 1),
    ("decoder.2.fusion.backwards", "ConvLSTM2D", 3, 64, 32, 110_720, 1),
    ("decoder.2.convolutions.0", "Conv2D", 3, 32, 64, 18_496, 1),
    ("decoder.2.convolutions.2", "Conv2D", 3, 64, 64, 36_928, 1),
    ("head.0", "Conv2D", 3, 64, 2, 1_154, 1),
    ("head.2", "Conv2D", 1, 2, 1, 3, 1),
]


def held(module: nn.Module) -> int:
    """Numbers that Keras would count: parameters, and the moving mean and variance."""
    buffers = (b.numel() for n, b in module.named_buffers() if not n.endswith("num_batches_tracked"))
    return sum(p.numel() for p in module.parameters()) + sum(buffers)


@pytest.mark.parametrize(
    ("dense_blocks", "layers", "total"),
    [(1, BEFORE + AFTER, 8_861_189), (3, BEFORE + ONLY_D3 + AFTER, 20_659_717)],
    ids=["D1", "D3"],
)
def test_layers_are_the_published_ones(dense_blocks: int, layers: list, total: int) -> None:
    model = BCDUNet(dense_blocks=dense_blocks, bidirectional=False).eval()
    shapes: dict[str, list[tuple[int, ...]]] = {}
    for name, *_ in layers:
        model.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: shapes.setdefault(name, []).append(tuple(output.shape))
        )
    with torch.no_grad():
        model(torch.zeros(1, 1, 32, 48))
    assert list(shapes) == [name for name, *_ in layers]  # the order of the computation too
    for name, kind, kernel, channels, filters, parameters, scale in layers:
        assert KERAS_FORMULAS[kind](kernel, channels, filters) == parameters, name
        assert held(model.get_submodule(name)) == parameters, name
        assert shapes[name] == [(1, filters, 32 // scale, 48 // scale)], name
    assert held(model) == sum(parameters for *_, parameters, _ in layers) == total


def test_two_directions_add_one_lstm_and_one_convolution_a_level() -> None:
    with torch.device("meta"):  # counting needs no weights
        one, two = (held(BCDUNet(bidirectional=bidirectional)) for bidirectional in (False, True))
    lstm, convolution = KERAS_FORMULAS["ConvLSTM2D"], KERAS_FORMULAS["Conv2D"]
    assert two - one == sum(lstm(3, 2 * f, f) + convolution(3, 2 * f, f) for f in (128, 64, 32))


def convolve(maps: NDArray, weight: NDArray, bias: NDArray | float = 0.0) -> NDArray:
    """Pixel by pixel: maps (channels, height, width), weight (filters, channels, k, k), zeros around."""
    filters, _, size, _ = weight.shape
    padded = np.pad(maps, ((0, 0), (size // 2,) * 2, (size // 2,) * 2))
    output = np.zeros((filters, *maps.shape[1:]))
    for row in range(maps.shape[1]):
        for column in range(maps.shape[2]):
            patch = padded[:, row : row + size, column : column + size]
            output[:, row, column] = (weight * patch).sum(axis=(1, 2, 3)) + bias
    return output


def conv_lstm(sequence: list[NDArray], layer: ConvLSTM2d) -> NDArray:
    """The equations of Keras 2's ConvLSTM2D, with one convolution per gate and an initial state of zero."""
    shape = (layer.filters, *sequence[0].shape[1:])
    hidden, cell = np.zeros(shape), np.zeros(shape)
    weights, recurrent, biases = (
        dict(zip("ciof", np.split(tensor.detach().double().numpy(), 4), strict=True))
        for tensor in (layer.input_gates.weight, layer.hidden_gates.weight, layer.input_gates.bias)
    )
    for maps in sequence:
        z = {g: convolve(maps, weights[g], biases[g]) + convolve(hidden, recurrent[g]) for g in "cifo"}
        i, f, o = (np.clip(0.2 * z[g] + 0.5, 0, 1) for g in "ifo")
        cell = f * cell + i * np.tanh(z["c"])
        hidden = o * np.tanh(cell)
    return hidden


def spread(module: nn.Module) -> None:
    """Weights large enough that gates saturate, and no zero biases."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(2).add_(torch.randn_like(parameter) * 0.3)


@pytest.mark.parametrize("steps", [1, 2, 4])
@pytest.mark.parametrize("kernel", [3, 5])
def test_conv_lstm_follows_its_equations(steps: int, kernel: int) -> None:
    torch.manual_seed(steps)
    layer = ConvLSTM2d(3, 2, kernel)
    spread(layer)
    sequence = [torch.randn(2, 3, 5, 6) for _ in range(steps)]
    hidden = layer(sequence).detach().numpy()
    for row in range(2):
        expected = conv_lstm([maps[row].double().numpy() for maps in sequence], layer)
        np.testing.assert_allclose(hidden[row], expected, atol=1e-5)


@pytest.mark.parametrize("bidirectional", [False, True], ids=["code", "paper"])
def test_fusion_is_that_of_the_code_or_of_the_paper(bidirectional: bool) -> None:
    torch.manual_seed(0)
    fusion = BCDUNet(filters=4, bidirectional=bidirectional).decoder[2].fusion
    spread(fusion)
    skip, upsampled = torch.randn(2, 4, 6, 5)
    # go_backwards: of the sequence (skip, upsampled), the upsampled maps are read first.
    expected = conv_lstm([upsampled.double().numpy(), skip.double().numpy()], fusion.backwards)
    if bidirectional:
        ahead = conv_lstm([skip.double().numpy(), upsampled.double().numpy()], fusion.forwards)
        weight = fusion.combine.weight.detach().double().numpy()
        bias = fusion.combine.bias.detach().double().numpy()
        expected = np.tanh(convolve(ahead, weight[:, :2], bias) + convolve(expected, weight[:, 2:]))
    np.testing.assert_allclose(fusion(skip[None], upsampled[None])[0].detach().numpy(), expected, atol=1e-5)


def test_dense_block_3_reads_block_2_then_block_1() -> None:
    torch.manual_seed(0)
    model = BCDUNet(filters=4).eval()
    maps = torch.rand(1, 16, 4, 4)
    read: list[Tensor] = []
    model.dense[2].register_forward_pre_hook(lambda module, inputs: read.append(inputs[0]))
    model._bottom(maps)
    first = model.dense[0](maps)
    torch.testing.assert_close(read[0], torch.cat([model.dense[1](first), first], dim=1))


@pytest.mark.parametrize(("dense_blocks", "expected"), [(1, [16, 32]), (3, [16, 32, 32, 32])])
def test_dropout_is_where_the_authors_have_it(dense_blocks: int, expected: list[int]) -> None:
    model = BCDUNet(filters=4, dense_blocks=dense_blocks)
    widths: list[int] = []
    pooled: list[Tensor] = []
    model.dropout.register_forward_hook(lambda module, inputs, output: widths.append(output.shape[1]))
    model.pool.register_forward_pre_hook(lambda module, inputs: pooled.append(inputs[0]))
    deepest: list[Tensor] = []
    model.encoder[2].register_forward_hook(lambda module, inputs, output: deepest.append(output))
    model(torch.rand(2, 1, 16, 16))
    assert widths == expected
    assert model.dropout.p == 0.5
    assert pooled[2] is deepest[0]  # dropout affects only the skip connection, not the pooled maps


def test_initial_weights_are_those_of_keras() -> None:
    torch.manual_seed(0)
    level = BCDUNet(bidirectional=False).decoder[0]
    lstm = level.fusion.backwards
    # he_normal is sqrt(2 / fan_in); Keras uses k * k * filters as the fan-in of a transposed convolution.
    for layer, fan_in in (
        (level.convolutions[2], 9 * 256),
        (level.up, 4 * 256),
        (lstm.input_gates, 9 * 256),
    ):
        deviation = (2 / fan_in) ** 0.5
        assert layer.weight.std().item() == pytest.approx(deviation, rel=0.01)
        assert layer.weight.abs().max().item() <= 2 * deviation / 0.8796
    flat = lstm.hidden_gates.weight.flatten(1)
    torch.testing.assert_close(flat @ flat.T, torch.eye(512), atol=1e-4, rtol=0)
    assert lstm.input_gates.bias.reshape(4, 128).mean(dim=1).tolist() == [0, 0, 0, 1]
    assert (level.norm.eps, level.norm.momentum) == (1e-3, pytest.approx(1 - 0.99))


@pytest.mark.parametrize("bidirectional", [False, True], ids=["code", "paper"])
@pytest.mark.parametrize("dense_blocks", [1, 3])
def test_gradients_reach_all_parameters(dense_blocks: int, bidirectional: bool) -> None:
    torch.manual_seed(0)
    model = BCDUNet(2, 3, filters=4, dense_blocks=dense_blocks, bidirectional=bidirectional)
    logits = model(torch.randn(2, 2, 32, 32))
    assert logits.shape == (2, 3, 32, 32)
    logits.square().sum().backward()
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not still


def test_maps_stay_channels_last() -> None:
    torch.manual_seed(0)
    model = BCDUNet(filters=4).eval()
    images = torch.rand(2, 1, 32, 32)
    expected = model(images)
    outputs: list[Tensor] = []
    for module in model.modules():
        if not isinstance(module, BCDUNet):
            module.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    model.to(memory_format=torch.channels_last)
    torch.testing.assert_close(model(images.to(memory_format=torch.channels_last)), expected)
    assert all(output.is_contiguous(memory_format=torch.channels_last) for output in outputs)


@pytest.mark.parametrize("bidirectional", [False, True], ids=["code", "paper"])
def test_onnx_graph_agrees_for_any_batch_and_size(bidirectional: bool) -> None:
    torch.manual_seed(0)
    model = BCDUNet(classes=2, filters=4, bidirectional=bidirectional).eval()
    for name, tensor in model.state_dict().items():
        if name.endswith(("bias", "running_mean")):
            tensor.add_(torch.randn_like(tensor) * 0.3)
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("error", torch.jit.TracerWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            model,
            (torch.zeros(1, 1, 16, 16),),
            file,
            dynamo=False,
            opset_version=17,
            input_names=["images"],
            output_names=["logits"],
            dynamic_axes={name: {0: "batch", 2: "height", 3: "width"} for name in ("images", "logits")},
        )
    session = onnxruntime.InferenceSession(file.getvalue())
    images = torch.rand(3, 1, 40, 24)
    (logits,) = session.run(None, {"images": images.numpy()})
    expected = model(images).detach().numpy()
    assert expected.std() > 0.01
    np.testing.assert_allclose(logits, expected, atol=1e-4, rtol=0)


def test_mistakes_are_answered_with_a_remedy() -> None:
    with pytest.raises(ValueError, match=r"36 x 32 .*multiples of 8; pad or resize them to 40 x 32"):
        BCDUNet(filters=2)(torch.zeros(1, 1, 36, 32))
    with pytest.raises(ValueError, match="filters 5: choose an even number"):
        BCDUNet(filters=5)
    with pytest.raises(ValueError, match=r"dense_blocks 2: .* 1 or 3"):
        BCDUNet(dense_blocks=2)  # type: ignore[arg-type]
