"""``groundglass evaluate``: evaluate a detector on a labelled set: predictions, figures and a report."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd

from groundglass.audit.trust import TrustCard
from groundglass.audit.trust_measurements import SliceCollector, trust_card
from groundglass.bundle.evaluation import Evaluation, OverlapEvaluation
from groundglass.bundle.facts import EvaluationFacts, Facts
from groundglass.bundle.store import StoredBundle, kind_of_bundle
from groundglass.data.datasets import Manifest
from groundglass.data.manifest import fingerprint
from groundglass.data.registry import DATASETS
from groundglass.detect.detector import Detector
from groundglass.detect.findings import Failure, SliceFinding, labelled_predictions
from groundglass.errors import GroundglassError, ScanError, need_extra
from groundglass.evaluation.overlap import by_case, evaluate_overlap
from groundglass.evaluation.predictions import STRUCTURES, read_overlaps, write_overlaps, write_predictions
from groundglass.files import write_json
from groundglass.progress import track
from groundglass.recipe.divide import named_sources
from groundglass.report.page import Report, Table, bundle_table, dataset_table, write_report
from groundglass.report.predictions import (
    EvaluatedPredictions,
    evaluate_file,
    evaluate_predictions,
    trust_box,
    write_metrics,
)
from groundglass.report.slices import mask_cards, overlap_tables, slice_cards, worst_slices
from groundglass.segment.notebook import figures_html
from groundglass.segment.segmenter import Segmenter


@dataclass(frozen=True)
class Labelled:
    """The rows that a detector is evaluated on.

    Attributes
    ----------
    rows
        Manifest rows of the part.
    name, part
        The dataset's name, and ``train``, ``val``, ``test`` or ``all``.
    external
        Whether none of them comes from a source that the detector was trained on; None if that is not known.
    split
        How the detector's own dataset was divided; blank for an external one.
    divided
        The whole manifest that they come from, divided as for training if it is the detector's own.
    fingerprint
        Of the whole manifest with its split.
    warnings
        Warnings about this choice.
    """

    rows: pd.DataFrame
    name: str
    part: str
    external: bool | None
    split: str
    divided: pd.DataFrame
    fingerprint: str
    warnings: tuple[str, ...]
    setting: str = ""

    @property
    def kind(self) -> str:
        """The kind of test, in words."""
        return self._kind + (f" Setting: {self.setting}." if self.setting else "")

    @property
    def _kind(self) -> str:
        if self.external is None:
            return "It is unknown what the model was trained on: it may have seen these slices."
        if self.external:
            return "External validation: none of the sources of these slices was used for training."
        of = "All slices" if self.part == "all" else f"The {self.part} set"
        return f"{of} of the dataset that it was trained on."

    def facts(self, slices: Evaluation | OverlapEvaluation, **further: Any) -> EvaluationFacts:
        """What a bundle records about an evaluation on these rows."""
        shared = {name: getattr(self, name) for name in ("part", "external", "fingerprint", "setting")}
        today = date.today().isoformat()
        return EvaluationFacts(dataset=self.name, date=today, slices=slices, **shared, **further)

    def document(self, facts: Facts) -> dict[str, Any]:
        """The head of ``metrics.json``: which bundle was evaluated, and on what."""
        return {
            "bundle": {"name": facts.name, "graph_sha256": facts.graph_sha256},
            "dataset": self.name,
            "part": self.part,
            "external": self.external,
            "fingerprint": self.fingerprint,
            **({"setting": self.setting} if self.setting else {}),
            "warnings": list(self.warnings),
        }

    def report(self, facts: Facts, headline: str, *tables: Table, **content: Any) -> Report:
        """The report of an evaluation on these rows; ``tables`` follow the dataset's and the bundle's."""
        about = dataset_table(self.name)
        return Report(
            title=f"{facts.name} on {self.name}, {self.part}",
            headline=f"{headline} {self.kind}",
            warnings=list(self.warnings),
            facts=[*([] if about is None else [about]), bundle_table(facts), *tables],
            **content,
        )


@dataclass(frozen=True, repr=False)
class DetectorEvaluation:
    """The result of an evaluation.

    Attributes
    ----------
    labelled
        What the detector was evaluated on; None for predictions of an unknown detector.
    evaluated
        The figures per slice and per patient, with their intervals.
    card
        How far to trust the AUC.
    failures
        The files that could not be read.
    folder
        Where the predictions, figures and report are.
    """

    labelled: Labelled | None
    evaluated: EvaluatedPredictions
    card: TrustCard
    failures: list[Failure]
    folder: Path

    def __repr__(self) -> str:
        return f"DetectorEvaluation({self.evaluated.headline()} Grade {self.card.grade}, {self.folder})"

    def _repr_html_(self) -> str:
        title = f"{self.evaluated.headline()} Grade {self.card.grade}. The positive class is COVID-19."
        return figures_html(title, self.evaluated.table().rows, self.card.reasons)

    @property
    def facts(self) -> EvaluationFacts:
        """What a bundle records about it; only for a known detector."""
        assert self.labelled is not None
        evaluated, card = self.evaluated, self.card
        grade = {"grade": card.grade, "grade_reasons": card.grade_reasons}
        return self.labelled.facts(evaluated.slices, patients=evaluated.patients, **grade)


def evaluate(
    detector: Detector | Segmenter | Path | str,
    data: Manifest | Path | str | None = None,
    folder: Path | str | None = None,
    *,
    part: str | None = None,
    record: bool = False,
    lungs: bool = True,
    setting: str | None = None,
    tell: Callable[[str], object] | None = None,
    divide: Callable[[Any], Any] = lambda network: network,
) -> "DetectorEvaluation | MaskJudgement":
    """Evaluate a detector on labelled slices, a segmenter on slices with masks, or a table of predictions.

    Parameters
    ----------
    detector
        A detector or segmenter; or anything that ``load`` accepts: the name of a shipped bundle, a bundle or
        a training run; or a labelled ``predictions.csv`` of any detector.
    data
        A manifest, a dataset's name, a manifest CSV, or a folder with a subfolder per class; None for a
        ``predictions.csv``.
    folder
        Where to write the predictions, metrics, figures and report; by default a folder in ``evaluations``.
    part
        ``train``, ``val``, ``test`` or ``all``; by default the test set of a detector's own dataset, and all of
        any other, which is external validation.
    record
        Record the figures in the bundle and its model card.
    lungs, setting
        See Detector.load; not used if a detector or segmenter is given.
    tell
        Called with a line about the kind of evaluation, and one for each warning, before the work starts.
    divide
        Spreads a network's work over several processes; see groundglass.scale.files.divided.

    Raises
    ------
    GroundglassError
        If there is no such detector or data, the part is empty, or no slice can be read.
    """
    if data is None:
        if isinstance(detector, (Detector, Segmenter)) or Path(detector).suffix.lower() != ".csv":
            raise GroundglassError(f"{detector}: needs labelled scans; give them as the second argument")
        chosen = Path(folder or Path("evaluations", Path(detector).stem))
        return DetectorEvaluation(None, *evaluate_file(Path(detector), chosen), [], chosen)
    if not isinstance(detector, (Detector, Segmenter)):
        segments = kind_of_bundle(detector) == "segmenter"
        detector = (
            Segmenter.load(detector) if segments else Detector.load(detector, lungs=lungs, setting=setting)
        )
    network: Detector | Segmenter = divide(detector)
    if record:
        network.bundle.check_enterable()
    labelled = choose_rows(network.bundle, data, part)
    if isinstance(network, Detector):
        labelled = replace(labelled, setting=network.bundle.facts.setting)
    name = f"{network.bundle.facts.name}-on-{labelled.name}-{labelled.part}"
    chosen = Path(folder or Path("evaluations", name))
    if tell is not None:
        for line in (labelled.kind, *(f"warning: {warning}" for warning in labelled.warnings)):
            tell(line)
    if isinstance(network, Segmenter):
        return evaluate_segmenter(network, labelled, chosen, record=record)
    return evaluate_detector(network, labelled, chosen, record=record)


def choose_rows(bundle: StoredBundle[Any], dataset: Manifest | Path | str, part: str | None) -> Labelled:
    """The rows of ``dataset`` that a bundle is evaluated on.

    A dataset from other sources than the bundle's training data is external, and all of it is used unless
    ``part`` is given. The bundle knows the split of its own data: by default the test set is used, or the
    validation set if there is none. Each of several training datasets counts as the bundle's own; a source
    that its training left out is external. If it is unknown what a model was trained on, all of the dataset is used
    unless ``part`` is given.

    Raises
    ------
    GroundglassError
        If the part is empty, or the dataset shares sources with the training data but has none of its files.
    """
    facts = bundle.facts
    given = dataset if isinstance(dataset, Manifest) else Manifest.load(dataset)
    manifest, dataset = given.rows, given.name
    name = dataset if dataset in DATASETS else Path(dataset).stem
    if not facts.training.known:
        part = part or "all"
        return Labelled(
            _part_of(manifest, part, dataset), name, part, None, "", manifest, fingerprint(manifest), ()
        )
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
    divided, warnings = _as_trained(bundle, manifest, dataset, part)
    if part is None:
        part = "test" if (divided["split"] == "test").any() else "val"
    rows = _part_of(divided, part, dataset)
    print_of_data = fingerprint(divided)
    if facts.training.fingerprints and not _sources(rows) & trained:
        return Labelled(rows, name, part, True, "", divided, print_of_data, ())
    named = name if name in DATASETS else Path(dataset).name
    scheme = facts.training.splits.get(named, facts.training.split)
    return Labelled(rows, name, part, False, scheme, divided, print_of_data, (*warnings, *_warnings(part)))


def _sources(manifest: pd.DataFrame) -> set[str]:
    return set(manifest["source"]) - {""}


def _part_of(manifest: pd.DataFrame, part: str, dataset: str) -> pd.DataFrame:
    rows = manifest if part == "all" else manifest[manifest["split"] == part]
    if rows.empty:
        raise GroundglassError(f"{dataset}: its {part} set is empty; choose another with --part, or all")
    return rows.reset_index(drop=True)


def _as_trained(
    bundle: StoredBundle[Any], manifest: pd.DataFrame, dataset: str, part: str | None
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The scans of a bundle's own dataset with their part, as the bundle stores it, and warnings."""
    stored = bundle.fingerprints
    parts = pd.Series([""] * len(manifest) if stored is None else stored.parts_of(manifest["path"]))
    known = (parts != "").to_numpy()
    if known.any():
        rows = manifest.assign(split=parts.to_numpy())[known].reset_index(drop=True)
        if known.all() or part in ("train", "val"):
            return rows, ()
        return rows, (
            f"{(~known).sum()} of {len(known)} files are not in the bundle's split and were left out.",
        )
    if part is None:
        raise GroundglassError(
            f"{dataset}: comes from a source that {bundle.facts.name} was trained on, but the bundle's split has "
            "none of its files, so its test set is not known; choose a set with --part, or all"
        )
    return manifest, (
        "The files are not those of the training run, although they come from the same source: slices "
        "of the training set may be among these.",
    )


