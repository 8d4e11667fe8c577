"""The schema of the server's database. A change here needs a migration in ``store/migrations``.

Times are seconds since 1970 (UTC).
"""

from typing import Any

from sqlalchemy import JSON, BigInteger, Double, ForeignKey, Index, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, deferred, mapped_column

RECEIVED, QUEUED, RUNNING, DONE, FAILED = STATES = ("received", "queued", "running", "done", "failed")
"""The states of a study. ``received``: its files are stored, but more may follow before it is queued."""
ANSWER, SEND = "answer", "send"
"""The kinds of jobs: answer a study, and send its results to a destination."""
RECEIVING, TAKEN, IGNORED = "receiving", "taken", "ignored"
"""The states of an arrival: more may follow; it has become a study; nothing in it is to be answered."""


BY_DICOM = "dicom"
"""The option that marks studies received by the DICOM node."""


class Base(DeclarativeBase):
    """The base of all tables."""

    type_annotation_map = {float: Double, dict[str, Any]: JSON, list[str]: JSON}  # noqa: RUF012


class Study(Base):
    """One examination, or a set of pictures, with the bundle and the options for answering it."""

    __tablename__ = "studies"
    __table_args__ = (Index("studies_of_one_uid", "uid", "bundle"), Index("studies_by_time", "received"))

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    key: Mapped[str] = mapped_column(String(64), unique=True)
    """A hash of content, bundle and options, so that the same study is not answered twice."""
    content: Mapped[str] = mapped_column(String(64))
    """A hash of the bytes of all files."""
    bundle: Mapped[str] = mapped_column(String(200))
    bundle_key: Mapped[str] = mapped_column(String(64))
    """A hash of the bundle's content."""
    options: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(String(16), index=True)
    received: Mapped[float]
    finished: Mapped[float | None]
    files: Mapped[int]
    size: Mapped[int] = mapped_column(BigInteger)
    """Bytes of all files."""

    # The person examined, from the files' headers. This must not appear in any log, URL or message.
    uid: Mapped[str | None] = mapped_column(String(200))
    """StudyInstanceUID; studies with the same UID and bundle are versions, of which the latest is valid."""
    patient_id: Mapped[str | None] = mapped_column(String(200))
    patient_name: Mapped[str | None] = mapped_column(String(400))
    study_date: Mapped[str | None] = mapped_column(String(16))

    # The answer.
    verdict: Mapped[str | None] = mapped_column(String(32), index=True)
    probability: Mapped[float | None]
    lesion_ml: Mapped[float | None]
    findings: Mapped[dict[str, Any] | None] = deferred(mapped_column(JSON))
    """The content of ``findings.json``."""
    divided_into: Mapped[list[str] | None]
    """Ids of the studies that an upload with several examinations was divided into."""
    problem: Mapped[str | None] = mapped_column(Text)
    remedy: Mapped[str | None] = mapped_column(Text)


class StoredFile(Base):
    """A file of a study, stored under a name that reveals nothing about the patient."""

    __tablename__ = "files"

    study_id: Mapped[str] = mapped_column(ForeignKey("studies.id", ondelete="CASCADE"), primary_key=True)
    stored: Mapped[str] = mapped_column(String(32), primary_key=True)
    """Its name in the study's folder."""
    name: Mapped[str] = mapped_column(Text)
    """Its name when it was sent, or within the ZIP."""
    size: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))


class Job(Base):
    """Work that is waiting for a worker, in progress, or finished."""

    __tablename__ = "jobs"
    __table_args__ = (Index("jobs_to_do", "state", "kind", "run_after"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    study_id: Mapped[str] = mapped_column(ForeignKey("studies.id", ondelete="CASCADE"), index=True)
    kind: Mapped[str] = mapped_column(String(16))
    destination: Mapped[str | None] = mapped_column(String(64))
    """The destination of results."""
    state: Mapped[str] = mapped_column(String(16))
    attempts: Mapped[int]
    run_after: Mapped[float]
    owner: Mapped[str | None] = mapped_column(String(64))
    """The worker that is doing it."""
    started: Mapped[float | None]
    lease_until: Mapped[float | None]
    """The time after which another worker may take the job, unless its owner renews the lease."""
    progress: Mapped[int]
    total: Mapped[int]
    """Number of slices read, and of all slices (0 while unknown); or number of results whose sending has
    begun, and of all."""
    problem: Mapped[str | None] = mapped_column(Text)
    """Why results were not sent, or not sent yet."""


class Arrival(Base):
    """What the DICOM node has received of one examination."""

    __tablename__ = "arrivals"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    """Also the name of the folder for instances that are not yet part of a study."""
    uid: Mapped[str] = mapped_column(String(200), unique=True)
    """StudyInstanceUID. It identifies a person and must not appear in any log, URL or message."""
    caller: Mapped[str] = mapped_column(String(64))
    """The sender of the latest instance: an AE title, a peer's name, or ``STOW-RS``."""
    state: Mapped[str] = mapped_column(String(16), index=True)
    first: Mapped[float]
    last: Mapped[float]
    """Times of arrival of the first and the latest instance."""
    instances: Mapped[dict[str, Any]]
    """The instances of each series, whether answered or left out, as hashes of their UIDs."""
    left_out: Mapped[dict[str, Any]]
    """Reasons why instances are not answered, with their number."""
    problem: Mapped[str | None] = mapped_column(Text)
    """Why it is waiting, or what was missing when it was accepted."""
    study_id: Mapped[str | None] = mapped_column(ForeignKey("studies.id", ondelete="CASCADE"), index=True)
    """The latest version of its study."""
    answered: Mapped[bool]
    """Whether this version has been answered and its results queued for the destinations."""


class Token(Base):
    """A token for programs, or a session opened with one; only its hash is stored."""

    __tablename__ = "tokens"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    hash: Mapped[str] = mapped_column(String(64), unique=True)
    name: Mapped[str] = mapped_column(String(200))
    """The user's name, which the log contains."""
    scopes: Mapped[list[str]]
    created: Mapped[float]
    expires: Mapped[float | None]
    parent: Mapped[str | None] = mapped_column(ForeignKey("tokens.id", ondelete="CASCADE"), index=True)
    """For a session, the token that opened it; the session ends with that token."""


class Event(Base):
    """A line of the log: who signed in, or who viewed, exported, sent or deleted which study."""

    __tablename__ = "events"

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[float] = mapped_column(index=True)
    who: Mapped[str] = mapped_column(String(200))
    action: Mapped[str] = mapped_column(String(32))
    study: Mapped[str | None] = mapped_column(String(32))
    """Its id, kept after the study is deleted."""
