import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from groundglass.bundle.engine import Engine
from groundglass.errors import GroundglassError
from groundglass.evaluation.overlap import by_case
from groundglass.recipe.tasks import SegmentationModel
from groundglass.train.export import halve_weights, onnx_graph
from groundglass.train.losses import lungs_and_lesions
from groundglass.train.segmentation_models import build_segmentation_model
from groundglass.train.tasks.segment import THRESHOLDS, _Probabilities, best_threshold

SPECS = {
    "unet": SegmentationModel(encoder="mobilenetv3_small_050", decoder=(16, 16, 8, 8, 8)),
    "bcdunet": SegmentationModel(name="bcdunet", filters=4),
    "lesion types": SegmentationModel(
        encoder="mobilenetv3_small_050", decoder=(16, 16, 8, 8, 8), lesion_types=True
    ),
    "bcdunet, one direction": SegmentationModel(
        name="bcdunet", filters=4, dense_blocks=1, bidirectional=False
    ),
}
SHAPE = (1, 64, 96)
Images = NDArray[np.float32]


@pytest.fixture(scope="module", params=list(SPECS))
def network(request: pytest.FixtureRequest) -> nn.Module:
    """A network whose batch normalisation and weights differ from the initial ones."""
    torch.manual_seed(0)
    model = build_segmentation_model(SPECS[request.param], channels=1)
    model.train()
    with torch.no_grad():
        for _ in range(5):
            model(torch.rand(4, *SHAPE) * 2 - 1)
    return model.eval()


@pytest.fixture(scope="module")
def graph(network: nn.Module) -> bytes:
    return onnx_graph(_Probabilities(network), SHAPE, ["masks"])


def images(count: int = 3) -> Images:
    return (np.random.default_rng(0).random((count, *SHAPE), dtype=np.float32) * 2 - 1).astype(np.float32)


def answers(graph: bytes, pictures: Images) -> Images:
    return np.asarray(onnxruntime.InferenceSession(graph).run(None, {"images": pictures})[0])


def test_the_graph_gives_what_torch_gives(network: nn.Module, graph: bytes) -> None:
    pictures = images()
    with torch.no_grad():
        logits = network(torch.from_numpy(pictures))
        expected = torch.sigmoid(logits).numpy()
    if logits.shape[1] == 3:
        parts = np.exp(logits[:, 1:].numpy())
        expected[:, 1:] = parts / (1 + parts.sum(axis=1, keepdims=True))
        either = torch.sigmoid(lungs_and_lesions(logits)[:, 1]).numpy()
        np.testing.assert_allclose(expected[:, 1:].sum(axis=1), either, atol=1e-5)
    assert expected.shape[1:] in ((2, *SHAPE[1:]), (3, *SHAPE[1:]))
    assert expected.std() > 0.01
    np.testing.assert_allclose(answers(graph, pictures), expected, atol=1e-4)
    for picture, wanted in zip(pictures, expected, strict=True):
        (masks,) = next(Engine(graph, SHAPE).run([picture]))
        np.testing.assert_allclose(masks, wanted, atol=1e-4)


def test_halved_weights_take_half_the_room_and_hardly_move_the_answer(graph: bytes) -> None:
    halved = halve_weights(graph)
    big = sum(
        tensor.ByteSize()
        for tensor in onnx.load_from_string(graph).graph.initializer
        if np.prod(tensor.dims) >= 1024
    )
    assert len(graph) - len(halved) == pytest.approx(big / 2, rel=0.02)
    pictures = images()
    before, after = answers(graph, pictures), answers(halved, pictures)
    assert 0 < np.abs(after - before).max() < 1e-2
    for picture, wanted in zip(pictures, before, strict=True):
        (masks,) = next(Engine(halved, SHAPE).run([picture]))
        assert masks.dtype == np.float32
        assert np.abs(masks - wanted).max() < 1e-2


