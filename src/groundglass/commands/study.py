"""Write the results of one study."""

import csv
import hashlib
import hmac
import io
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundglass import __version__
from groundglass.bundle.facts import RESEARCH_USE
from groundglass.detect.detector import Detector
from groundglass.detect.patient import BAND_SOURCE, PatientFinding
from groundglass.detect.volume import segmenter_of
from groundglass.errors import GroundglassError, ScanError
from groundglass.files import reason_of, umask, write_json, write_text
from groundglass.labels import POSITIVE
from groundglass.report.page import write_report
from groundglass.report.pdf import PDF, write_pdf
from groundglass.report.volume import AnsweredStudy, stack, volume_report
from groundglass.scan.volume import RESULTS, mark_results
from groundglass.segment.shares import TYPE_COLUMNS

FINDINGS = "findings.json"
SLICE_COLUMNS = (
    "slice",
    "height_mm",
    "score",
    "probability",
    "lesion_share",
    "counted",
    "right_lung_px",
    "left_lung_px",
    "right_lesions_px",
    "left_lesions_px",
    "reason",
)
UNFINISHED = ".unfinished-"
"""Prefix of folders of studies that were still being written when the process ended."""


@dataclass(frozen=True)
class Outputs:
    """What is written for each study besides its findings and the table of its slices.

    Attributes
    ----------
    report
        The HTML page.
    pdf
        The same as a PDF of two pages.
    nifti
        Masks of lungs and lesions.
    dicom
        Report, segmentation and picture as DICOM, if the study is DICOM.
    anonymise
        Remove from the DICOM results what identifies the patient.
    identities
        Name patients by PatientID in reports and tables instead of a pseudonym.
    """

    report: bool = True
    pdf: bool = False
    nifti: bool = True
    dicom: bool = True
    anonymise: bool = False
    identities: bool = False


@dataclass(frozen=True)
class Making:
    """How a study's results are produced.

    Attributes
    ----------
    outputs
        What is written.
    made_from
        A hash of everything that the results depend on; recorded in ``findings.json``.
    key
        The results folder's secret: UIDs and pseudonyms in DICOM results are derived from it.
    when
        The time that DICOM results state. With it, their UIDs follow from ``made_from`` and the key alone, so that
        a repetition makes no second report; None for now, and new UIDs.
    replaces
        The file of a report that the new one supersedes; None for none.
    """

    outputs: Outputs
    made_from: str
    key: bytes = field(repr=False)
    when: datetime | None = None
    replaces: Path | None = None


