"""``groundglass evaluate``: a detector on a labelled set, from its predictions to figures and a report."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd

from groundglass.audit.honest import HonestCard
from groundglass.bundle.facts import EvaluationFacts, Facts
from groundglass.commands.cards import slice_cards
from groundglass.commands.honest import Kept, honest_card, report_card
from groundglass.commands.judge import Judgement, judge, write_judgement
from groundglass.commands.progress import track
from groundglass.data.datasets import load_dataset
from groundglass.data.manifest import fingerprint, fingerprints_by_source
from groundglass.data.registry import DATASETS
from groundglass.detect.bundle import Answer
from groundglass.detect.detector import Detector, SliceFinding
from groundglass.detect.findings import Failure, labelled_predictions
from groundglass.errors import GroundglassError, ScanError
from groundglass.evaluate.evaluation import summary_rows
from groundglass.evaluate.predictions import write_predictions
from groundglass.recipe.divide import divide, divided_again, named_sources
from groundglass.recipe.recipe import parse_recipe
from groundglass.report.page import Report, Table, bundle_table, dataset_table, write_report
from groundglass.segment.masks import Segmentation


@dataclass(frozen=True)
class Labelled:
    """The rows that a detector is judged on.

    Attributes
    ----------
    rows
        Manifest rows of the part.
    name, part
        The dataset's name, and ``train``, ``val``, ``test`` or ``all``.
    external
        Whether none of it is from a source that the detector was trained on.
    split
        How the detector's own dataset was divided; blank for an external one.
    divided
        The whole manifest that they are from, divided as for training where it is the detector's own.
    fingerprint
        Of the whole manifest with its split.
    warnings
        What must be said of this choice.
    """

    rows: pd.DataFrame
    name: str
    part: str
    external: bool
    split: str
    divided: pd.DataFrame
    fingerprint: str
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """What came of an evaluation: on what, the judgement, what stands beside its AUC, and what was not read."""

    labelled: Labelled
    judgement: Judgement
    card: HonestCard
    failures: list[Failure]


def choose_rows(facts: Facts, recipe: str, dataset: str, part: str | None) -> Labelled:
    """The rows of ``dataset`` that a bundle is judged on.

    A set from other sources than the bundle's training data is an external one and taken whole, unless
    ``part`` says otherwise. The bundle's own set is divided as it was for training, and by default its test
    part is taken, or the validation part where it has none. Of a bundle that was trained on several datasets each
    is its own set; a source that its training left out is external.

    Raises
    ------
    GroundglassError
        If the part is empty, or the set shares sources with several that were trained on and is none of them.
    """
    manifest = load_dataset(dataset)
    name = dataset if dataset in DATASETS else Path(dataset).stem
    trained = set(facts.training.sources)
    if facts.training.fingerprints:
        manifest = named_sources(manifest, name)
        external = not _sources(manifest) & trained
    else:
        own = name if name in DATASETS else Path(dataset).name
        external = not _sources(manifest) & trained and own != facts.training.dataset
    if external:
        part = part or "all"
        rows = _part_of(manifest, part, dataset)
        masked = sorted(_sources(rows) & set(facts.training.masks))
        told = (f"The detector was trained on masks of slices of {', '.join(masked)}.",) if masked else ()
        return Labelled(rows, name, part, not masked, "", manifest, fingerprint(manifest), told)
    divided, scheme = _as_trained(facts, recipe, manifest, dataset)
    if part is None:
        part = "test" if (divided["split"] == "test").any() else "val"
    rows = _part_of(divided, part, dataset)
    print_of_data = fingerprint(divided)
    if facts.training.fingerprints and not _sources(rows) & trained:
        return Labelled(rows, name, part, True, "", divided, print_of_data, ())
    by_source = facts.training.fingerprints
    same = _prints_match(facts, divided) if by_source else print_of_data == facts.training.fingerprint
    return Labelled(rows, name, part, False, scheme, divided, print_of_data, _warnings(part, same_data=same))


def _sources(manifest: pd.DataFrame) -> set[str]:
    return set(manifest["source"]) - {""}


def _part_of(manifest: pd.DataFrame, part: str, dataset: str) -> pd.DataFrame:
    rows = manifest if part == "all" else manifest[manifest["split"] == part]
    if rows.empty:
        raise GroundglassError(f"{dataset}: its {part} part is empty; --part names another, or all")
    return rows.reset_index(drop=True)


def _as_trained(facts: Facts, recipe: str, manifest: pd.DataFrame, dataset: str) -> tuple[pd.DataFrame, str]:
    """A bundle's own dataset as it was divided for its training, and how that was."""
    trained_by = parse_recipe(recipe)
    if not facts.training.fingerprints:
        return divide(manifest, trained_by.data, trained_by.seed), facts.training.split
    if _prints_match(facts, manifest):  # the parts stand in it, as in the manifest of a run
        return manifest, facts.training.split
    return divided_again(manifest, dataset, trained_by.data, trained_by.seed)


def _prints_match(facts: Facts, divided: pd.DataFrame) -> bool:
    """Whether the training and validation scans of each source are those of the training, bit by bit."""
    known = facts.training.fingerprints
    return fingerprints_by_source(divided) == {s: known[s] for s in _sources(divided) & set(known)}