def _warnings(part: str) -> tuple[str, ...]:
    """Warnings about the figures on a part of a bundle's own dataset."""
    if part == "val":
        return (
            "Epoch, calibration and threshold were chosen on these slices: the figures are too optimistic.",
        )
    trained = "The detector was trained on some of these slices: the figures are too optimistic."
    return (trained,) if part in ("train", "all") else ()


def evaluate_detector(
    detector: Detector, labelled: Labelled, folder: Path, *, record: bool = False
) -> DetectorEvaluation:
    """Run a detector on labelled slices, and write predictions, metrics, figures and the report.

    Parameters
    ----------
    detector
        The detector.
    labelled
        What to evaluate on; see :func:`choose_rows`.
    folder
        Where to write ``predictions.csv``, ``metrics.json``, ``figures/`` and ``report.html``.
    record
        Record the figures in the bundle and its model card."""
    predictions_file = folder / "predictions.csv"
    collector = SliceCollector(
        detector, labelled.name, labelled.rows, external=labelled.external, part=labelled.part
    )
    failures = predict_rows(detector, labelled.rows, predictions_file, labelled.name, collector.add)
    facts = detector.bundle.facts
    evaluated = evaluate_predictions(predictions_file, facts.threshold, facts.patient_rule)
    card = trust_card(
        collector.trial(evaluated.predictions), evaluated.slices, labelled.divided, labelled.split
    )
    outcome = DetectorEvaluation(labelled, evaluated, card, failures, folder)
    more = {"failures": [vars(failure) for failure in failures], "honest_numbers": card.to_dict()}
    write_metrics(evaluated, folder, labelled.document(facts) | more)
    write_report(_report(detector, labelled, outcome), folder / "report.html")
    if record:
        detector.bundle.record(outcome.facts)
    return outcome


