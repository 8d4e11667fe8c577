"""A segmenter without training: a graph of thresholds that suits phantoms in the lung window."""

import hashlib
from pathlib import Path

import onnx

from groundglass import __version__
from groundglass.bundle.facts import Choice, Part, TrainingFacts
from groundglass.preprocess import Preprocessing
from groundglass.segment.segmenter import (
    LUNGS_AND_LESIONS,
    LUNGS_AND_TYPES,
    SegmenterBundle,
    SegmenterFacts,
)

GRAPH = """
<ir_version: 8, opset_import: ["" : 17]>
thresholds (float[batch, 1, height, width] images) => (float[batch, 2, height, width] masks)
<float steepness = {200}, float air = {0.28}, float aerated = {0.47}, float diseased = {0.72}>
{
  above_air = Sub(images, air)
  above_aerated = Sub(images, aerated)
  below_diseased = Sub(diseased, images)
  scores = Concat<axis = 1>(above_air, above_aerated)
  from_below = Mul(scores, steepness)
  from_above = Mul(below_diseased, steepness)
  no_less = Sigmoid(from_below)
  no_more = Sigmoid(from_above)
  band = Mul(no_less, no_more)
  inverse = Neg(band)
  widened = MaxPool<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(inverse)
  eroded = Neg(widened)
  masks = MaxPool<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(eroded)
}
"""
"""Lung is dark grey to middle grey, lesion middle grey, each by sigmoids.

The opening by 3 x 3 pixels removes thin structures: vessels, noise and the blurred edge of the body.
"""
TYPES = """
  cuts = Constant<value_ints = [1, 1]>()
  lung, lesion = Split<axis = 1>(both, cuts)
  dense = Constant<value_float = 0.6>()
  above_dense = Sub(images, dense)
  score = Mul(above_dense, steepness)
  solid = Sigmoid(score)
  consolidation = Mul(lesion, solid)
  ground_glass = Sub(lesion, consolidation)
  masks = Concat<axis = 1>(lung, ground_glass, consolidation)
}
"""
"""Post-processing in the graph of lesion types: pixels brighter than 0.6 are consolidation."""


def threshold_segmenter(folder: Path, size: tuple[int, int] = (128, 128), *, types: bool = False) -> Path:
    """Write the segmenter's bundle for inputs of ``size`` into ``folder``, and return that.

    With ``types`` it distinguishes ground glass from consolidation.
    """
    text = GRAPH
    if types:
        text = (
            text.replace("[batch, 2,", "[batch, 3,").replace("  masks =", "  both =").rstrip().rstrip("}")
            + TYPES
        )
    graph = onnx.parser.parse_model(text)
    onnx.checker.check_model(graph)
    content = graph.SerializeToString()
    SegmenterBundle(_facts(content, size, types), content, "name: thresholds\n", folder).write(folder)
    return folder


def _facts(graph: bytes, size: tuple[int, int], types: bool) -> SegmenterFacts:
    return SegmenterFacts(
        name="thresholds",
        description="Thresholds on the grey, for tests.",
        groundglass=__version__,
        graph_sha256=hashlib.sha256(graph).hexdigest(),
        outputs=LUNGS_AND_TYPES if types else LUNGS_AND_LESIONS,
        preprocessing=Preprocessing(size=size, channels=1, mean=0.0, std=1.0),
        chosen=(Choice(what="thresholds", criterion="by hand"),),
        training=TrainingFacts(
            dataset="none",
            sources=("none",),
            title="No data",
            licence="none",
            citation="none",
            splits={"none": "none"},
            parts={"train": Part(slices=0, positive=0)},
            fingerprint="",
            seed=0,
            best_epoch=0,
            versions={},
        ),
    )
