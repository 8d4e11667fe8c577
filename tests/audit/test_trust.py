import re
from pathlib import Path
from typing import Any

import pytest

from groundglass.audit.measures import DECISIVE, TELLING
from groundglass.audit.trust import (
    CHANCE,
    ELSEWHERE,
    HEADER,
    INTERVAL,
    KNOWN,
    LUNGS,
    MANY_KNOWN,
    MEANINGS,
    NARROW,
    PATIENTS,
    RULES,
    SPLIT,
    WIDE,
    ExternalAuc,
    ReferenceAuc,
    SeenSlices,
    TrustCard,
)
from groundglass.bundle.evaluation import Estimate
from groundglass.evaluation.bootstrap import FEW_UNITS

DOCS = Path(__file__).parents[2] / "docs" / "honest-numbers.md"


def figure(value: float, low: float | None = None, high: float | None = None) -> Estimate:
    return Estimate(value=value, low=low, high=high)


def beside(value: float, low: float, high: float) -> ReferenceAuc:
    return ReferenceAuc(auc=figure(value, low, high), note="measured so")


def elsewhere(value: float, low: float, high: float) -> tuple[ExternalAuc, ...]:
    return (ExternalAuc(dataset="far-away", auc=figure(value, low, high)),)


BEST: dict[str, Any] = {
    "auc": figure(0.90, 0.86, 0.94),
    "basis": "95%, bootstrap over 80 patients",
    "unit": "patient",
    "patients": 80,
    "covid_units": 40,
    "other_units": 40,
    "external": False,
    "split": "official",
    "part": "test",
    "torn": 0,
    "header": beside(0.52, 0.42, 0.62),
    "lungs_removed": beside(0.55, 0.45, 0.65),
    "elsewhere": elsewhere(0.88, 0.84, 0.92),
    "known": SeenSlices(slices=0, of=200),
}
UNKNOWN: dict[str, Any] = {
    name: BEST[name] for name in ("auc", "basis", "patients", "covid_units", "other_units")
}
EXTERNAL: dict[str, Any] = {"external": True, "split": "", "part": "all", "torn": None, "elsewhere": ()}


def card(**changes: Any) -> TrustCard:
    return TrustCard(**(BEST | changes))


def test_nothing_holds_down_what_was_looked_at_in_all_ways() -> None:
    assert (card().grade, card().reasons) == ("A", ())


def test_a_bad_figure_can_be_believed() -> None:
    chance = card(auc=figure(0.50, 0.46, 0.54), elsewhere=elsewhere(0.51, 0.47, 0.55))
    assert chance.grade == "A"


