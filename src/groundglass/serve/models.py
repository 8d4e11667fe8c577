"""What the API answers with: its documentation and the client's texts follow from these classes."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from groundglass.store.history import Entry
from groundglass.store.tables import Event, Study

State = Literal["received", "queued", "running", "done", "failed"]
Verdict = Literal["covid", "not covid", "uncertain", "not a chest CT"]
Scope = Literal["read", "write", "admin"]


def when(seconds: float | None) -> datetime | None:
    """A time of the database as one with its zone."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


class Accepted(BaseModel):
    """An upload that is stored durably. ``known`` says that the same study was sent before."""

    id: str
    known: bool


class Patient(BaseModel):
    """Who was examined, as the files state it."""

    name: str | None
    id: str | None


class Progress(BaseModel):
    """Slices that are read, and all slices; 0 while that is not known."""

    done: int
    total: int


class StudySummary(BaseModel):
    """A study in a list.

    Attributes
    ----------
    version
        1 for the first study of this StudyInstanceUID; later ones supersede it.
    verdict, probability, lesion_ml
        The answer. Pictures that were sent together are answered one by one, so they have no common verdict.
    problem, remedy
        Why the study failed, and what to do about it.
    divided_into
        Ids of the studies that an upload of several examinations became.
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
        """The content for an entry of the history."""
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
    """A file of a study: results name it as ``stored``."""

    stored: str
    name: str
    bytes: int


class StudyDetails(StudySummary):
    """A study with its findings (the content of ``findings.json``), the names of its results, and its files.

    ``viewable`` says that its slices or pictures can be seen, under ``/studies/{id}/view/view.json``.
    """

    findings: dict[str, Any] | None
    results: list[str]
    viewable: bool
    sent: list[FileSent]


class Search(BaseModel):
    """What to look for; each word of ``text`` must be in the patient's name or id, the date, or the study's id."""

    model_config = ConfigDict(strict=True)  # so that false is not taken for 0

    text: Annotated[str, Field(max_length=200)] = ""
    state: State | None = None
    verdict: Verdict | None = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 50
    offset: Annotated[int, Field(ge=0, le=2**31)] = 0


class StudyList(BaseModel):
    """A page of studies, the latest first, and how many there are on all pages."""

    studies: list[StudySummary]
    total: int


class StudyEvent(BaseModel):
    """Where a study stands; sent whenever that changes."""

    state: State
    progress: Progress
    verdict: Verdict | None
    problem: str | None


class BundleInfo(BaseModel):
    """A detector that a study can be answered with; ``limits`` are sentences on what its answers do not say."""

    name: str
    default: bool
    trained_on: str
    limits: list[str]
    graph_sha256: str


class Health(BaseModel):
    """Whether the server can work. ``workers`` are those that are ready; ``room`` says that uploads are taken."""

    status: Literal["ok", "degraded"]
    version: str
    workers: int
    room: bool


class SignIn(BaseModel):
    """A token to sign in with."""

    token: str


class Session(BaseModel):
    """Who is signed in. Requests that change something repeat ``csrf`` in the header ``X-CSRF-Token``."""

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
        """The line of a row."""
        return cls(
            at=datetime.fromtimestamp(event.at, UTC), who=event.who, action=event.action, study=event.study
        )


class Log(BaseModel):
    """A page of the log, the latest line first, and how many lines there are."""

    lines: list[LogLine]
    total: int
