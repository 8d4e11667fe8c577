"""Engines that can run a bundle's graph, for benchmarks/prediction.py."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from groundglass.bundle.engine import Engine
from groundglass.detect.bundle import Bundle

Floats = NDArray[np.float32]
Answer = Callable[[Floats], Floats]
"""Maps model inputs, float32 (slices, channels, height, width), to logits, float32 (slices,)."""
OURS = "Groundglass (OpenVINO, 32 bits, 1 slice)"
TORCH = "torch, 32 bits, 16 slices"
BATCH = 16


def ours(graph: bytes, shape: tuple[int, int, int]) -> Answer:
    """The package's own engine."""
    engine = Engine(graph, shape)
    return lambda images: np.array([logit for logit, _ in engine.run(images)], dtype=np.float32)


def openvino(graph: bytes, shape: tuple[int, int, int], batch: int, **options: str) -> Answer:
    """OpenVINO with ``batch`` slices per request, its own number of requests in flight, and options."""
    core = ov.Core()
    model = core.read_model(graph, b"")
    model.reshape([batch, *shape])
    queue = ov.AsyncInferQueue(core.compile_model(model, "CPU", options))

    def run(images: Floats) -> Floats:
        logits = np.empty(len(images), dtype=np.float32)

        def keep(request: Any, start: int) -> None:
            logits[start : start + batch] = request.get_output_tensor(0).data

        queue.set_callback(keep)
        for start in range(0, len(images), batch):
            queue.start_async({0: images[start : start + batch]}, start)
        queue.wait_all()
        return logits

    return run


def onnx_runtime(graph: bytes, batch: int) -> Answer:
    """ONNX Runtime on the processor, with defaults."""
    import onnxruntime

    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    return _batched(lambda images: session.run(None, {"images": images})[0], batch)


def torch_model(model: Any, batch: int, *, bf16: bool) -> Answer:
    """The torch network in channels-last order, with the evidence, as in the graph."""
    import torch

    model = model.eval().to(memory_format=torch.channels_last)

    def run(images: Floats) -> Floats:
        tensor = torch.from_numpy(images).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            return model.explain(tensor)[0].float().numpy()

    return _batched(run, batch)


def _batched(run: Answer, batch: int) -> Answer:
    return lambda images: np.concatenate(
        [run(images[start : start + batch]) for start in range(0, len(images), batch)]
    )


def all_engines(bundle: Bundle, model: Any | None) -> dict[str, Answer]:
    """Every installed engine, by name; torch if ``model`` is given. Missing ones are printed."""
    preprocessing = bundle.facts.preprocessing
    graph, shape = bundle.graph, (preprocessing.channels, *preprocessing.size)
    throughput, full = {"PERFORMANCE_HINT": "THROUGHPUT"}, {"INFERENCE_PRECISION_HINT": "f32"}
    latency = {"PERFORMANCE_HINT": "LATENCY"}
    engines = {
        OURS: ours(graph, shape),
        "OpenVINO, 32 bits, 16 slices": openvino(graph, shape, BATCH, **throughput, **full),
        "OpenVINO, 32 bits, 16 slices, for latency": openvino(graph, shape, BATCH, **latency, **full),
        "OpenVINO, its own precision, 1 slice": openvino(graph, shape, 1, **throughput),
        "OpenVINO, its own precision, 16 slices": openvino(graph, shape, BATCH, **throughput),
    }
    if find_spec("onnxruntime") is None:
        print("ONNX Runtime is not measured: it is not installed")
    else:
        engines["ONNX Runtime, 1 slice"] = onnx_runtime(graph, 1)
        engines["ONNX Runtime, 16 slices"] = onnx_runtime(graph, BATCH)
    if model is None:
        print("torch is not measured: it is not installed")
    else:
        engines[TORCH] = torch_model(model, BATCH, bf16=False)
        engines["torch, bf16, 16 slices"] = torch_model(model, BATCH, bf16=True)
    return engines


def torch_twin(bundle: Bundle, run: Path | None) -> Any | None:
    """The bundle's network in torch, None if torch is not installed.

    With the weights of ``run``, the folder that the bundle was exported from; else with random ones, which
    are sufficient for speed.
    """
    if find_spec("torch") is None:
        return None
    from groundglass.recipe.recipe import parse_recipe
    from groundglass.train.models import build_model
    from groundglass.train.run import Run
    from groundglass.train.tasks.classify import ClassifyTask

    if run is not None:
        return ClassifyTask(Run(run).recipe()).kept(Run(run)).model
    recipe = parse_recipe(bundle.recipe)
    bare = recipe.model.model_copy(update={"weights": "none"})
    return build_model(bare, recipe.preprocessing.channels, recipe.preprocessing.size)
