"""The facts that travel with a trained segmenter, as they stand in ``bundle.json``."""

from typing import Literal

from groundglass.bundle.engine import Precision
from groundglass.bundle.facts import Facts
from groundglass.segment.masks import PostProcessing


class SegmenterFacts(Facts):
    """The content of a segmenter's ``bundle.json``.

    Attributes
    ----------
    precision
        What the network is computed in, where the processor can.
    post_processing
        How its probabilities become masks.
    """

    kind: Literal["segmenter"] = "segmenter"
    precision: Precision = "f32"
    post_processing: PostProcessing = PostProcessing()