def _warnings(part: str, *, same_data: bool) -> tuple[str, ...]:
    """What must be said of the figures on a part of a bundle's own dataset."""
    warnings = []
    if not same_data:
        warnings.append(
            "The data is not that of the training run, bit by bit, though from the same source: slices of "
            "the training part may be among these."
        )
    if part in ("train", "all"):
        warnings.append("Slices that the detector was trained on are among these: the figures are too good.")
    if part == "val":
        warnings.append(
            "Epoch, calibration and threshold were chosen on these slices: the figures are too good."
        )
    return tuple(warnings)


def evaluate_detector(
    detector: Detector, labelled: Labelled, folder: Path, *, record: bool = False
) -> Outcome:
    """Answer for labelled slices, and write predictions, metrics, figures and the report.

    Parameters
    ----------
    detector
        Who answers.
    labelled
        What is judged on; see :func:`choose_rows`.
    folder
        Where to write ``predictions.csv``, ``metrics.json``, ``figures/`` and ``report.html``.
    record
        Enter the figures into the bundle and its model card.
    """
    predictions_file = folder / "predictions.csv"
    kept = Kept(detector, labelled.name, labelled.rows, external=labelled.external, part=labelled.part)
    failures = predict_rows(detector, labelled.rows, predictions_file, labelled.name, kept.keep)
    facts = detector.bundle.facts
    judgement = judge(predictions_file, facts.threshold, facts.patient_rule)
    card = honest_card(kept.trial(judgement.predictions), judgement.slices, labelled.divided, labelled.split)
    outcome = Outcome(labelled, judgement, card, failures)
    write_judgement(outcome.judgement, folder, _document(detector, outcome))
    write_report(_report(detector, outcome), folder / "report.html")
    if record:
        detector.bundle.record(facts_of(outcome))
    return outcome


def predict_rows(
    detector: Detector,
    rows: pd.DataFrame,
    path: Path,
    name: str,
    keep: Callable[[int, SliceFinding], None] | None = None,
) -> list[Failure]:
    """Answer for manifest rows of a dataset of this name, and write the predictions to ``path``.

    ``keep`` is called with the number of each row that could be read, from 0, and the finding.

    Returns
    -------
    The files that could not be read.

    Raises
    ------
    GroundglassError
        If none could be.
    """
    answers: list[Answer] = []
    segmentations: list[Segmentation] = []
    unlike: list[bool] = []
    failures: list[Failure] = []
    read = []
    findings = detector.predict_files([Path(p) for p in rows["path"]])
    for number, (_, finding) in enumerate(track(findings, "Reading slices", len(rows))):
        if isinstance(finding, ScanError):
            failures.append(Failure.of(finding))
        else:
            read.append(number)
            several = tuple(finding.probabilities.values())
            answers.append(
                Answer(finding.score, finding.probability, finding.verdict, several, finding.answered)
            )
            unlike.append(bool(detector.bundle.facts.unlike(finding.distance)))
            if finding.segmentation is not None:
                segmentations.append(finding.segmentation)
            if keep is not None:
                keep(number, finding)
    if not answers:
        raise GroundglassError(f"{name}: none of its {len(rows)} slices could be read; {failures[0].problem}")
    looked = segmentations if detector.segmenter is not None else None
    classes = detector.bundle.facts.classes
    write_predictions(labelled_predictions(rows.iloc[read], answers, classes, looked, unlike), path)
    return failures


def _document(detector: Detector, outcome: Outcome) -> dict[str, Any]:
    labelled = outcome.labelled
    return {
        "bundle": {"name": detector.bundle.facts.name, "graph_sha256": detector.bundle.facts.graph_sha256},
        "dataset": labelled.name,
        "part": labelled.part,
        "external": labelled.external,
        "fingerprint": labelled.fingerprint,
        "warnings": list(labelled.warnings),
        "failures": [vars(failure) for failure in outcome.failures],
        "honest_numbers": outcome.card.to_dict(),
    }


def facts_of(outcome: Outcome) -> EvaluationFacts:
    """What is entered into a bundle of an evaluation."""
    labelled = outcome.labelled
    return EvaluationFacts(
        dataset=labelled.name,
        part=labelled.part,
        external=labelled.external,
        fingerprint=labelled.fingerprint,
        date=date.today().isoformat(),
        slices=outcome.judgement.slices.count,
        figures=dict(summary_rows(outcome.judgement.slices)),
        grade=outcome.card.grade,
        grade_reasons=outcome.card.reasons,
    )


def kind_of(labelled: Labelled) -> str:
    """What sort of test this is, in words."""
    if labelled.external:
        return "External validation: no source of these slices was trained on."
    return f"The {labelled.part} part of the dataset that it was trained on."


def _report(detector: Detector, outcome: Outcome) -> Report:
    labelled, judgement, facts = outcome.labelled, outcome.judgement, detector.bundle.facts
    tables = [bundle_table(facts)]
    if (about := dataset_table(labelled.name)) is not None:
        tables.insert(0, about)
    if outcome.failures:
        rows = [(Path(f.path).name, f.problem) for f in outcome.failures]
        tables.append(Table("Not read", ("file", "reason"), rows))
    return Report(
        title=f"{facts.name} on {labelled.name}, {labelled.part}",
        headline=f"{judgement.headline()} {kind_of(labelled)}",
        card=report_card(outcome.card),
        warnings=list(labelled.warnings),
        figures_of_merit=judgement.tables(),
        pictures=list(judgement.pictures.values()),
        slices_title="Telling slices: the surest errors, then the surest right answers",
        slices_note="Left the slice, right the places that speak for COVID-19, in one scale for all slices.",
        slices=slice_cards(detector, judgement.telling_slices(), judgement.labels()),
        facts=tables,
    )
