"""Tables of facts that every kind of report shows."""

from groundglass.bundle.facts import Facts
from groundglass.data.registry import DATASETS
from groundglass.report.page import Table


def bundle_table(facts: Facts) -> Table:
    """The detector or segmenter: what it is, what it was trained on, and what was chosen on what."""
    training = facts.training
    parts = "; ".join(
        f"{name} {part.slices} slices ({part.positive} positive)" for name, part in training.parts.items()
    )
    rows = [
        ("Bundle", facts.name),
        ("Description", facts.description.strip()),
        ("Trained on", f"{training.title} ({training.dataset}), split {training.split}: {parts}"),
        ("Licence of that data", training.licence),
        ("Citation", training.citation),
        ("Data fingerprint", training.fingerprint),
        ("Seed", str(training.seed)),
        ("Versions", ", ".join(f"{name} {version}" for name, version in training.versions.items())),
        ("Graph (SHA-256)", facts.graph_sha256),
        *[("Chosen", line) for line in facts.chosen],
    ]
    return Table(f"The {facts.kind}", (), rows)


def dataset_table(name: str) -> Table | None:
    """The dataset, where the registry knows it."""
    if name not in DATASETS:
        return None
    dataset = DATASETS[name]
    rows = [
        ("Dataset", f"{dataset.title} ({dataset.name})"),
        ("Description", dataset.description),
        ("Licence", dataset.licence),
        ("Citation", dataset.citation),
        ("Patients", dataset.patients),
        *[("Known problem", problem) for problem in dataset.known_problems],
    ]
    return Table("The data", (), rows)
