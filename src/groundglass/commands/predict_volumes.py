"""``groundglass predict`` on volumes: one answer per study, resumable, even if single studies fail."""

import csv
import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from groundglass import __version__
from groundglass.bundle.facts import RESEARCH_USE
from groundglass.commands.study import (
    FINDINGS,
    STAGES,
    Crew,
    Making,
    Outputs,
    StudyAnswer,
    answer_in_turn,
    refuse_foreign,
    sweep,
)
from groundglass.detect.bundle import Bundle
from groundglass.detect.detector import Detector
from groundglass.detect.findings import RATIO_PREFIX, Failure
from groundglass.detect.volume import segmenter_of
from groundglass.errors import GroundglassError, ScanError
from groundglass.files import write_csv, write_json
from groundglass.labels import NOT_A_CHEST_CT, POSITIVE, UNCERTAIN
from groundglass.report.cohort import cohort_report, times_report
from groundglass.report.page import write_report
from groundglass.scan.studies import Study, find_studies, key_of
from groundglass.scan.volume import Listing
from groundglass.segment.extent import SIDES, extent_cells, extent_columns
from groundglass.segment.segmenter import SegmenterBundle

PATIENTS = "patients"
"""Stem of the table and the documents about all studies together."""
TIMES = "times"
"""Stem of the table and the page of times per study, which differ from run to run."""
NUMBERS = ("slices", "slices_counted", "probability")
RESULTS_FORMAT = 8
"""Version of a study's results. Increase it when the same files, bundle and options would give other results,
so that results of earlier runs are recomputed."""
LOCK_FILE = ".lock"
SAVE_EVERY = 5.0
"""Seconds between updates of the tables during a long job; more if writing the tables takes long."""


def columns(types: bool, settings: Iterable[str] = ()) -> tuple[str, ...]:
    """The columns of ``patients.csv``.

    With lesion types if the segmenter distinguishes them, and with the likelihood ratio in each of the ``settings``
    that the detector knows.
    """
    ratios = tuple(RATIO_PREFIX + name for name in settings)
    answer = (
        "probability",
        "verdict",
        *ratios,
        "severity",
        *extent_columns(types),
        "reason",
        "warnings",
        "problem",
    )
    return ("study", "patient", "source", "series", "slices", "slices_counted", *answer)


@dataclass
class PatientAnswers:
    """The results of all studies.

    Attributes
    ----------
    rows
        One per study, in the order of the listing; see :func:`columns`. Failed studies have a ``problem``.
    failures
        The studies and files that gave no answer.
    kept
        Number of answers that were kept from an earlier run.
    folders
        The folder of each study's results, by its name; empty if nothing was written.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    kept: int = 0
    folders: dict[str, Path] = field(default_factory=dict)

    @property
    def answered(self) -> list[dict[str, Any]]:
        """The rows with an answer."""
        return [row for row in self.rows if not row["problem"]]

    def document(self) -> dict[str, Any]:
        """The content of ``patients.json``."""
        return {
            "groundglass": __version__,
            "research_use": RESEARCH_USE,
            "positive_class": POSITIVE,
            "summary": {
                "studies": len(self.rows),
                "covid": sum(row["verdict"] == POSITIVE for row in self.rows),
                "uncertain": sum(row["verdict"] == UNCERTAIN for row in self.rows),
                "not_a_chest_ct": sum(row["verdict"] == NOT_A_CHEST_CT for row in self.rows),
                "failed": len(self.rows) - len(self.answered),
            },
            "patients": self.rows,
            "failures": [asdict(failure) for failure in self.failures],
        }


def predict_volumes(
    listing: Listing,
    folder: Path | None,
    *,
    detector: Detector,
    outputs: Outputs | None = None,
    fresh: bool = False,
    crew: Crew = answer_in_turn,
) -> PatientAnswers:
    """Run a detector on each study of a listing.

    Results of an earlier run in ``folder`` are kept if its files, the bundle and the requested outputs have not
    changed, so a job that was killed resumes where it stopped. A study that fails is listed, and the remaining ones
    are still answered.

    Parameters
    ----------
    listing
        From groundglass.scan.find.find_series.
    folder
        Where to write a folder for each study, ``patients.csv``, ``patients.json``, ``patients.html`` (the cohort
        report), ``times.csv`` and ``times.html``; None writes nothing. The tables are in the order of the listing
        and the same whatever the ``crew``, except for the times.
    detector
        A detector with a segmenter.
    outputs
        What to write for each study; None for everything.
    fresh
        Keep no earlier results.
    crew
        Runs the detector; by default in this process, one study after the other.

    Raises
    ------
    GroundglassError
        If the detector has no segmenter, another run is writing into ``folder``, or a file cannot be written.
    """
    segmenter_of(detector)  # before any file is read
    job = _Job(detector, folder, outputs or Outputs(), listing)
    if folder is None:
        return job.run(fresh, crew)
    with _alone(folder):
        sweep(folder)
        for study in job.studies:
            refuse_foreign(folder / study.name)
        try:
            result = job.run(fresh, crew)
        finally:
            job.save()
            sweep(folder)  # remains of stopped workers
        write_json(folder / f"{PATIENTS}.json", result.document())
        write_report(cohort_report(result.rows, result.failures, detector), folder / f"{PATIENTS}.html")
        write_report(times_report(job.seconds, detector), folder / f"{TIMES}.html")
    return result


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other runs from writing into a folder."""
    lock = FileLock(folder / LOCK_FILE, blocking=False)
    try:
        with lock:
            yield
    except Timeout as error:
        raise GroundglassError(
            f"{folder}: another run is writing to it; wait for it, or choose another folder with -o"
        ) from error


