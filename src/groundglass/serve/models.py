"""The API's responses; its documentation is generated from these classes."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from groundglass.store.history import Entry
from groundglass.store.tables import Event, Study

State = Literal["received", "queued", "running", "done", "failed"]
Verdict = Literal["covid", "not covid", "uncertain", "not a chest CT"]
Scope = Literal["read", "write", "admin"]


def when(seconds: float | None) -> datetime | None:
    """A time from the database, with time zone."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


class Accepted(BaseModel):
    """An upload that is stored durably. ``known`` means that the same study was sent before."""

    id: str
    known: bool


class Patient(BaseModel):
    """The person examined, according to the files."""

    name: str | None
    id: str | None


class Progress(BaseModel):
    """Number of slices read, and of all slices; 0 while unknown."""

    done: int
    total: int


class StudySummary(BaseModel):
    """A study in a list.

    Attributes
    ----------
    version
        1 for the first study with this StudyInstanceUID; later ones supersede it.
    verdict, probability, lesion_ml
        The answer. Pictures that were sent together are answered separately and have no common verdict.
    problem, remedy
        Why the study failed, and what to do about it.
    divided_into
        Ids of the studies that an upload with several examinations was divided into.
    """

    id: str
    state: State
    received: datetime
    finished: datetime | None
    bundle: str
    anonymise: bool
    files: int
    bytes: int
    patient: Patient
    study_date: str | None
    version: int
    supersedes: str | None
    superseded_by: str | None
    progress: Progress
    attempts: int
    verdict: Verdict | None
    probability: float | None
    lesion_ml: float | None
    problem: str | None
    remedy: str | None
    divided_into: list[str] | None

    @classmethod
    def values(cls, entry: Entry) -> dict[str, Any]:
        """The content for an entry in the history."""
        study: Study = entry.study
        return {
            "id": study.id,
            "state": study.state,
            "received": when(study.received),
            "finished": when(study.finished),
            "bundle": study.bundle,
            "anonymise": bool(study.options.get("anonymise")),
            "files": study.files,
            "bytes": study.size,
            "patient": Patient(name=study.patient_name, id=study.patient_id),
            "study_date": study.study_date,
            "version": entry.version,
            "supersedes": entry.supersedes,
            "superseded_by": entry.superseded_by,
            "progress": Progress(done=entry.progress, total=entry.total),
            "attempts": entry.attempts,
            "verdict": study.verdict,
            "probability": study.probability,
            "lesion_ml": study.lesion_ml,
            "problem": study.problem,
            "remedy": study.remedy,
            "divided_into": study.divided_into,
        }


class FileSent(BaseModel):
    """A file of a study; results refer to it by the name ``stored``."""

    stored: str
    name: str
    bytes: int


class StudyDetails(StudySummary):
    """A study with its findings (the content of ``findings.json``), the names of its results, and its files.

    ``viewable`` means that its slices or pictures can be viewed, see ``/studies/{id}/view/view.json``.
    """

    findings: dict[str, Any] | None
    results: list[str]
    viewable: bool
    sent: list[FileSent]


class Search(BaseModel):
    """Search terms; each word of ``text`` must occur in the patient's name or id, the date, or the study's id."""

    model_config = ConfigDict(strict=True)  # so that false is not read as 0

    text: Annotated[str, Field(max_length=200)] = ""
    state: State | None = None
    verdict: Verdict | None = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 50
    offset: Annotated[int, Field(ge=0, le=2**31)] = 0


class StudyList(BaseModel):
    """A page of studies, the latest first, and the total number on all pages."""

    studies: list[StudySummary]
    total: int


class StudyEvent(BaseModel):
    """The state of a study, sent whenever it changes."""

    state: State
    progress: Progress
    verdict: Verdict | None
    problem: str | None


class BundleInfo(BaseModel):
    """An available detector; ``limits`` are sentences about the limits of its answers."""

    name: str
    default: bool
    trained_on: str
    limits: list[str]
    graph_sha256: str


class Health(BaseModel):
    """The server's health. ``workers`` is the number that are ready; ``room`` means that uploads are accepted."""

    status: Literal["ok", "degraded"]
    version: str
    workers: int
    room: bool


class SignIn(BaseModel):
    """A token to sign in with."""

    token: str


class Session(BaseModel):
    """The signed-in user. Requests that change something must repeat ``csrf`` in the header ``X-CSRF-Token``."""

    user: str
    scopes: list[str]
    csrf: str | None


class LogLine(BaseModel):
    """Who did what when."""

    at: datetime
    who: str
    action: str
    study: str | None

    @classmethod
    def of(cls, event: Event) -> "LogLine":
        """The log line of a row."""
        return cls(
            at=datetime.fromtimestamp(event.at, UTC), who=event.who, action=event.action, study=event.study
        )


class Log(BaseModel):
    """A page of the log, the latest line first, and the total number of lines."""

    lines: list[LogLine]
    total: int
