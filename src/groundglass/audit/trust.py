"""How far an AUC can be trusted: the items that a reader must know, and a grade by simple rules."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from groundglass.audit.check import NOTHING
from groundglass.audit.measures import severity_of, surely_over, surely_under
from groundglass.bundle.evaluation import Estimate, format_estimate
from groundglass.bundle.facts import Grade, GradeReason
from groundglass.evaluation.bootstrap import FEW_UNITS
from groundglass.labels import POSITIVE

Unit = Literal["patient", "guessed group", "slice"]
AUC, SPLIT, SOURCES, PATIENTS, INTERVAL = "ROC AUC", "Split unit", "Sources", "Patients", "Interval"
HEADER, LUNGS = "Header-only AUC", "Lungs-removed AUC"
ELSEWHERE, KNOWN = "External AUC", "Near-duplicates across parts"
UNITS = {"patient": "patients", "guessed group": "guessed groups", "slice": "slices"}
"""The plural of each unit."""
NOT_TOLD = "the predictions alone do not show it"
NOT_STATED = "it is unknown what the detector was trained on"


class _Item(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ReferenceAuc(_Item):
    """An AUC to compare with the detector's.

    Attributes
    ----------
    auc
        Without a value if it was not measured.
    note
        How it was measured, or why it was not, without a full stop.
    applies
        Whether it makes sense for this detector.
    """

    auc: Estimate = NOTHING
    note: str = NOT_TOLD
    applies: bool = True

    def __str__(self) -> str:
        if self.auc.value is None:
            return f"{'not known' if self.applies else 'does not apply'}: {self.note}"
        return f"{format_estimate(self.auc)}; {self.note}"


class SeenSlices(_Item):
    """Evaluated slices that are also in the training or validation set, recognised by file or picture.

    Attributes
    ----------
    slices
        Their number; None if that is not known.
    of
        Number of evaluated slices.
    without
        The AUC without them and all other slices of their patients or groups.
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


class ExternalAuc(_Item):
    """The detector's AUC on a dataset from another source."""

    dataset: str
    auc: Estimate

    def __str__(self) -> str:
        return f"{format_estimate(self.auc)} on {self.dataset}"


class TrustItems(_Item):
    """The facts that a reader of an AUC needs; by default, nothing is known.

    Attributes
    ----------
    auc
        The detector's AUC with its interval.
    basis
        What was resampled for the interval, in words.
    unit
        What is known about the origin of slices: patients, guessed groups such as blocks of numbers, or nothing.
    patients
        Number of patients; None if they are not all known.
    covid_units, other_units
        Patients or groups, or slices if neither is known, with COVID-19 and controls.
    external
        Whether none of the slices' sources was trained on; None if not known.
    sources
        Number of sources of the evaluated slices; None if they are not all known.
    one_sided
        Whether there are several sources, and each has slices of one class only.
    split
        How the detector's own dataset was split, as in its facts; "" if not known.
    part
        The part of the dataset that was evaluated.
    torn
        Evaluated slices whose patient or named group is also in the training or validation set; None if not
        known.
    header
        The AUC from the files' headers alone.
    lungs_removed
        The detector's AUC with the lungs blacked out.
    elsewhere
        Recorded external AUCs.
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
    sources: int | None = None
    one_sided: bool = False
    split: str = ""
    part: str = ""
    torn: int | None = None
    header: ReferenceAuc = ReferenceAuc()
    lungs_removed: ReferenceAuc = ReferenceAuc()
    elsewhere: tuple[ExternalAuc, ...] = ()
    known: SeenSlices = SeenSlices()

    @property
    def half_width(self) -> float | None:
        """Half the width of the AUC's interval."""
        low, high = self.auc.low, self.auc.high
        return None if low is None or high is None else round((high - low) / 2, 6)

    def rows(self) -> list[tuple[str, str]]:
        """Every item and what is known about it."""
        return [
            (AUC, format_estimate(self.auc)),
            (SPLIT, _split(self)),
            (SOURCES, _sources(self)),
            (PATIENTS, _patients(self)),
            (INTERVAL, _interval(self)),
            (HEADER, str(self.header)),
            (LUNGS, str(self.lungs_removed)),
            (ELSEWHERE, _elsewhere(self)),
            (KNOWN, str(self.known)),
        ]


