"""Answer one study, and write its results."""

import hashlib
import hmac
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
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
from groundglass.errors import GroundglassError, ScanError, place_of
from groundglass.files import reason_of, umask, write_csv, write_json
from groundglass.labels import POSITIVE
from groundglass.progress import counting
from groundglass.report.page import write_report
from groundglass.report.pdf import PDF, write_pdf
from groundglass.report.volume import AnsweredStudy, answer_study, volume_report
from groundglass.scan.studies import Study
from groundglass.scan.volume import RESULTS, Series, Volume, mark_results
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
        The time that DICOM results state. With it, their UIDs are derived from ``made_from`` and the key
        alone, so that a repetition does not create a second report. None means the current time and new UIDs.
    replaces
        The file of a report that the new one supersedes; None if there is none.
    later
        If it is a list, the PDF is not written with the other results. Instead, a function that writes it into the
        study's folder is appended.
    """

    outputs: Outputs
    made_from: str
    key: bytes = field(repr=False)
    when: datetime | None = None
    replaces: Path | None = None
    later: list[Callable[[Path], None]] | None = None


@dataclass(frozen=True)
class StudyAnswer:
    """The result for a study that could be answered.

    Attributes
    ----------
    document
        The content of its ``findings.json``.
    seconds
        How long each of the :data:`STAGES` took.
    """

    document: dict[str, Any]
    seconds: dict[str, float] = field(default_factory=dict)


STAGES = ("read", "answer", "write", "cpu")
"""The stages of a study whose times are recorded, and their total processor time.

