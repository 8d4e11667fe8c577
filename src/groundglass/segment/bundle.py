"""The bundle of a segmenter.

Its graph takes ``images``, float32 (batch, channels, height, width), and gives ``masks``, float32 (batch, 2,
height, width): the probability of lung, lesions included, and of lesion (ground-glass opacity or consolidation).
"""

from dataclasses import dataclass
from typing import ClassVar

from groundglass.bundle.card import card, describe_input
from groundglass.bundle.facts import Facts
from groundglass.bundle.store import StoredBundle, shipped_bundles
from groundglass.segment.facts import SegmenterFacts


@dataclass
class SegmenterBundle(StoredBundle[SegmenterFacts]):
    """A segmenter's bundle that was read from disk."""

    kind: ClassVar[str] = "segmenter"
    default: ClassVar[str] = "lungs-lite0"
    facts_type: ClassVar[type[Facts]] = SegmenterFacts

    @classmethod
    def is_shipped(cls, name: str) -> bool:
        """Whether a segmenter of this name comes with the package."""
        return name in shipped_bundles(cls.kind)

    @classmethod
    def card_of(cls, facts: SegmenterFacts) -> str:
        """The model card of facts, as Markdown."""
        rules = facts.post_processing
        what_it_does = [
            "It takes one axial chest CT slice and marks the lungs, lesions included, and the lesions in them"
            " (ground-glass opacity and consolidation, not told apart, whatever their cause). Where it finds no"
            " lungs it says that the picture is no chest CT, and why.",
            "",
            f"- Input: {describe_input(facts)}",
            f"- Thresholds on the probabilities: lungs {rules.lung_threshold:g},"
            f" lesions {rules.lesion_threshold:g}",
            f"- Computed in {facts.precision}, where the processor can",
        ]
        note = "95% intervals by bootstrap over cases. Distances are in pixels of the slice."
        return card(facts, what_it_does, positive="COVID-19", validation_note=note)