def _split(card: TrustItems) -> str:
    unit = UNITS[card.unit]
    if card.external is None:
        return f"{unit}; split not known: {NOT_STATED}"
    if card.external:
        return f"{unit}; a different source from the training data"
    part = "all slices" if card.part == "all" else f"{card.part} set"
    told = f"{unit}; split {card.split or 'not known'}, {part}"
    if card.torn is None:
        return told
    torn = f"{card.torn} slices of patients or groups" if card.torn else "no patient or group"
    return f"{told}; {torn} in two parts"


def _sources(card: TrustItems) -> str:
    if card.sources is None:
        return "not known"
    return f"{card.sources}; each has one class only" if card.one_sided else str(card.sources)


def _patients(card: TrustItems) -> str:
    counts = f"{card.covid_units} with {POSITIVE}, {card.other_units} with not {POSITIVE}"
    if card.patients is not None:
        return f"{card.patients}; {counts}"
    return f"not known; {UNITS[card.unit]}: {counts}"


def _interval(card: TrustItems) -> str:
    half = card.half_width
    return "none" if half is None else f"±{half:.2f}; {card.basis}"


def _elsewhere(card: TrustItems) -> str:
    told = [*(["this set"] if card.external else []), *map(str, card.elsewhere)]
    if told:
        return "; ".join(told)
    return f"not known: {NOT_STATED}" if card.external is None else "not tested"


Value = int | float | str | Estimate
Reason = tuple[str, dict[str, Value]]
"""The name in ``groundglass.bundle.facts.REASONS``, and the values of its sentence."""
MEANINGS: dict[Grade, str] = {
    "A": "No check casts doubt on the AUC.",
    "B": "Plausible, but its interval is not narrow, or no other source was tested.",
    "C": "Only an indication: something other than the disease may explain the AUC, or too little is known.",
    "D": "Do not quote it alone: something else explains the AUC or contradicts it.",
    "E": "Not a test.",
}
CHANCE = 0.5
WIDE, NARROW = 0.10, 0.05
"""Half-widths of the interval: above the first the AUC is only a hint, up to the second it is precise."""
MANY_KNOWN = 0.05
"""If the detector was trained or chosen on more than this share of the slices, there is no test; fewer can be
left out."""