def write_study(folder: Path, answered: AnsweredStudy, detector: Detector, making: Making) -> dict[str, Any]:
    """Write ``folder``, completely or not at all; earlier results there are replaced.

    Returns
    -------
    The content of ``findings.json``.

    Raises
    ------
    GroundglassError
        If a file cannot be written, or something else is at the folder's path.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=folder.parent))
    except OSError as error:
        raise GroundglassError(f"{folder}: cannot be written ({reason_of(error)})") from error
    try:
        document = _write(unfinished, answered, detector, making)
        _put(unfinished, folder)
    except OSError as error:
        raise GroundglassError(f"{folder}: cannot be written ({reason_of(error)})") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return document


def _put(finished: Path, folder: Path) -> None:
    """Move results to their final place, replacing earlier ones."""
    refuse_foreign(folder)
    earlier = finished.with_name(f"{finished.name}-earlier")
    finished.chmod(0o777 & ~umask())
    if folder.exists():
        folder.rename(earlier)
    finished.rename(folder)
    shutil.rmtree(earlier, ignore_errors=True)


def refuse_foreign(folder: Path) -> None:
    """Raise GroundglassError if the folder of the results contains something else."""
    if folder.exists() and not (folder / RESULTS).is_file():
        raise GroundglassError(
            f"{folder}: already exists and does not hold results; move it, or choose another folder with -o"
        )


def warm_up(outputs: Outputs) -> None:
    """Import what writing needs, in a thread, since it takes most of a second."""
    needed = {"groundglass.dicom_out.write": outputs.dicom, "groundglass.scan.nifti_out": outputs.nifti}
    for module in (name for name, wanted in needed.items() if wanted):
        import_module(module)


def sweep(folder: Path) -> None:
    """Remove what a killed process left half-written."""
    with suppress(OSError):
        for left in folder.glob(f"{UNFINISHED}*"):
            shutil.rmtree(left, ignore_errors=True)


def _write(folder: Path, answered: AnsweredStudy, detector: Detector, making: Making) -> dict[str, Any]:
    outputs = making.outputs
    sheet = answered.finding.picture()
    with ThreadPoolExecutor(2) as pool:
        dicom = pool.submit(_write_dicom, folder, answered, detector, np.asarray(sheet), making)
        masks = pool.submit(answered.finding.masks.write, folder) if outputs.nifti else None
        frames = stack(answered.finding) if outputs.report else None
        notes = (*(masks.result() if masks else ()), *dicom.result())
    finding = replace(answered.finding, warnings=(*answered.finding.warnings, *notes))
    answered = replace(answered, finding=finding)
    report = volume_report(answered, detector, sheet, frames, identities=outputs.identities)
    if outputs.report:
        write_report(report, folder / "report.html")
    if outputs.pdf:
        write_pdf(report, folder / PDF)
    _write_slices(folder / "slices.csv", finding)
    mark_results(folder)
    document = document_of(answered, detector, making.made_from)
    document["files"] = sorted(path.name for path in folder.iterdir())
    write_json(folder / FINDINGS, document)
    return document


def _write_dicom(
    folder: Path,
    answered: AnsweredStudy,
    detector: Detector,
    picture: NDArray[np.uint8],
    making: Making,
) -> tuple[str, ...]:
    finding = answered.finding
    origin = finding.masks.volume.origin
    if not making.outputs.dicom or origin is None:
        return ()
    from groundglass.dicom_out import Measured, ResultsError, read_report, write_results

    facts, segmenter = detector.bundle.facts, segmenter_of(detector).bundle.facts
    measured = Measured(
        probability=finding.probability,
        verdict=finding.verdict,
        severity=finding.severity,
        severity_source=BAND_SOURCE,
        extent=finding.extent,
        bundle_name=facts.name,
        bundle_sha256=facts.graph_sha256,
        segmenter_name=segmenter.name,
        segmenter_sha256=segmenter.graph_sha256,
        slices_used=len(finding.counted),
    )
    when = making.when or datetime.now()
    # Content from another time is different and must not have the same UID.
    made_from = making.made_from if making.when else f"{making.made_from} {when.isoformat()}"
    seed = hmac.new(making.key, made_from.encode(), hashlib.sha256).hexdigest()
    try:
        written = write_results(
            folder,
            origin,
            finding.masks.labels,
            measured,
            picture,
            anonymise_key=making.key if making.outputs.anonymise else None,
            seed=seed,
            when=when,
            replaces=None if making.replaces is None else read_report(making.replaces),
        )
    except (ResultsError, ScanError) as error:
        return (f"no DICOM results were written: {error}",)
    return written.warnings


def _write_slices(path: Path, finding: PatientFinding) -> None:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    types = TYPE_COLUMNS if finding.masks.typed else ()
    writer.writerow([*SLICE_COLUMNS, *types])
    for one in finding.slices:
        numbers = (one.height_mm, one.score, one.probability, one.lesion_share)
        shares = [_cell(one.type_shares.get(name)) for name in types]
        areas = (*one.lungs_px, *one.lesions_px) if "right" in finding.extent else ("",) * 4
        writer.writerow([one.number, *map(_cell, numbers), int(one.counted), *areas, one.reason, *shares])
    write_text(path, buffer.getvalue())


def _cell(number: float | None) -> str:
    return "" if number is None else f"{number:.6f}"


def document_of(answered: AnsweredStudy, detector: Detector, made_from: str) -> dict[str, Any]:
    """The content of a study's ``findings.json``."""
    facts, study, masks = detector.bundle.facts, answered.study, answered.finding.masks
    segmenter = segmenter_of(detector).bundle.facts
    volume, spacing = masks.volume, masks.volume.spacing
    return {
        "groundglass": __version__,
        "research_use": RESEARCH_USE,
        "positive_class": POSITIVE,
        "study": study.name,
        "patient": study.patient,
        "bundle": {
            "name": facts.name,
            "graph_sha256": facts.graph_sha256,
            **({"setting": facts.setting} if facts.setting else {}),
            "patient_rule": None if facts.patient is None else facts.patient.model_dump(),
        },
        "segmenter": {"name": segmenter.name, "graph_sha256": segmenter.graph_sha256},
        "volume": {
            "series": "" if study.series is None else study.series.number,
            "shape": list(volume.shape),
            "spacing_mm": None if spacing is None else [round(mm, 6) for mm in spacing],
            "is_hu": volume.is_hu,
        },
        **answered.finding.to_dict(),
        "unread": [
            {"slice": number + 1, "problem": error.problem} for number, error in sorted(masks.damaged.items())
        ],
        "other_series": [{"series": series.number, "reason": reason} for series, reason in study.others],
        "made_from": made_from,
    }