def predict_rows(
    detector: Detector,
    rows: pd.DataFrame,
    path: Path,
    name: str,
    keep: Callable[[int, SliceFinding], None] | None = None,
) -> list[Failure]:
    """Run a detector on manifest rows of the dataset ``name``, and write the predictions to ``path``.

    ``keep`` is called with the number, from 0, of each row that could be read, and the finding.

    Returns
    -------
    The files that could not be read.

    Raises
    ------
    GroundglassError
        If no file could be read.
    """
    read_findings: list[SliceFinding] = []
    failures: list[Failure] = []
    read = []
    findings = detector.predict_files([Path(p) for p in rows["path"]])
    for number, (_, finding) in enumerate(track(findings, "Reading slices", len(rows))):
        if isinstance(finding, ScanError):
            failures.append(Failure.of(finding))
        else:
            read.append(number)
            read_findings.append(replace(finding, view=None))
            if keep is not None:
                keep(number, finding)
    if not read_findings:
        raise GroundglassError(f"{name}: none of its {len(rows)} slices could be read; {failures[0].problem}")
    classes, lungs = detector.bundle.facts.classes, detector.segmenter is not None
    predictions = labelled_predictions(rows.iloc[read], read_findings, classes, lungs=lungs)
    write_predictions(predictions, path)
    return failures