@pytest.mark.parametrize(
    ("changes", "grade", "reason"),
    [
        ({"auc": Estimate(value=None)}, "E", "all slices are of one class"),
        ({"part": "train"}, "E", "was trained on"),
        ({"part": "val"}, "E", "was chosen on"),
        ({"part": "all"}, "E", "was trained and chosen on"),
        ({"known": SeenSlices(slices=11, of=200)}, "E", "11 of the 200"),
        ({"known": SeenSlices(slices=10, of=200)}, "D", "10 of the 200"),
        ({"known": SeenSlices(slices=1, of=200)}, "D", "1 of the 200"),
        ({"known": SeenSlices(of=200, note="the bundle holds no fingerprints")}, "C", "no fingerprints"),
        ({"torn": 1}, "D", "patients or groups of 1 slices"),
        ({"unit": "slice", "split": "random"}, "D", "made by slice"),
        ({"unit": "guessed group", "split": "random, fold 0 of 5"}, "D", "made by slice"),
        ({"unit": "slice", "split": "grouped"}, "D", "made by slice"),
        ({"unit": "patient", "split": "random"}, "A", ""),
        ({"unit": "slice", "split": "official"}, "C", "Patients are not known"),
        ({"unit": "guessed group", "split": "blocks"}, "C", "Patients are only guessed"),
        ({"unit": "guessed group", "split": "grouped"}, "C", "Patients are only guessed"),
        ({"sources": 2, "one_sided": True}, "D", "Each of the 2 sources has one class only"),
        ({"sources": 2}, "A", ""),
        ({"covid_units": 9}, "D", "fewer than 10 patients: 9"),
        ({"other_units": 9}, "D", "fewer than 10 patients: 9"),
        ({"covid_units": 10, "other_units": 10}, "A", ""),
        ({"lungs_removed": beside(0.80, 0.75, 0.85)}, "D", "0.80 (0.75 to 0.85)"),
        ({"lungs_removed": beside(0.80, 0.749, 0.85)}, "C", "With the lungs blacked out"),
        ({"lungs_removed": beside(0.65, 0.60, 0.70)}, "C", "With the lungs blacked out"),
        ({"lungs_removed": beside(0.65, 0.599, 0.70)}, "A", ""),
        (
            {"lungs_removed": ReferenceAuc(note="the lungs were not segmented")},
            "C",
            "not known: the lungs were not segmented",
        ),
        ({"lungs_removed": ReferenceAuc(note="it sees nothing else", applies=False)}, "A", ""),
        ({"header": beside(0.90, 0.86, 0.94)}, "D", "headers alone reach the AUC"),
        ({"header": beside(0.899, 0.86, 0.94)}, "C", "headers alone predict the label"),
        ({"header": beside(0.65, 0.60, 0.70)}, "C", "headers alone predict the label"),
        ({"header": beside(0.65, 0.599, 0.70)}, "A", ""),
        ({"header": ReferenceAuc(note="too few groups")}, "C", "not known: too few groups"),
        (
            {"elsewhere": elsewhere(0.55, 0.50, 0.60)},
            "D",
            "On another source, far-away, the AUC is 0.55 (0.50 to 0.60)",
        ),
        (
            {"elsewhere": elsewhere(0.55, 0.501, 0.60)},
            "C",
            "On another source, far-away, the AUC is 0.55 (0.50 to 0.60)",
        ),
        ({"elsewhere": elsewhere(0.82, 0.78, 0.859)}, "C", "On another source"),
        ({"elsewhere": elsewhere(0.82, 0.78, 0.86)}, "A", ""),
        ({"elsewhere": elsewhere(0.70, 0.40, 0.95)}, "A", ""),
        ({"elsewhere": ()}, "B", "No dataset from another source"),
        ({"auc": figure(0.80, 0.69, 0.90)}, "C", "±0.1"),
        ({"auc": figure(0.80, 0.70, 0.90)}, "B", "±0.10"),
        ({"auc": figure(0.89, 0.839, 0.94)}, "B", "±0.05"),
        ({"auc": figure(0.89, 0.84, 0.94)}, "A", ""),
        ({"auc": figure(0.90)}, "C", "no interval"),
    ],
    ids=str,
)
def test_each_rule_by_itself(changes: dict[str, Any], grade: str, reason: str) -> None:
    changed = card(**changes)
    assert changed.grade == grade, changed.reasons
    assert len(changed.reasons) == bool(reason)
    assert all(
        told.startswith(f"{grade}: ") and told.endswith(".") and reason in told for told in changed.reasons
    )


@pytest.mark.parametrize("header", [(0.56, 0.46, 0.66), (0.56, 0.52, 0.59)])
def test_headers_explain_no_auc_that_is_chance(header: tuple[float, float, float]) -> None:
    chance = {"auc": figure(0.51, 0.46, 0.55), "elsewhere": elsewhere(0.51, 0.47, 0.55)}
    assert card(header=beside(*header), **chance).grade == "A"


def test_an_external_set_is_its_own_external_test() -> None:
    external = card(**EXTERNAL)
    assert external.grade == "A"
    assert dict(external.rows())[ELSEWHERE] == "this set"
    assert "a different source" in dict(external.rows())[SPLIT]
    assert card(**EXTERNAL | {"unit": "slice"}).reasons == (
        "C: Patients are not known: the interval may be too narrow.",
    )
    also = card(**EXTERNAL | {"elsewhere": elsewhere(0.5, 0.4, 0.6)})
    assert also.grade == "D"
    assert dict(also.rows())[ELSEWHERE] == "this set; 0.50 (0.40 to 0.60) on far-away"


def test_predictions_alone_show_little() -> None:
    alone = TrustCard(unit="patient", **UNKNOWN)
    assert alone.grade == "C"
    assert [reason[0] for reason in alone.reasons] == ["C", "C", "C", "B"]
    rows = dict(alone.rows())
    assert all(rows[item].startswith("not known: ") for item in (HEADER, LUNGS, KNOWN, ELSEWHERE))
    assert "split not known" in rows[SPLIT]
    assert TrustCard(unit="slice", **UNKNOWN).grade == "D"
    assert TrustCard(unit="guessed group", **UNKNOWN).grade == "C"


