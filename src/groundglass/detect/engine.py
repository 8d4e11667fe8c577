"""The engine that runs a bundle's graph: OpenVINO on the processor."""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import openvino as ov
from numpy.typing import NDArray


class Output(NamedTuple):
    """What the graph gives for one slice: the logit, and the evidence, float32 (rows, columns)."""

    logit: float
    evidence: NDArray[np.float32]


class Engine:
    """Runs an ONNX graph on one slice at a time, several in flight.

    A slice is never batched with others and always computed in 32 bits, so it gets the same answer alone, in
    a folder and on another machine (up to rounding). With one slice to a request and a stream to a core this
    is also the fastest setting that was measured (benchmarks/README.md).

    Parameters
    ----------
    graph
        The ONNX graph as bytes.
    shape
        Channels, height and width of the input.
    """

    def __init__(self, graph: bytes, shape: tuple[int, int, int]) -> None:
        core = ov.Core()
        model = core.read_model(graph, b"")
        model.reshape([1, *shape])
        options = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": "f32"}
        self._compiled = core.compile_model(model, "CPU", options)
        streams = self._compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
        self._idle = deque(self._compiled.create_infer_request() for _ in range(streams))

    def run(self, inputs: Iterable[NDArray[np.float32]]) -> Iterator[Output]:
        """Outputs in the order of ``inputs``, each float32 of shape (channels, height, width)."""
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

    def _finish(self, request: ov.InferRequest) -> Output:
        request.wait()
        logit = float(request.get_output_tensor(0).data[0])
        evidence = request.get_output_tensor(1).data[0].astype(np.float32)
        self._idle.append(request)
        return Output(logit, evidence)