Threads read slices while the networks run, so the time for reading is part of the time for answering; if it is
about as long, reading is the bottleneck. Processor time is that of the whole process: without workers, it includes
work on the neighbouring study.
"""
Outcome = StudyAnswer | GroundglassError
"""A ScanError says why the study has no answer; any other error, why its results could not be written."""
Todo = Sequence[tuple[Study, Making]]
Crew = Callable[[Detector, Path | None, Todo], Iterator[tuple[Study, Outcome]]]
"""Answers studies and yields each outcome as soon as it is known, in any order: :func:`answer_in_turn`, or
groundglass.scale.cohort.Workers. The folder is that of all results; None if nothing is written."""


def answer_in_turn(detector: Detector, folder: Path | None, todo: Todo) -> Iterator[tuple[Study, Outcome]]:
    """Answer studies in this process; the results of each are written while the next one is read."""
    slices = sum(study.series.slices for study, _ in todo if study.series is not None)
    with counting("Reading volumes", slices) as advance, ThreadPoolExecutor(1) as pool:
        if todo and folder is not None:
            pool.submit(warm_up, todo[0][1].outputs)
        writing: tuple[Study, Future[Outcome]] | None = None
        for study, making in todo:
            begun = begin_study(study, folder, detector, making, pool, lambda: advance(1))
            if writing is not None:
                yield writing[0], writing[1].result()
            writing = study, begun
        if writing is not None:
            yield writing[0], writing[1].result()


def begin_study(
    study: Study,
    folder: Path | None,
    detector: Detector,
    making: Making,
    pool: ThreadPoolExecutor,
    seen: Callable[[], object] = lambda: None,
) -> Future[Outcome]:
    """Answer a study in this thread, then write its results into ``folder`` in a thread of the pool.

    Nothing is raised: an error is the outcome. ``seen`` is called after each slice.
    """
    seconds = dict.fromkeys(STAGES, 0.0)
    seconds["cpu"], started = -time.process_time(), time.perf_counter()
    try:
        study = study.fetched(making.key)
        seconds["read"] = time.perf_counter() - started
        timed = study if study.series is None else replace(study, series=_timed(study.series, seconds))
        answered = answer_study(detector, timed, seen)
    except Exception as error:
        failed: Future[Outcome] = Future()
        failed.set_result(error if isinstance(error, ScanError) else _unexpected(study, error))
        return failed
    seconds["answer"] = time.perf_counter() - started
    return pool.submit(_finish, folder, answered, detector, making, seconds)


def _finish(
    folder: Path | None,
    answered: AnsweredStudy,
    detector: Detector,
    making: Making,
    seconds: dict[str, float],
) -> Outcome:
    started = time.perf_counter()
    try:
        if folder is None:
            document = document_of(answered, detector, making.made_from)
        else:
            document = write_study(folder / answered.study.name, answered, detector, making)
    except Exception as error:
        return error if isinstance(error, GroundglassError) else _unexpected(answered.study, error)
    seconds["write"] = time.perf_counter() - started
    seconds["cpu"] += time.process_time()
    return StudyAnswer(document, seconds)


def _timed(series: Series, seconds: dict[str, float]) -> Series:
    """The series; the time for opening it and reading its slices is summed over all threads."""

    def opened() -> Volume:
        started = time.perf_counter()
        volume = series.load()
        seconds["read"] += time.perf_counter() - started

        def read(number: int) -> NDArray[np.float32]:
            begun = time.perf_counter()
            try:
                return volume.read(number)
            finally:
                seconds["read"] += time.perf_counter() - begun

        return replace(volume, read=read)

    return series if series.open is None else replace(series, open=opened)


def _unexpected(study: Study, error: Exception) -> ScanError:
    """An internal error, which must not end a job of a thousand studies; its text may quote a header."""
    return ScanError(study.source, f"an error in Groundglass ({place_of(error)})", "report it")


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
            f"{folder}: already exists and does not contain results; move it, or choose another folder with "
            "-o"
        )


def warm_up(outputs: Outputs) -> None:
    """Import the modules needed for writing ahead of time, since this takes most of a second."""
    needed = {"groundglass.dicom_out.write": outputs.dicom, "groundglass.scan.nifti_out": outputs.nifti}
    for module in (name for name, wanted in needed.items() if wanted):
        import_module(module)


def sweep(folder: Path) -> None:
    """Remove partial results of a killed process."""
    with suppress(OSError):
        for left in folder.glob(f"{UNFINISHED}*"):
            shutil.rmtree(left, ignore_errors=True)


def _write(folder: Path, answered: AnsweredStudy, detector: Detector, making: Making) -> dict[str, Any]:
    outputs = making.outputs
    sheet = answered.finding.picture()
    with ThreadPoolExecutor(2) as pool:
        dicom = pool.submit(_write_dicom, folder, answered, detector, np.asarray(sheet), making)
        masks = pool.submit(answered.finding.masks.write, folder) if outputs.nifti else None
        frames = answered.finding.stack() if outputs.report else None
        notes = (*(masks.result() if masks else ()), *dicom.result())
    finding = replace(answered.finding, warnings=(*answered.finding.warnings, *notes))
    answered = replace(answered, finding=finding)
    report = volume_report(answered, detector, sheet, frames, identities=outputs.identities)
    if outputs.report:
        write_report(report, folder / "report.html")
    if outputs.pdf and making.later is not None:
        making.later.append(lambda final: write_pdf(report, final / PDF))
    elif outputs.pdf:
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
        likelihood_ratios=finding.likelihood_ratios,
    )
    when = making.when or datetime.now()
    # Results made at another time differ and must not have the same UID.
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
    columns = (*SLICE_COLUMNS, *(TYPE_COLUMNS if finding.masks.typed else ()))
    rows = []
    for one in finding.slices:
        numbers = (one.height_mm, one.score, one.probability, one.lesion_share)
        shares = [_cell(one.type_shares.get(name)) for name in columns[len(SLICE_COLUMNS) :]]
        areas = (*one.lungs_px, *one.lesions_px) if "right" in finding.extent else ("",) * 4
        row = (one.number, *map(_cell, numbers), int(one.counted), *areas, one.reason, *shares)
        rows.append(dict(zip(columns, row, strict=True)))
    write_csv(path, columns, rows)


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
