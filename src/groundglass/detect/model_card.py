"""The model card: a bundle's facts in words (Mitchell et al. 2019, arXiv 1810.03993)."""

from groundglass.detect.facts import BundleFacts, EvaluationFacts, Part

RESEARCH_USE = "Research use only. This is no medical device and must not guide the care of a patient."


def model_card(facts: BundleFacts) -> str:
    """The card as Markdown."""
    training = facts.training
    lines = [
        f"# {facts.name}",
        "",
        f"{facts.description.strip()}",
        "",
        f"**{RESEARCH_USE}**",
        "",
        "## What it does",
        "",
        "It takes one axial chest CT slice and gives the probability that the slice shows COVID-19 (the positive"
        " class), with a map of the places that speak for it. It knows no other question: a slice of another"
        " body part, another projection or another disease also gets a probability.",
        "",
        f"- Input: {_input(facts)}",
        f"- Calibration: temperature {facts.temperature:.3f}",
        f"- Verdict: `covid` from a probability of {facts.threshold:.3f} on, else `not covid`",
        "",
        "## What it was trained on",
        "",
        f"{training.title} (`{training.dataset}`, split `{training.split}`), seed {training.seed},"
        f" best epoch {training.best_epoch}. Licence of the data: {training.licence}",
        f"Citation: {training.citation}",
        "",
        "| part | slices | COVID-19 | patients |",
        "|---|---|---|---|",
        *[_part_row(name, part) for name, part in training.parts.items()],
        "",
        f"Data fingerprint `{training.fingerprint}`. Versions: "
        + ", ".join(f"{name} {version}" for name, version in training.versions.items())
        + ".",
        "",
        "## What was chosen, and on what",
        "",
        *[f"- {line}" for line in facts.chosen],
        "",
        "## Figures",
        "",
        "95% intervals by bootstrap over patients. The positive class is COVID-19.",
        "",
        *_table(f"{training.dataset}, validation part (on which it was chosen: too good)", facts.validation),
    ]
    for evaluation in facts.evaluations:
        lines += _table(_heading(evaluation), evaluation.figures)
    if not facts.evaluations:
        lines += ["No test part has been evaluated yet.", ""]
    return "\n".join(lines).rstrip() + "\n"


def _input(facts: BundleFacts) -> str:
    p = facts.preprocessing
    fit = "aspect ratio kept, padded" if p.resize == "pad" else "stretched"
    window = f"HU through a window of level {p.window.level:g}, width {p.window.width:g}; grey as it is"
    return f"{p.size[0]} x {p.size[1]} pixels, {fit}; {window}"


def _part_row(name: str, part: Part) -> str:
    patients = "not known" if part.patients is None else str(part.patients)
    return f"| {name} | {part.slices} | {part.positive} | {patients} |"


def _heading(evaluation: EvaluationFacts) -> str:
    kind = "external: another source than its training data" if evaluation.external else "held out"
    return f"{evaluation.dataset}, {evaluation.part} ({kind}; {evaluation.slices} slices, {evaluation.date})"


def _table(title: str, figures: dict[str, str]) -> list[str]:
    rows = [f"| {name} | {value} |" for name, value in figures.items()]
    return [f"### {title}", "", "| figure | value |", "|---|---|", *rows, ""]
