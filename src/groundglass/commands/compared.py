"""What a comparison gives: the systems on each set of slices, and what they take."""

from dataclasses import dataclass
from typing import ClassVar

from groundglass.commands.members import Entrant, Protocol
from groundglass.evaluate.comparison import Comparison, System

TIMED_SLICES, TIMED_ROUNDS = 32, 3
"""Slices that each system answers to be timed, and how often; the systems take turns."""


@dataclass(frozen=True)
class Judged:
    """All systems on one set of slices.

    Attributes
    ----------
    name
        The dataset's name.
    part
        ``test``, ``val``, or ``all`` of an external dataset.
    systems
        Each with its members' answers.
    comparison
        What these say.
    """

    name: str
    part: str
    systems: list[System]
    comparison: Comparison

    @property
    def external(self) -> bool:
        """Whether nothing of it was trained on."""
        return self.part == "all"

    @property
    def title(self) -> str:
        """What it is, in words."""
        kinds = {
            "test": "test part",
            "val": "validation part, on which epochs and thresholds were chosen: too good",
            "all": "external, no one trained on it",
        }
        return f"{self.name}, {kinds[self.part]}"


@dataclass(frozen=True)
class Cost:
    """What a system takes: weights, megabytes of its graph, seconds of one training, slices it answers in a second.

    None where it is not known.
    """

    parameters: int | None
    megabytes: float
    training_seconds: float | None
    slices_per_second: float

    TITLES: ClassVar[tuple[str, ...]] = ("Parameters", "Size", "Training", "Slices a second")

    def texts(self) -> tuple[str, ...]:
        """The values with their units, in the order of ``TITLES``; blank where one is not known."""
        seconds = self.training_seconds
        return (
            "" if self.parameters is None else f"{self.parameters:,}",
            f"{self.megabytes:.3g} MB",
            "" if seconds is None else f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.0f} s",
            f"{self.slices_per_second:.0f}",
        )


@dataclass(frozen=True)
class Outcome:
    """What came of a comparison.

    Attributes
    ----------
    protocol, entrants
        What was compared, and how.
    judged
        On the common part first, then on each external dataset.
    cost
        By system, what it takes.
    """

    protocol: Protocol
    entrants: list[Entrant]
    judged: list[Judged]
    cost: dict[str, Cost]
