"""What stands beside an AUC: the items of the card, and how each is said."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from groundglass.audit.check import NOTHING
from groundglass.evaluate.evaluation import Estimate
from groundglass.evaluate.summary import format_estimate
from groundglass.labels import POSITIVE

Unit = Literal["patient", "guessed group", "slice"]
AUC, SPLIT, PATIENTS, INTERVAL = "ROC AUC", "Split unit", "Patients", "Interval"
HEADER, LUNGS = "Header-only AUC", "Lungs-removed AUC"
ELSEWHERE, KNOWN = "External AUC", "Near-duplicates across parts"
UNITS = {"patient": "patients", "guessed group": "guessed groups", "slice": "slices"}
"""What units are called where there are several."""
NOT_TOLD = "the predictions alone do not tell"


class _Fact(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Beside(_Fact):
    """An AUC that is to be held beside the detector's.

    Attributes
    ----------
    auc
        Without a value where it was not measured.
    note
        How it was measured, or why it was not, without a full stop.
    applies
        Whether it makes sense of this detector.
    """

    auc: Estimate = NOTHING
    note: str = NOT_TOLD
    applies: bool = True

    def __str__(self) -> str:
        if self.auc.value is None:
            return f"{'not known' if self.applies else 'does not apply'}: {self.note}"
        return f"{format_estimate(self.auc)}; {self.note}"


class Known(_Fact):
    """Slices judged that are known again from the training or validation part, by file or by picture.

    Attributes
    ----------
    slices
        How many; None where that is not known.
    of
        How many were judged.
    without
        AUC without them and all other slices of their patients or groups.
    note
        Why it is not known.
    """

    slices: int | None = None
    of: int = 0
    without: Estimate = NOTHING
    note: str = NOT_TOLD

    def __str__(self) -> str:
        if self.slices is None:
            return f"not known: {self.note}"
        without = f"; AUC without their patients {format_estimate(self.without)}" if self.slices else ""
        return f"{self.slices} of {self.of} slices{without}"


class Elsewhere(_Fact):
    """The detector's AUC on a set of another source."""

    dataset: str
    auc: Estimate

    def __str__(self) -> str:
        return f"{format_estimate(self.auc)} on {self.dataset}"


class HonestItems(_Fact):
    """What stands beside an AUC; what is not known is so by default.

    Attributes
    ----------
    auc
        Of the detector, with its interval.
    basis
        What the interval is over, in words.
    unit
        What is known of who the slices are from: patients, guessed groups such as blocks of numbers, or nothing.
    patients
        How many there are; None where they are not all known.
    covid_units, other_units
        Patients or groups, or slices where neither is known, with COVID-19 and with other slices.
    external
        Whether no source of the slices was trained on; None where not known.
    split
        How the detector's own dataset was divided, as in its facts; "" where not known.
    part
        The part of it that was judged.
    torn
        Slices judged whose patient or named group lies in the training or validation part too; None where not
        known.
    header
        AUC from the files' headers alone.
    lungs_removed
        The detector's AUC where lungs are blacked out.
    elsewhere
        External AUCs that are on record.
    known
        Near-duplicates across parts.
    """

    auc: Estimate
    basis: str
    unit: Unit
    patients: int | None
    covid_units: int
    other_units: int
    external: bool | None = None
    split: str = ""
    part: str = ""
    torn: int | None = None
    header: Beside = Beside()
    lungs_removed: Beside = Beside()
    elsewhere: tuple[Elsewhere, ...] = ()
    known: Known = Known()

    @property
    def half_width(self) -> float | None:
        """Half the width of the AUC's interval."""
        low, high = self.auc.low, self.auc.high
        return None if low is None or high is None else round((high - low) / 2, 6)

    def rows(self) -> list[tuple[str, str]]:
        """Every item and what is known of it."""
        return [
            (AUC, format_estimate(self.auc)),
            (SPLIT, _split(self)),
            (PATIENTS, _patients(self)),
            (INTERVAL, _interval(self)),
            (HEADER, str(self.header)),
            (LUNGS, str(self.lungs_removed)),
            (ELSEWHERE, _elsewhere(self)),
            (KNOWN, str(self.known)),
        ]


def _split(card: HonestItems) -> str:
    unit = UNITS[card.unit]
    if card.external is None:
        return f"{unit}; split not known: {NOT_TOLD}"
    if card.external:
        return f"{unit}; another source than the training data"
    told = f"{unit}; split {card.split or 'not known'}, {card.part} part"
    if card.torn is None:
        return told
    torn = f"{card.torn} slices of patients or groups" if card.torn else "no patient or group"
    return f"{told}; {torn} in two parts"


def _patients(card: HonestItems) -> str:
    counts = f"{card.covid_units} with {POSITIVE}, {card.other_units} with not {POSITIVE}"
    if card.patients is not None:
        return f"{card.patients}; {counts}"
    return f"not known; {UNITS[card.unit]}: {counts}"


def _interval(card: HonestItems) -> str:
    half = card.half_width
    return "none" if half is None else f"±{half:.2f}; {card.basis}"


def _elsewhere(card: HonestItems) -> str:
    told = [*(["this set"] if card.external else []), *map(str, card.elsewhere)]
    if told:
        return "; ".join(told)
    return f"not known: {NOT_TOLD}" if card.external is None else "not tested"