class TrustCard(TrustItems):
    """The items, and the grade that follows from them."""

    @property
    def grade_reasons(self) -> tuple[GradeReason, ...]:
        """What lowers the grade, worst first; only the worst reason of each item."""
        found: dict[str, GradeReason] = {}
        for rule in RULES:
            if rule.item not in found and (reason := rule.reason(self)):
                name, values = reason
                found[rule.item] = GradeReason(grade=rule.grade, rule=name, values=values)
        return tuple(found.values())

    @property
    def grade(self) -> Grade:
        """From A, trustworthy, to E, not a test: the worst of the reasons."""
        return max((reason.grade for reason in self.grade_reasons), default="A")

    @property
    def reasons(self) -> tuple[str, ...]:
        """The reasons as sentences, such as ``D: The AUC ...``."""
        return tuple(map(str, self.grade_reasons))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, the grade first; the items also as text."""
        graded = {"grade": self.grade, "meaning": MEANINGS[self.grade], "reasons": list(self.reasons)}
        return {**graded, "items": dict(self.rows()), **self.model_dump(mode="json")}


@dataclass(frozen=True)
class Rule:
    """A rule that lowers the grade; docs/honest-numbers.md lists the rules in words, in the same order.

    Attributes
    ----------
    grade
        The best grade that remains possible.
    item
        The item that it concerns.
    reason
        Maps a card to the reason and its values; None if the rule does not apply.
    """

    grade: Grade
    item: str
    reason: Callable[[TrustItems], Reason | None]


def _because(rule: str, /, when: bool = True, **values: Value) -> Reason | None:
    return (rule, values) if when else None


def _evaluated_on_training(card: TrustItems) -> Reason | None:
    if card.external is not False or card.part == "test":
        return None
    return _because({"train": "trained on", "all": "trained and chosen on"}.get(card.part, "chosen on"))


def _seen(card: TrustItems, many: bool) -> Reason | None:
    count, of = card.known.slices or 0, card.known.of
    as_many = count > 0 and (count > MANY_KNOWN * of) == many
    return _because("seen in training", as_many, count=count, of=of)


def _slice_by_slice(card: TrustItems) -> Reason | None:
    scheme = card.split.split(",")[0]
    if card.external or card.unit == "patient":
        return None
    if card.unit == "slice" and not scheme:
        return _because("split not known")
    return _because("split by slice", scheme == "random" or (scheme == "grouped" and card.unit == "slice"))


def _label_is_source(card: TrustItems) -> Reason | None:
    return _because("label is the source", card.one_sided, sources=card.sources or 0)


def _unknown_patients(card: TrustItems) -> Reason | None:
    why = "patients guessed" if card.unit == "guessed group" else "patients not known"
    return _because(why, card.unit != "patient")


def _few(card: TrustItems) -> Reason | None:
    fewest = min(card.covid_units, card.other_units)
    values: dict[str, Value] = {"least": FEW_UNITS, "units": UNITS[card.unit], "fewest": fewest}
    return _because("few patients", fewest < FEW_UNITS, **values)


def _lungs(card: TrustItems, severity: str) -> Reason | None:
    auc = card.lungs_removed.auc
    return _because("lungs removed", severity_of(auc) == severity, auc=auc)


def _header_reaches(card: TrustItems) -> Reason | None:
    header, own = card.header.auc, card.auc
    reached = header.value is not None and own.value is not None and header.value >= own.value
    by_chance = not (surely_over(header, CHANCE) and surely_over(own, CHANCE))
    return _because("headers reach the AUC", reached and not by_chance, auc=header)


def _header_tells(card: TrustItems) -> Reason | None:
    auc = card.header.auc
    return _because("headers predict the label", severity_of(auc) is not None, auc=auc)


def _worse_elsewhere(card: TrustItems, chance: bool) -> Reason | None:
    least = card.auc.low if card.auc.low is not None else card.auc.value
    for one in card.elsewhere:
        if least is not None and surely_under(one.auc, least) and surely_over(one.auc, CHANCE) != chance:
            return _because("worse on another source", auc=one.auc, dataset=one.dataset)
    return None


def _wide(card: TrustItems, limit: float) -> Reason | None:
    half = card.half_width
    if half is None:
        return _because("no interval", limit == WIDE and card.auc.value is not None)
    return _because("wide interval", half > limit, half_width=half)


def _unmeasured(item: str, other: ReferenceAuc) -> Reason | None:
    return _because("not measured", other.applies and other.auc.value is None, item=item, why=other.note)


def _not_tested(card: TrustItems) -> Reason | None:
    why = "not known on another source" if card.external is None else "no other source tested"
    return _because(why, not (card.external or card.elsewhere))


RULES = (
    Rule("E", AUC, lambda card: _because("no AUC", card.auc.value is None)),
    Rule("E", SPLIT, _evaluated_on_training),
    Rule("E", KNOWN, partial(_seen, many=True)),
    Rule("D", KNOWN, partial(_seen, many=False)),
    Rule("D", SPLIT, lambda card: _because("groups in two parts", bool(card.torn), count=card.torn or 0)),
    Rule("D", SPLIT, _slice_by_slice),
    Rule("D", SOURCES, _label_is_source),
    Rule("D", PATIENTS, _few),
    Rule("D", HEADER, _header_reaches),
    Rule("D", LUNGS, partial(_lungs, severity="error")),
    Rule("D", ELSEWHERE, partial(_worse_elsewhere, chance=True)),
    Rule("C", SPLIT, _unknown_patients),
    Rule("C", INTERVAL, partial(_wide, limit=WIDE)),
    Rule("C", HEADER, _header_tells),
    Rule("C", HEADER, lambda card: _unmeasured(HEADER, card.header)),
    Rule("C", LUNGS, partial(_lungs, severity="warning")),
    Rule("C", LUNGS, lambda card: _unmeasured(LUNGS, card.lungs_removed)),
    Rule("C", ELSEWHERE, partial(_worse_elsewhere, chance=False)),
    Rule(
        "C",
        KNOWN,
        lambda card: _because("not measured", card.known.slices is None, item=KNOWN, why=card.known.note),
    ),
    Rule("B", INTERVAL, partial(_wide, limit=NARROW)),
    Rule("B", ELSEWHERE, _not_tested),
)
"""The worst first."""
