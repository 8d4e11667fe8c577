"""The bundle of a detector.

Its graph takes ``images``, float32 (batch, channels, height, width), and gives ``logits``, float32 (batch,), or
(batch, classes) where it knows several, and ``evidence``, float32 (batch, rows, columns): what each place of the
slice adds to the logit of COVID-19. A detector that looks at the lungs alone holds their segmenter in the
subfolder ``segmenter``, unless it is one that is shipped.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from groundglass.bundle.facts import Facts
from groundglass.bundle.store import BundleError, Reader, StoredBundle
from groundglass.detect.facts import BundleFacts
from groundglass.detect.model_card import model_card
from groundglass.segment.bundle import SegmenterBundle

SEGMENTER = "segmenter/"


@dataclass
class Bundle(StoredBundle[BundleFacts]):
    """A detector's bundle that was read from disk.

    Attributes
    ----------
    segmenter
        The segmenter that its preprocessing needs; None where it needs none.
    """

    segmenter: SegmenterBundle | None = None

    kind: ClassVar[str] = "detector"
    default: ClassVar[str] = "covid-ct-lite0"
    facts_type: ClassVar[type[Facts]] = BundleFacts

    @classmethod
    def card_of(cls, facts: BundleFacts) -> str:
        """The model card of facts, as Markdown."""
        return model_card(facts)

    @classmethod
    def _read(cls, read: Reader, source: Path) -> Self:
        bundle = super()._read(read, source)
        preprocessing = bundle.facts.preprocessing
        if preprocessing.lungs == "none":
            return bundle
        shipped = SegmenterBundle.is_shipped(preprocessing.segmenter)
        bundle.segmenter = (
            SegmenterBundle.load(preprocessing.segmenter)
            if shipped
            else SegmenterBundle.read_inner(read, SEGMENTER, source)
        )
        if bundle.segmenter.facts.graph_sha256 != bundle.facts.segmenter_sha256:
            raise BundleError(
                f"{source}: was trained with another {preprocessing.segmenter} than the one at hand; train it "
                "anew, or use the version of Groundglass that it was trained with"
            )
        return bundle

    def content(self) -> dict[str, bytes]:
        """The bundle's files by their names."""
        inner = self.segmenter
        if inner is None or SegmenterBundle.is_shipped(self.facts.preprocessing.segmenter):
            return super().content()
        return super().content() | {SEGMENTER + name: data for name, data in inner.content().items()}
