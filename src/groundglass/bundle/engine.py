"""The engine that runs a bundle's graph on the processor: OpenVINO, or ONNX Runtime if the graph needs it."""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, Literal, TypeVar

import numpy as np
import openvino as ov
from numpy.typing import NDArray

Precision = Literal["f32", "bf16"]
Outputs = tuple[NDArray[np.float32], ...]
Item = TypeVar("Item")

CLASSICAL = b"ai.onnx.ml"
"""The operators of support vectors, neighbours and trees, which OpenVINO lacks. A graph that uses any of them
has this name in plain text among its operator sets. Searching for it is faster than a failed attempt to read
the graph, and OpenVINO's error would not distinguish such a graph from a damaged one. If weights contain the
name by chance, only the choice of the runtime changes."""

_threads = 0
"""Threads of an engine; 0 for as many as there are cores."""


def limit_threads(number: int) -> None:
    """Limit the threads of engines that are loaded from now on, so that processes share the cores."""
    global _threads
    _threads = number


class Engine:
    """Runs an ONNX graph on one slice at a time.

    A slice is never batched with others, so it gets the same answer alone and in a folder. In ``f32`` the
    answer is also the same on another machine, up to rounding; ``bf16`` is faster if OpenVINO runs the graph
    and the processor supports it, and is f32 otherwise.

    Parameters
    ----------
    graph
        The ONNX graph as bytes.
    shape
        Channels, height and width of the input.
    precision
        The number format of the network's computation.
    """

    def __init__(self, graph: bytes, shape: tuple[int, int, int], precision: Precision = "f32") -> None:
        self._runtime = _OnnxRuntime(graph) if CLASSICAL in graph else _OpenVino(graph, shape, precision)

    def run(self, inputs: Iterable[NDArray[np.float32]]) -> Iterator[Outputs]:
        """The graph's outputs for each input, in their order.

        Parameters
        ----------
        inputs
            float32, each of shape (channels, height, width).

        Yields
        ------
        One float32 array for each output of the graph, without the batch axis.
        """
        for _, outputs in self.stream((None, one) for one in inputs):
            if outputs is not None:
                yield outputs

    def stream(
        self, items: Iterable[tuple[Item, NDArray[np.float32] | None]]
    ) -> Iterator[tuple[Item, Outputs | None]]:
        """Like :meth:`run`, but each input comes with an item that is returned with its outputs.

        An item whose input is None keeps its place in the order; its outputs are None.
        """
        return self._runtime.stream(items)


class _OnnxRuntime:
    """One slice after the other, each on all threads."""

    def __init__(self, graph: bytes) -> None:
        # Imported here, so that graphs that OpenVINO runs do not need it.
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = _threads
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name

    def stream(
        self, items: Iterable[tuple[Item, NDArray[np.float32] | None]]
    ) -> Iterator[tuple[Item, Outputs | None]]:
        for item, one in items:
            if one is None:
                yield item, None
                continue
            outputs = self._session.run(None, {self._input: one[None]})
            yield item, tuple(output[0].astype(np.float32, copy=False) for output in outputs)


class _OpenVino:
    """Runs several slices concurrently.

    One slice per request and one stream per core is the fastest setting measured (benchmarks/README.md).
    """

    def __init__(self, graph: bytes, shape: tuple[int, int, int], precision: Precision) -> None:
        core = ov.Core()
        model = core.read_model(graph, b"")
        model.reshape([1, *shape])
        supported = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        hint = precision if precision == "f32" or "BF16" in supported else "f32"
        # By default OpenVINO pins its threads to the first cores, for which several processes would compete.
        options: dict[str, Any] = {
            "PERFORMANCE_HINT": "THROUGHPUT",
            "INFERENCE_PRECISION_HINT": hint,
            "ENABLE_CPU_PINNING": False,
        }
        if _threads:
            options["INFERENCE_NUM_THREADS"] = _threads
        self._compiled = core.compile_model(model, "CPU", options)
        streams = self._compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
        self._idle = deque(self._compiled.create_infer_request() for _ in range(streams))

    def stream(
        self, items: Iterable[tuple[Item, NDArray[np.float32] | None]]
    ) -> Iterator[tuple[Item, Outputs | None]]:
        busy: deque[tuple[Item, ov.InferRequest | None]] = deque()
        try:
            for item, one in items:
                while not self._idle or (busy and busy[0][1] is None):
                    yield self._next(busy)
                if one is None:
                    busy.append((item, None))
                    continue
                request = self._idle.popleft()
                request.start_async({0: one[None]})
                busy.append((item, request))
            while busy:
                yield self._next(busy)
        finally:
            # If the caller stops early, requests are still running and must be returned.
            for _, request in busy:
                if request is not None:
                    self._finish(request)

    def _next(self, busy: "deque[tuple[Item, ov.InferRequest | None]]") -> tuple[Item, Outputs | None]:
        item, request = busy.popleft()
        return item, None if request is None else self._finish(request)

    def _finish(self, request: ov.InferRequest) -> Outputs:
        request.wait()
        # Copies: the tensors are the request's own and are overwritten by its next slice.
        outputs = tuple(tensor.data[0].astype(np.float32) for tensor in request.output_tensors)
        self._idle.append(request)
        return outputs
