"""The engine that runs a bundle's graph: OpenVINO on the processor."""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import numpy as np
import openvino as ov
from numpy.typing import NDArray

Precision = Literal["f32", "bf16"]
Outputs = tuple[NDArray[np.float32], ...]


class Engine:
    """Runs an ONNX graph on one slice at a time, several in flight.

    A slice is never batched with others, so it gets the same answer alone and in a folder. In ``f32`` it also
    gets the same on another machine, up to rounding; ``bf16`` is faster where the processor computes in it, and
    is f32 where it does not. With one slice to a request and a stream to a core this is the fastest setting
    that was measured (benchmarks/README.md).

    Parameters
    ----------
    graph
        The ONNX graph as bytes.
    shape
        Channels, height and width of the input.
    precision
        What the network is computed in.
    """

    def __init__(self, graph: bytes, shape: tuple[int, int, int], precision: Precision = "f32") -> None:
        core = ov.Core()
        model = core.read_model(graph, b"")
        model.reshape([1, *shape])
        supported = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        hint = precision if precision == "f32" or "BF16" in supported else "f32"
        options: dict[str, Any] = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": hint}
        self._compiled = core.compile_model(model, "CPU", options)
        streams = self._compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
        self._idle = deque(self._compiled.create_infer_request() for _ in range(streams))

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
        busy: deque[ov.InferRequest] = deque()
        try:
            for one in inputs:
                if not self._idle:
                    yield self._finish(busy.popleft())
                request = self._idle.popleft()
                request.start_async({0: one[None]})
                busy.append(request)
            while busy:
                yield self._finish(busy.popleft())
        finally:
            # Whoever stops early leaves requests under way; they must come back.
            for request in busy:
                self._finish(request)

    def _finish(self, request: ov.InferRequest) -> Outputs:
        request.wait()
        # Copies: the tensors are the request's own and are overwritten by its next slice.
        outputs = tuple(tensor.data[0].astype(np.float32) for tensor in request.output_tensors)
        self._idle.append(request)
        return outputs
