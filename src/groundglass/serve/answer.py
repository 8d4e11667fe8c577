"""Answer a study: from its files to its results, with the same calls as ``groundglass predict``."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import chdir
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from groundglass.commands.predict import predict
from groundglass.commands.study import UNFINISHED, Making, Outputs, write_study
from groundglass.detect.detector import Detector
from groundglass.detect.findings import Failure
from groundglass.errors import GroundglassError, ScanError
from groundglass.report.volume import answer_study
from groundglass.scan.find import find_series
from groundglass.scan.studies import Study, find_studies
from groundglass.scan.volume import Listing
from groundglass.serve.view import new_view, recorded, write_picture_view, write_volume_view

PERSON = {
    "uid": "StudyInstanceUID",
    "patient_id": "PatientID",
    "patient_name": "PatientName",
    "study_date": "StudyDate",
}
"""Columns of a study's row, and the DICOM attributes that they contain."""
LONGEST = {"uid": 64, "patient_id": 64, "patient_name": 324, "study_date": 8}
Progress = Callable[[int, int], None]
HERE = Path()


@dataclass(frozen=True)
class Answering:
    """How a study is answered.

    Attributes
    ----------
    detector
        A detector with a segmenter.
    made_from
        The study's key, which is also in ``findings.json``.
    key
        The server's secret, from which pseudonyms are derived.
    anonymise
        De-identify DICOM results.
    pdf
        Also write each report as ``report.pdf``.
    when
        The time stated in DICOM results: when the study was received.
    replaces
        The DICOM report of an earlier version that was sent; None if there is none.
    progress
        Called with the number of slices read so far, and of all slices.
    identify
        Called with the personal data in the headers, before the answer.
    later
        As in groundglass.commands.study.Making, for volumes.
    """

    detector: Detector
    made_from: str
    key: bytes = field(repr=False)
    anonymise: bool = False
    pdf: bool = False
    when: datetime | None = None
    replaces: Path | None = None
    progress: Progress = lambda done, total: None
    identify: Callable[[Mapping[str, str]], None] = lambda person: None
    later: list[Callable[[Path], None]] | None = None


@dataclass(frozen=True)
class Several:
    """The files belong to several examinations; ``parts`` has the names of each one's files."""

    parts: list[list[str]]


def answer(files: Path, results: Path, how: Answering) -> dict[str, Any] | Several:
    """Run the detector on the files of one study, and write its results.

    Parameters
    ----------
    files
        The folder with the files; it is the process's working folder during the call.
    results
        Folder for the results that ``groundglass predict`` writes for a study; the data for the page's viewer
        are written beside it.
    how
        The detector and options.

    Returns
    -------
    The columns of the study's row; or, if there are several examinations, the files of each.

    Raises
    ------
    ScanError
        If nothing can be answered.
    GroundglassError
        If the results cannot be written.
    """
    results = results.absolute()
    with chdir(files):
        try:
            listing = find_series([HERE])
        except ScanError:
            raise
        except GroundglassError as error:
            nothing = "there is no DICOM, NIfTI or picture among the files"
            raise ScanError(HERE, nothing, "send a chest CT") from error
        studies = find_studies(listing, how.key)
        if len(parts := _parts(studies, listing)) > 1:
            return Several(parts)
        if studies:
            return _volume(studies[0], listing, results, how)
        if listing.pictures:
            return _pictures(listing, results, how)
        raise listing.failures[0]


def _volume(study: Study, listing: Listing, results: Path, how: Answering) -> dict[str, Any]:
    if person := _person(study):
        how.identify(person)
    total, done = study.series.slices if study.series else 0, 0

    def seen() -> None:
        nonlocal done
        done += 1
        how.progress(done, total)

    view = new_view(results.parent)
    if study.series:
        study = replace(study, series=recorded(study.series, view))
    answered = answer_study(how.detector, study, seen)
    write_volume_view(view, answered.finding)
    outputs = Outputs(pdf=how.pdf, anonymise=how.anonymise)
    making = Making(outputs, how.made_from, how.key, how.when, how.replaces, how.later)
    document = write_study(results, answered, how.detector, making)
    if listing.failures:
        failures = [asdict(Failure.of(error)) for error in listing.failures]
        document = {**document, "failures": failures}
    return {
        "verdict": document["verdict"],
        "probability": document["probability"],
        "lesion_ml": document["both"]["lesion_ml"],
        "findings": document,
    }


def _pictures(listing: Listing, results: Path, how: Answering) -> dict[str, Any]:
    how.progress(0, len(listing.pictures))
    unfinished = results.with_name(UNFINISHED + results.name)
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    found = predict(listing.pictures, unfinished, detector=how.detector, pdf=how.pdf, unread=listing.failures)
    if not found.rows:
        shutil.rmtree(unfinished, ignore_errors=True)
        first = found.failures[0]
        raise ScanError(first.path, first.problem, first.remedy)
    write_picture_view(new_view(results.parent), listing.pictures, how.detector.bundle.facts.preprocessing)
    shutil.rmtree(results, ignore_errors=True)
    unfinished.rename(results)
    only = found.rows[0] if len(found.rows) == 1 else None
    return {
        "verdict": only.verdict if only else None,  # each picture is answered separately
        "probability": only.probability if only else None,
        "findings": found.document,
    }


def _person(study: Study) -> dict[str, str]:
    """The personal data in the header of one of the study's files."""
    series = study.series or (study.others[0][0] if study.others else None)
    if series is None or series.kind != "dicom":
        return {}
    return _header(min(series.files))


def _header(path: Path) -> dict[str, str]:
    """The personal data in the header of a DICOM file."""
    from pydicom import dcmread

    from groundglass.scan.dicom.headers import quiet

    with quiet():
        try:
            header = dcmread(path, stop_before_pixels=True, specific_tags=list(PERSON.values()), force=True)
            values = {name: str(header.get(tag, "") or "").strip() for name, tag in PERSON.items()}
        except Exception:  # damaged headers raise almost any exception
            return {}
    return {name: value.replace("\0", "")[: LONGEST[name]] for name, value in values.items() if value}


def _parts(studies: Sequence[Study], listing: Listing) -> list[list[str]]:
    """The file names of each examination: those of each study, and all pictures together."""
    groups = [{path.name for path in study.files} for study in studies]
    if listing.pictures:
        groups.append({path.name for path in listing.pictures})
    if groups:  # unreadable files are listed with the first part
        groups[0] |= {path.name for path in HERE.iterdir()}.difference(*groups)
    return [sorted(names) for names in groups]