class _Job:
    """One run over many studies: results that need not be repeated, and the rows of answered studies."""

    def __init__(
        self,
        detector: Detector,
        folder: Path | None,
        outputs: Outputs,
        listing: Listing,
    ) -> None:
        self.detector, self.folder, self.outputs = detector, folder, outputs
        self.columns = columns(segmenter_of(detector).bundle.facts.typed, detector.bundle.facts.settings)
        self.key = key_of(folder)
        self.studies = find_studies(listing, self.key, coded=self.outputs.anonymise)
        self.result = PatientAnswers(failures=[Failure.of(error) for error in listing.failures])
        self.seconds = _earlier_seconds(folder)
        self._rows: dict[str, dict[str, Any]] = {}
        self._failures: dict[str, Failure] = {}
        self._next_save = time.monotonic() + SAVE_EVERY

    def run(self, fresh: bool, crew: Crew) -> PatientAnswers:
        earlier = {} if fresh else dict(self._earlier())
        for study in self.studies:
            if study.name in earlier:
                self._answered(study, earlier[study.name])
        self.result.kept = len(earlier)
        todo = [
            (study, Making(self.outputs, self._made_from(study), self.key))
            for study in self.studies
            if study.name not in earlier
        ]
        for study, outcome in crew(self.detector, self.folder, todo):
            if isinstance(outcome, StudyAnswer):
                self._answered(study, outcome.document)
                self.seconds[study.name] = outcome.seconds
            elif isinstance(outcome, ScanError):
                self._failed(study, outcome)
            else:
                raise outcome
            if time.monotonic() > self._next_save:
                self.save()
        self.result.rows = [self._rows[study.name] for study in self.studies]
        failed = [self._failures[study.name] for study in self.studies if study.name in self._failures]
        self.result.failures += failed
        return self.result

    def save(self) -> None:
        """Write the tables with the results so far."""
        if self.folder is None:
            return
        started = time.monotonic()
        names = [study.name for study in self.studies if study.name in self._rows]
        rows = [self._rows[name] for name in names]
        self.seconds = {name: self.seconds[name] for name in names if name in self.seconds}
        times = [{"study": name, **seconds} for name, seconds in self.seconds.items()]
        for stem, columns, table in ((PATIENTS, self.columns, rows), (TIMES, ("study", *STAGES), times)):
            cells = ({name: _cell(row[name]) for name in columns} for row in table)
            write_csv(self.folder / f"{stem}.csv", columns, cells)
        took = time.monotonic() - started
        self._next_save = time.monotonic() + max(SAVE_EVERY, 20 * took)

    def _earlier(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The documents of studies that need not be repeated."""
        for study in self.studies:
            if self.folder is None or study.series is None:
                continue
            try:
                document = json.loads((self.folder / study.name / FINDINGS).read_text(encoding="utf-8"))
            except (OSError, ValueError):
                continue
            if not isinstance(document, dict) or document.get("made_from") != self._made_from(study):
                continue
            if all((self.folder / study.name / name).is_file() for name in document["files"]):
                yield study.name, document

    def _answered(self, study: Study, document: Mapping[str, Any]) -> None:
        regions = {side: document[side] for side in SIDES if document[side]} | document["zones"]
        self._rows[study.name] = self._row(study) | {
            "series": document["volume"]["series"],
            "slices": document["volume"]["shape"][0],
            "slices_counted": document["slices_counted"],
            **{name: document[name] for name in ("probability", "verdict", "severity", "reason")},
            **{RATIO_PREFIX + one["setting"]: one["ratio"] for one in document["likelihood_ratios"]},
            **extent_cells(regions),
            "warnings": "; ".join(document["warnings"]),
        }
        lost = [f"slice {one['slice']}, {one['problem']}" for one in document["unread"]]
        lost += ["a file that is cut short"] * (study.series.damaged if study.series else 0)
        if lost:
            problem = f"{len(lost)} of its slices could not be read; the first: {lost[0]}"
            self._failures[study.name] = Failure(str(study.source), problem, "get a new copy of the series")
        if self.folder is not None:
            self.result.folders[study.name] = self.folder / study.name

    def _failed(self, study: Study, error: ScanError) -> None:
        self._rows[study.name] = self._row(study) | {"problem": error.problem}
        self._failures[study.name] = Failure.of(error)

    def _row(self, study: Study) -> dict[str, Any]:
        series = study.series
        shown = series or (study.others[0][0] if study.others else None)
        return (
            dict.fromkeys(self.columns, "")
            | dict.fromkeys((*NUMBERS, *extent_columns(types=False)))
            | {
                "study": study.name,
                "patient": shown.patient if self.outputs.identities and shown else study.patient,
                "source": str(study.source),
                "series": series.number if series else "",
            }
        )

    def _made_from(self, study: Study) -> str:
        """A hash of everything that a study's results depend on: format, bundle, files and options."""
        parts = [
            *made_by(self.detector.bundle, segmenter_of(self.detector).bundle),
            study.series.content if study.series else "",
            study.series.series_uid if study.series else "",
            asdict(self.outputs),
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def made_by(detector: Bundle, segmenter: SegmenterBundle) -> list[int | str]:
    """Everything that a study's results depend on, besides files and options."""
    return [RESULTS_FORMAT, *(bundle.facts.model_dump_json() for bundle in (detector, segmenter))]


def _earlier_seconds(folder: Path | None) -> dict[str, dict[str, float]]:
    """The times of an earlier run into a folder, by study; none if the table is missing or damaged."""
    if folder is None:
        return {}
    try:
        with (folder / f"{TIMES}.csv").open(encoding="utf-8", newline="") as handle:
            return {
                row["study"]: {name: float(row[name]) for name in STAGES} for row in csv.DictReader(handle)
            }
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    return f"{value:.6f}" if isinstance(value, float) else value
