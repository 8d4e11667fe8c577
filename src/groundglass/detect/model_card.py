"""The model card of a detector."""

from groundglass.bundle.card import card, describe_input
from groundglass.detect.abstention import Abstention
from groundglass.detect.facts import BundleFacts
from groundglass.detect.patient_rule import PatientRule


def model_card(facts: BundleFacts) -> str:
    """The card as Markdown."""
    what_it_does = [
        "It takes one axial chest CT slice and gives the probability that the slice shows COVID-19 (the positive"
        " class), with a map of the places that speak for it. It knows no other question: a slice of another"
        " body part, another projection or another disease also gets a probability.",
        "",
        "It is meant for research on, and teaching with, chest CT of adults. It is not meant to find, exclude or"
        " grade a disease in a patient, nor for children, for radiographs or for slices without lungs.",
        "",
        f"- Input: {describe_input(facts)}",
        f"- Calibration: temperature {facts.temperature:.3f}"
        + (f", bias {facts.bias:.3f}" if facts.bias else ""),
        *([f"- Classes: {', '.join(facts.classes)}; each gets a probability"] if facts.classes else []),
        *_verdicts(facts),
        *_patients(facts.patient),
    ]
    note = "95% intervals by bootstrap over patients. The positive class is COVID-19."
    return card(facts, what_it_does, positive="COVID-19", validation_note=note)


def _verdicts(facts: BundleFacts) -> list[str]:
    if facts.abstention is None:
        lines = [f"- Verdict: `covid` from a probability of {facts.threshold:.3f} on, else `not covid`"]
    else:
        lines = _abstention("Verdict", facts.abstention, "slices")
    if facts.furthest is not None:
        lines.append(
            "- `uncertain`, whatever its probability, is a slice whose features lie further than "
            f"{facts.furthest:.2f} from those of the training slices"
        )
    return lines


def _abstention(title: str, abstention: Abstention, of: str) -> list[str]:
    return [
        f"- {title}: {abstention.ends()}. {abstention.meaning(of)}",
        *[f"    - {line}" for line in abstention.chosen],
    ]


def _patients(rule: PatientRule | None) -> list[str]:
    if rule is None:
        return ["- Patients: no rule was chosen; the answer for a volume is not calibrated"]
    weights = ", ".join(f"{name} {weight:.3f}" for name, weight in rule.weights.items())
    return [
        f"- Patients: {rule.aggregation} (weights: {weights}; intercept {rule.intercept:.3f})"
        + ("" if rule.abstention else f", `covid` from a probability of {rule.threshold:.3f} on"),
        *[f"    - {line}" for line in rule.chosen],
        *(_abstention("Verdict on patients", rule.abstention, "patients") if rule.abstention else []),
    ]
