import sys
from collections.abc import Iterator

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from groundglass.bundle.engine import Engine

SHAPE = (1, 4, 6)
INTERFACE = "(float[batch, 1, 4, 6] images) => (float[batch] logits, float[batch, 4, 6] evidence)"
NETWORK = f"""
<ir_version: 8, opset_import: ["" : 17]>
network {INTERFACE} <float one = {{1}}, float two = {{2}}, int64[1] axes = {{1}}, int64[3] map = {{-1, 4, 6}}>
{{
  flat = Flatten(images)
  lower = Sub(flat, one)
  scaled = Mul(lower, two)
  logits = ReduceSum <keepdims = 0> (scaled, axes)
  evidence = Reshape(scaled, map)
}}
"""
CLASSIFIER = f"""
<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 3]>
classifier {INTERFACE} <int64[1] axes = {{1}}, int64[3] map = {{-1, 4, 6}}>
{{
  flat = Flatten(images)
  scaled = ai.onnx.ml.Scaler <offset = [1.0], scale = [2.0]> (flat)
  logits = ReduceSum <keepdims = 0> (scaled, axes)
  evidence = Reshape(scaled, map)
}}
"""
"""Both subtract 1 and double, one of them with an operator of classical machine learning."""


def graph_of(text: str) -> bytes:
    model = onnx.parser.parse_model(text)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def pictures(count: int) -> NDArray[np.float32]:
    return np.random.default_rng(5).normal(size=(count, *SHAPE)).astype(np.float32)


@pytest.mark.parametrize("text", [NETWORK, CLASSIFIER], ids=["network", "classifier"])
@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_answers_come_individually_in_order(text: str, precision: str) -> None:
    inputs = pictures(37)
    answers = list(Engine(graph_of(text), SHAPE, precision).run(iter(inputs)))  # type: ignore[arg-type]
    assert len(answers) == 37
    for (logit, evidence), picture in zip(answers, inputs, strict=True):
        wanted = 2 * (picture[0] - 1)
        assert logit.shape == ()
        assert evidence.shape == (4, 6)
        assert logit.dtype == evidence.dtype == np.float32
        np.testing.assert_allclose(evidence, wanted, rtol=1e-5 if precision == "f32" else 0.02, atol=0.02)
        np.testing.assert_allclose(logit, wanted.sum(), rtol=1e-5 if precision == "f32" else 0.05)


@pytest.mark.parametrize("text", [NETWORK, CLASSIFIER], ids=["network", "classifier"])
def test_an_engine_answers_again_after_it_was_left_early(text: str) -> None:
    engine = Engine(graph_of(text), SHAPE)
    inputs = pictures(9)
    whole = list(engine.run(inputs))
    started = engine.run(inputs)
    next(started)
    started.close()  # type: ignore[attr-defined]
    assert [float(logit) for logit, _ in engine.run(inputs)] == [float(logit) for logit, _ in whole]
    assert list(engine.run([])) == []


@pytest.mark.parametrize("text", [NETWORK, CLASSIFIER], ids=["network", "classifier"])
def test_inputs_are_read_as_answers_are_requested(text: str) -> None:
    taken = 0

    def endless() -> Iterator[NDArray[np.float32]]:
        nonlocal taken
        while True:
            taken += 1
            yield np.full(SHAPE, taken, dtype=np.float32)

    answers = Engine(graph_of(text), SHAPE).run(endless())
    assert [round(float(next(answers)[0])) for _ in range(5)] == [0, 48, 96, 144, 192]
    assert taken < 300
    answers.close()  # type: ignore[attr-defined]


def test_only_a_graph_that_needs_it_loads_the_second_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    ((logit, _),) = Engine(graph_of(NETWORK), SHAPE).run([np.ones(SHAPE, dtype=np.float32)])
    assert logit == 0
    with pytest.raises(ImportError):
        Engine(graph_of(CLASSIFIER), SHAPE)


def test_threads_can_be_limited_and_are_not_pinned_to_cores_that_other_processes_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("groundglass.bundle.engine._threads", 1)
    compiled = Engine(graph_of(NETWORK), SHAPE)._runtime._compiled  # type: ignore[union-attr]
    assert compiled.get_property("INFERENCE_NUM_THREADS") == 1
    assert compiled.get_property("ENABLE_CPU_PINNING") is False