def _report(detector: Detector, labelled: Labelled, outcome: DetectorEvaluation) -> Report:
    evaluated = outcome.evaluated
    unread = [(Path(failure.path).name, failure.problem) for failure in outcome.failures]
    return labelled.report(
        detector.bundle.facts,
        evaluated.headline(),
        *([Table("Not read", ("file", "reason"), unread)] if unread else []),
        card=trust_box(outcome.card),
        figures_of_merit=evaluated.tables(),
        pictures=list(evaluated.pictures.values()),
        slices_title="The most confident errors, then the most confident correct answers",
        slices_note="Left: the slice. Right: the areas that point to COVID-19, on the same scale for all slices.",
        slices=slice_cards(detector, evaluated.telling_slices(), evaluated.labels()),
    )


@dataclass(frozen=True)
class MaskJudgement:
    """The result of evaluating a segmenter: figures with their intervals, notes on them, and the report's path."""

    rows: list[tuple[str, str]]
    notes: list[str]
    folder: Path

    def _repr_html_(self) -> str:
        return figures_html("Masks compared with the reference", self.rows, self.notes)


def evaluate_segmenter(
    segmenter: Segmenter, labelled: Labelled, folder: Path, *, record: bool = False
) -> MaskJudgement:
    """Segment slices with known masks, and write the table, the figures and the report.

    Parameters
    ----------
    segmenter
        The segmenter.
    labelled
        What to evaluate on; see :func:`groundglass.commands.evaluate.choose_rows`.
    folder
        Where to write ``masks.csv``, ``metrics.json`` and ``report.html``.
    record
        Record the figures in the bundle and its model card.

    Raises
    ------
    GroundglassError
        If the dataset has no masks, a file cannot be read, or the training libraries, which compute the
        distances, are not installed.
    """
    need_extra("train")
    from groundglass.train.overlaps import overlaps

    if any(name not in labelled.rows for name in STRUCTURES):
        raise GroundglassError(
            f"{labelled.name}: has no masks (columns {' and '.join(STRUCTURES)}) to evaluate a segmenter on"
        )

    def watch(items: Iterable[Any], total: int) -> Iterable[Any]:
        return track(items, "Segmenting slices", total)

    write_overlaps(folder / "masks.csv", overlaps(segmenter, labelled.rows, watch))
    table = read_overlaps(folder / "masks.csv")
    evaluation = evaluate_overlap(table)
    facts = segmenter.bundle.facts
    rows = evaluation.rows()
    write_json(folder / "metrics.json", labelled.document(facts) | evaluation.to_dict())
    report = labelled.report(
        facts,
        _headline(rows),
        figures_of_merit=overlap_tables(evaluation, by_case(table)),
        slices_title="The slices with the lowest lesion Dice",
        slices_note="Left: the slice. Right: the contours of the lungs, and the lesions in colour.",
        slices=mask_cards(segmenter, worst_slices(table)),
    )
    write_report(report, folder / "report.html")
    if record:
        segmenter.bundle.record(labelled.facts(evaluation))
    return MaskJudgement(rows, list(evaluation.notes), folder)


def _headline(rows: list[tuple[str, str]]) -> str:
    values = dict(rows)
    return (
        f"Dice, mean over cases: lungs {values['lung Dice, mean over cases']}, "
        f"lesions {values['lesion Dice, mean over cases']}."
    )
