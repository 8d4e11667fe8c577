"""``groundglass audit``: check a dataset, or a detector on one, and write the findings."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from groundglass.audit import data as data_checks
from groundglass.audit import detector as detector_checks
from groundglass.audit.check import Tell, run_checks
from groundglass.audit.fix import Change, changes_table, fix
from groundglass.audit.run import Audit, AuditOptions, chosen_checks, read_material
from groundglass.audit.trial import Trial
from groundglass.commands.evaluate import choose_rows, predict_rows
from groundglass.data.datasets import load_labelled
from groundglass.data.manifest import fingerprint, write_manifest
from groundglass.data.registry import DATASETS
from groundglass.detect.detector import Detector
from groundglass.evaluation.predictions import read_predictions
from groundglass.files import replacing, write_json
from groundglass.labels import POSITIVE
from groundglass.progress import track
from groundglass.report.audit import audit_page
from groundglass.report.page import write_report
from groundglass.segment.segmenter import Segmenter


def audit_dataset(dataset: str, options: AuditOptions | None = None, tell: Tell | None = None) -> Audit:
    """Check labelled scans.

    Parameters
    ----------
    dataset
        A known dataset's name, a manifest CSV, or a folder of one subfolder per class.
    options
        Options of the audit; by default all checks, with lungs.
    tell
        Called with a description of each step.

    Raises
    ------
    GroundglassError
        If there is no such dataset, none of its files can be read, or the options choose no check.
    """
    options = options or AuditOptions()
    checks = chosen_checks(data_checks, options)
    manifest = load_labelled(dataset)
    segmenter = Segmenter.load() if options.lungs else None
    name = dataset if dataset in DATASETS else Path(dataset).name
    material = read_material(name, manifest, segmenter, options.seed, _watch)
    outcomes = run_checks(checks, material, tell)
    positive = int(material.truth.sum())
    about = f"{len(material.truth)} slices, {positive} {POSITIVE}"
    return Audit(f"Audit of {name}", about, material, outcomes, fingerprint(material.manifest))


def audit_detector(
    detector: Detector,
    dataset: str,
    folder: Path,
    options: AuditOptions | None = None,
    *,
    part: str | None = None,
    tell: Tell | None = None,
) -> Audit:
    """Check a detector on labelled scans; its answers are written to ``folder/predictions.csv``.

    Parameters
    ----------
    detector
        The detector.
    dataset, part
        The data to check it on; see :func:`groundglass.commands.evaluate.choose_rows`.
    folder
        Where its answers are written.
    options, tell
        As in :func:`audit_dataset`.

    Raises
    ------
    GroundglassError
        If there is no such dataset or part, none of its files can be read, or the options choose no check.
    """
    options = options or AuditOptions()
    checks = chosen_checks(detector_checks, options)
    facts = detector.bundle.facts
    labelled = choose_rows(detector.bundle, dataset, part)
    segmenter = Segmenter.load() if options.lungs else None
    material = read_material(labelled.name, labelled.rows, segmenter, options.seed, _watch)
    predict_rows(detector, material.manifest, folder / "predictions.csv", labelled.name)
    trial = Trial(
        detector,
        material,
        read_predictions(folder / "predictions.csv"),
        segmenter,
        labelled.external,
        labelled.part,
    )
    outcomes = run_checks(checks, trial, tell)
    kind = "a set of another source" if labelled.external else f"the {labelled.part} part of its own dataset"
    about = f"{len(material.truth)} slices of {labelled.name}, {kind}"
    return Audit(f"Audit of {facts.name} on {labelled.name}", about, material, outcomes, labelled.fingerprint)


def _watch(answers: Iterator[Any], total: int) -> Iterator[Any]:
    return track(answers, "Reading slices", total)


def write_audit(audit: Audit, folder: Path) -> Path:
    """Write ``audit.json``, with all outcomes, and ``report.html``; returns the report's path."""
    write_json(folder / "audit.json", audit.to_dict())
    write_report(audit_page(audit), folder / "report.html")
    return folder / "report.html"


def write_fixed(audit: Audit, path: Path) -> list[Change]:
    """Write a manifest without the duplicates, conflicts and leaks, and next to it the list of changes.

    The list is ``NAME.changes.csv`` if the manifest is ``NAME.csv``.

    Raises
    ------
    GroundglassError
        If a class or a part would be left empty, or a file cannot be written.
    """
    manifest, changes = fix(audit.material)
    write_manifest(manifest, path)
    with replacing(path.with_suffix(".changes.csv")) as handle:
        changes_table(changes).to_csv(handle, index=False, lineterminator="\n")
    return changes
