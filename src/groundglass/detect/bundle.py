"""The bundle of a detector.

Its graph takes ``images``, float32 (batch, channels, height, width), and gives ``logits``, float32 (batch,), or
(batch, classes) where it knows several, and ``evidence``, float32 (batch, rows, columns): what each place of the
slice adds to the logit of COVID-19. A third output is optional: ``distance``, float32 (batch,), how far the
slice's features lie from those of the training slices. A detector that looks at the lungs alone holds their
segmenter in the subfolder ``segmenter``, unless it is one that is shipped. ``fingerprints.bin`` tells the slices
that it was trained and chosen on; the first bundles have none.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from groundglass.bundle.facts import Facts
from groundglass.bundle.fingerprints import FINGERPRINTS, Fingerprints
from groundglass.bundle.store import BundleError, Reader, StoredBundle, read_optional
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
    fingerprints
        Of the slices that it was trained and chosen on; None where it was exported without.
    """

    segmenter: SegmenterBundle | None = None
    fingerprints: Fingerprints | None = None

    kind: ClassVar[str] = "detector"
    default: ClassVar[str] = "detector-lesions"
    facts_type: ClassVar[type[Facts]] = BundleFacts

    @classmethod
    def card_of(cls, facts: BundleFacts) -> str:
        """The model card of facts, as Markdown."""
        return model_card(facts)

    @classmethod
    def _read(cls, read: Reader, source: Path) -> Self:
        bundle = super()._read(read, source)
        bundle.fingerprints = cls._fingerprints(read, bundle.facts, source)
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

    @staticmethod
    def _fingerprints(read: Reader, facts: BundleFacts, source: Path) -> Fingerprints | None:
        content = read_optional(read, FINGERPRINTS)
        if content is None:
            return None
        fingerprints = Fingerprints.from_bytes(content, source)
        if fingerprints.data != facts.training.fingerprint:
            raise BundleError(
                f"{source}: {FINGERPRINTS} is of other data than the bundle was trained on; get the bundle anew, "
                "or delete the file"
            )
        return fingerprints

    def content(self) -> dict[str, bytes]:
        """The bundle's files by their names."""
        inner, prints = self.segmenter, self.fingerprints
        content = super().content() | ({} if prints is None else {FINGERPRINTS: prints.to_bytes()})
        if inner is None or SegmenterBundle.is_shipped(self.facts.preprocessing.segmenter):
            return content
        return content | {SEGMENTER + name: data for name, data in inner.content().items()}