def one_multiplication(weights: Images) -> bytes:
    tensors = [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(np.float32([2]), "two")]
    nodes = [helper.make_node("Mul", ["x", "w"], ["h"]), helper.make_node("Mul", ["h", "two"], ["y"])]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, weights.shape) for name in ("x", "y")]
    made = helper.make_graph(nodes, "g", ends[:1], ends[1:], tensors)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("largest", [1.0, 65504.0, 1e6])
def test_weights_are_rounded_to_16_bits_unless_these_cannot_hold_them(largest: float) -> None:
    weights = np.random.default_rng(0).uniform(0.1, 1, 2000).astype(np.float32)
    weights[7] = largest
    graph = one_multiplication(weights)
    halved = halve_weights(graph)
    x = np.ones(2000, dtype=np.float32)
    (y,) = onnxruntime.InferenceSession(halved).run(None, {"x": x})
    if largest > 65504:
        np.testing.assert_array_equal(y, 2 * weights)
    else:
        np.testing.assert_allclose(y, 2 * weights, rtol=2**-11)
        assert (y != 2 * weights).any()
        assert len(halved) < 0.6 * len(graph)
    again = onnxruntime.InferenceSession(halve_weights(halved)).run(None, {"x": x})[0]
    np.testing.assert_array_equal(again, y)


def test_few_weights_stay_as_they_are() -> None:
    graph = one_multiplication(np.float32(np.arange(1023) / 1023))
    assert onnx.load_from_string(halve_weights(graph)) == onnx.load_from_string(graph)


def plain_loop(probabilities: Images, truth: NDArray[np.uint8], cases: NDArray[np.intp]) -> float:
    """The threshold by the Dice that evaluation computes, case by case."""
    best, chosen = -1.0, 0.0
    for threshold in THRESHOLDS:
        dice = []
        for case in sorted(set(cases.tolist())):
            predicted = true = common = 0
            for row in np.flatnonzero(cases == case):
                found, real = probabilities[row] >= threshold, truth[row] > 0
                predicted, true = predicted + int(found.sum()), true + int(real.sum())
                common += int((found & real).sum())
            dice.append(2 * common / (predicted + true) if predicted + true else 1.0)
        if np.mean(dice) > best:
            best, chosen = float(np.mean(dice)), float(threshold)
    return round(chosen, 2)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4), st.floats(0, 1))
def test_the_threshold_is_that_of_a_plain_loop(seed: int, cases: int, sick: float) -> None:
    rng = np.random.default_rng(seed)
    truth = (rng.random((7, 6, 5)) < 0.3).astype(np.uint8) * (rng.random((7, 1, 1)) < sick).astype(np.uint8)
    noisy = truth * rng.uniform(0.2, 0.9) + rng.normal(0.1, 0.25, truth.shape)
    probabilities = noisy.clip(0, 1).astype(np.float32)
    codes = rng.integers(0, cases, 7)
    chosen = best_threshold(probabilities, truth, codes)
    assert chosen == plain_loop(probabilities, truth, codes)
    assert 0.2 <= chosen <= 0.7


def test_a_case_without_lesions_favours_the_threshold_that_finds_none_in_it() -> None:
    truth = np.zeros((2, 10, 10), dtype=np.uint8)
    truth[0, :5] = 1
    probabilities = np.where(truth > 0, 0.9, 0.1).astype(np.float32)
    probabilities[1, 0] = 0.55
    assert best_threshold(probabilities, truth, np.array([0, 1])) == 0.6
    # As evaluation counts it.
    import pandas as pd

    row = {"path": "b", "case": "b", "structure": "lesions", "true_px": 0, "common_px": 0, "hd95": None}
    dice = [by_case(pd.DataFrame([{**row, "predicted_px": found}]))["dice"][0] for found in (0, 10)]
    assert dice == [1, 0]


def test_an_unknown_encoder_has_a_clear_message() -> None:
    with pytest.raises(GroundglassError, match="timm has no such model"):
        build_segmentation_model(SegmentationModel(encoder="no_such_net"), 1)
    with pytest.raises(GroundglassError, match="there is no such file"):
        build_segmentation_model(
            SegmentationModel(encoder="mobilenetv3_small_050", weights="/no/such.safetensors"), 1
        )