def test_the_reasons_are_worst_first_and_once_per_item() -> None:
    bad = card(
        auc=figure(0.8, 0.72, 0.88),
        known=SeenSlices(slices=50, of=100, without=figure(0.7)),
        torn=3,
        unit="slice",
        lungs_removed=beside(0.9, 0.8, 0.95),
        header=ReferenceAuc(note="n"),
    )
    assert [reason[0] for reason in bad.reasons] == ["E", "D", "D", "C", "B"]
    assert bad.grade == "E"


def test_the_rows_say_what_is_known() -> None:
    rows = dict(card(known=SeenSlices(slices=2, of=203, without=figure(0.88, 0.8, 0.9))).rows())
    assert rows == {
        "ROC AUC": "0.90 (0.86 to 0.94)",
        "Split unit": "patients; split official, test set; no patient or group in two parts",
        "Sources": "not known",
        "Patients": "80; 40 with covid, 40 with not covid",
        "Interval": "±0.04; 95%, bootstrap over 80 patients",
        "Header-only AUC": "0.52 (0.42 to 0.62); measured so",
        "Lungs-removed AUC": "0.55 (0.45 to 0.65); measured so",
        "External AUC": "0.88 (0.84 to 0.92) on far-away",
        "Near-duplicates across parts": "2 of 203 slices; AUC without their patients 0.88 (0.80 to 0.90)",
    }
    assert dict(card(sources=3).rows())["Sources"] == "3"
    assert dict(card(sources=3, one_sided=True).rows())["Sources"] == "3; each has one class only"
    unknown = dict(card(patients=None, unit="guessed group", elsewhere=(), auc=figure(0.9)).rows())
    assert unknown["Patients"] == "not known; guessed groups: 40 with covid, 40 with not covid"
    assert unknown["Interval"] == "none"
    assert unknown["External AUC"] == "not tested"
    lungs = dict(card(lungs_removed=ReferenceAuc(note="it sees nothing else", applies=False)).rows())
    assert lungs["Lungs-removed AUC"] == "does not apply: it sees nothing else"


def test_the_dictionary_holds_grade_words_and_figures() -> None:
    held = card(elsewhere=()).to_dict()
    assert (held["grade"], held["reasons"]) == ("B", ["B: No dataset from another source was tested."])
    assert held["meaning"] == MEANINGS["B"]
    assert held["items"][ELSEWHERE] == "not tested"
    assert held["auc"] == {"value": 0.9, "low": 0.86, "high": 0.94}
    assert held["known"]["slices"] == 0


def test_the_rules_are_worst_first() -> None:
    grades = [rule.grade for rule in RULES]
    assert grades == sorted(grades, reverse=True)


def test_the_docs_hold_the_same_rules_and_meanings() -> None:
    text = DOCS.read_text(encoding="utf-8")
    table = re.findall(r"^\| ([B-E]) \| ([^|]+?) \| ([^|]+?) \|$", text, re.MULTILINE)
    assert [row[:2] for row in table] == [(rule.grade, rule.item) for rule in RULES]
    limits = {
        (HEADER, "D"): f"over {CHANCE:.2f}",
        (LUNGS, "D"): f"at least {DECISIVE:.2f}",
        (ELSEWHERE, "D"): f"over {CHANCE:.2f}",
        (ELSEWHERE, "C"): f"over {CHANCE:.2f}",
        (INTERVAL, "C"): f"±{WIDE:.2f}",
        (INTERVAL, "B"): f"±{NARROW:.2f}",
        (PATIENTS, "D"): f"fewer than {FEW_UNITS} patients",
        (KNOWN, "E"): f"more than {MANY_KNOWN:.0%}",
        (KNOWN, "D"): f"at most {MANY_KNOWN:.0%}",
    }
    told = {(item, grade): when for grade, item, when in table}
    assert all(limit in told[rule] for rule, limit in limits.items())
    reached = [when for grade, item, when in table if (grade, item) in (("C", HEADER), ("C", LUNGS))]
    assert reached.count(f"it is surely at least {TELLING:.2f}") == 2
    meanings = dict(re.findall(r"^\| \*\*([A-E])\*\* \| ([^|]+?) \|$", text, re.MULTILINE))
    assert meanings == MEANINGS
