"""``groundglass audit``: check a dataset, or a detector on one, and write the findings."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

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
from groundglass.detect.own_model import Description, OwnModel
from groundglass.errors import GroundglassError
from groundglass.evaluation.predictions import read_predictions
from groundglass.files import replacing, write_json
from groundglass.labels import POSITIVE
from groundglass.preprocess import Preprocessing
from groundglass.progress import track
from groundglass.report.audit import audit_page
from groundglass.report.page import write_report
from groundglass.report.predictions import implied_threshold
from groundglass.segment.segmenter import Segmenter


def audit_dataset(
    dataset: str,
    options: AuditOptions | None = None,
    tell: Tell | None = None,
    divide: Callable[[Any], Any] = lambda network: network,
) -> Audit:
    """Check labelled scans.

    Parameters
    ----------
    dataset
        A known dataset's name, a manifest CSV, or a folder of one subfolder per class.
    options
        Options of the audit; by default all checks, with lungs.
    tell
        Called with a description of each step.
    divide
        Spreads a network's work over several processes; see groundglass.scale.files.divided.

    Raises
    ------
    GroundglassError
        If there is no such dataset, none of its files can be read, or the options choose no check.
    """
    options = options or AuditOptions()
    checks = chosen_checks(data_checks, options)
    manifest = load_labelled(dataset)
    segmenter = divide(Segmenter.load()) if options.lungs else None
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
    divide: Callable[[Any], Any] = lambda network: network,
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
    options, tell, divide
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
    segmenter = divide(Segmenter.load()) if options.lungs else None
    material = read_material(labelled.name, labelled.rows, segmenter, options.seed, _watch)
    detector = divide(detector)
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
    kind = {
        None: "which it may have seen in training",
        True: "a dataset from another source",
        False: "all of its own dataset"
        if labelled.part == "all"
        else f"the {labelled.part} set of its own dataset",
    }[labelled.external]
    about = f"{len(material.truth)} slices of {labelled.name}, {kind}"
    return Audit(f"Audit of {facts.name} on {labelled.name}", about, material, outcomes, labelled.fingerprint)


def audit_predictions(
    file: Path, dataset: str, options: AuditOptions | None = None, tell: Tell | None = None
) -> Audit:
    """Check predictions of any detector; checks that need the detector itself do not apply, which the audit states.

    Parameters
    ----------
    file
        A ``predictions.csv`` whose paths are those of the dataset's files. Labels and patients are the dataset's.
    dataset, options, tell
        As in :func:`audit_dataset`.

    Raises
    ------
    GroundglassError
        If the file is not a predictions.csv, or a readable slice of the dataset has no prediction.
    """
    options = options or AuditOptions()
    checks = chosen_checks(detector_checks, options)
    answers = read_predictions(file)
    answers.index = pd.Index([str(Path(path).absolute()) for path in answers["path"]])
    manifest = load_labelled(dataset)
    rows = manifest[manifest["path"].isin(answers.index)].reset_index(drop=True)
    if rows.empty or answers.index.has_duplicates:
        problem = "two predictions of one slice" if answers.index.has_duplicates else f"no path of {dataset}"
        raise GroundglassError(
            f"{file}: has {problem}; write one row for each slice, with the dataset's paths"
        )
    name = dataset if dataset in DATASETS else Path(dataset).name
    material = read_material(name, rows, None, options.seed, _watch)
    rows = material.manifest
    given = answers.loc[rows["path"]].reset_index(drop=True)
    given = given.assign(path=rows["path"], label=rows["label"], patient=rows["patient"])
    model = Description(
        gives="probabilities", threshold=implied_threshold(given), preprocessing=Preprocessing()
    )
    silent = Detector(OwnModel.of_function(_cannot_be_asked, model))
    trial = Trial(silent, material, given, None, external=None, part="all", asks=False)
    outcomes = run_checks(checks, trial, tell)
    about = (
        f"{len(rows)} of {len(manifest)} slices, threshold {trial.threshold:.3f} inferred from the verdicts"
    )
    return Audit(f"Audit of {file.name} on {name}", about, material, outcomes, fingerprint(rows))


def _cannot_be_asked(slices: NDArray[np.float32]) -> NDArray[np.float64]:
    raise GroundglassError("only predictions are known, so the detector cannot be run on other slices")


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
