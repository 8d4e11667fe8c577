"""The job queue: a worker leases a job, renews the lease while it works, and ends the job in one transaction.

If a worker dies, another one repeats its job, with increasing delays. A worker that has lost its lease cannot
end the job, so no result is entered twice.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, or_, select, update
from sqlalchemy.orm import Session

from groundglass.store.database import Database
from groundglass.store.tables import ANSWER, DONE, FAILED, QUEUED, RECEIVED, RUNNING, SEND, Job, Study

LEASE = 30.0
"""Seconds."""
ATTEMPTS = 5
FIRST_DELAY, LONGEST_DELAY = 1.0, 600.0


@dataclass(frozen=True)
class Claim:
    """A job that a worker has leased."""

    job: int
    study: str
    owner: str
    attempts: int


def new_job(study: str, destination: str | None = None) -> Job:
    """The row of a job that may start now: answer a study, or send its results to a destination."""
    kind = ANSWER if destination is None else SEND
    return Job(
        study_id=study,
        kind=kind,
        destination=destination,
        state=QUEUED,
        attempts=0,
        run_after=time.time(),
        progress=0,
        total=0,
    )


def delay(attempts: int, longest: float = LONGEST_DELAY) -> float:
    """Seconds to wait after this many attempts."""
    return float(min(longest, FIRST_DELAY * 2.0 ** min(attempts - 1, 30)))


def claim(
    database: Database, owner: str, destination: str | None = None, lease: float = LEASE
) -> Claim | None:
    """Lease the job that has waited longest; None if no job is waiting.

    Parameters
    ----------
    database
        The server's database.
    owner
        The worker's name.
    destination
        Destination of the results to send; None for a study to answer.
    lease
        Seconds.
    """
    now = time.time()
    ready = and_(
        Job.destination.is_(None) if destination is None else Job.destination == destination,
        or_(
            and_(Job.state == QUEUED, Job.run_after <= now), and_(Job.state == RUNNING, Job.lease_until < now)
        ),
    )
    waiting = select(Job).where(ready).order_by(Job.run_after, Job.id).limit(1)
    with database.read() as reading:  # an idle worker takes no lock
        if reading.scalar(waiting) is None:
            return None
    with database.write() as session:
        job = session.scalar(waiting.with_for_update(skip_locked=True))
        if job is None:
            return None
        if job.state == RUNNING and job.attempts >= ATTEMPTS:
            _end(session, job, FAILED, **_gave_up(job))
            return None
        job.state, job.owner, job.started, job.lease_until = RUNNING, owner, now, now + lease
        job.attempts += 1
        if job.kind == ANSWER:
            job.progress, job.total = 0, 0
        _set(session, job, state=RUNNING)
        return Claim(job.id, job.study_id, owner, job.attempts)


def renew(database: Database, claim: Claim, progress: int, total: int, lease: float = LEASE) -> bool:
    """Renew the lease and record the progress; False if the job no longer belongs to this worker."""
    with database.write() as session:
        job = _mine(session, claim)
        if job is None:
            return False
        job.lease_until, job.progress, job.total = time.time() + lease, progress, total
        return True


def identify(database: Database, claim: Claim, **person: str | None) -> None:
    """Record the person and the examination as the files' headers state them."""
    with database.write() as session:
        if (job := _mine(session, claim)) is not None:
            _set(session, job, **person)


def finish(database: Database, claim: Claim, answer: Mapping[str, Any]) -> bool:
    """Enter an answer, as columns of the study's row; False if the job no longer belongs to this worker."""
    return _ended(database, claim, DONE, answer)


def fail(database: Database, claim: Claim, problem: str, remedy: str = "") -> bool:
    """End a job without an answer; False if it no longer belongs to this worker."""
    return _ended(database, claim, FAILED, {"problem": problem, "remedy": remedy})


def postpone(
    database: Database,
    claim: Claim,
    problem: str,
    remedy: str = "",
    *,
    attempts: float = ATTEMPTS,
    longest: float = LONGEST_DELAY,
) -> None:
    """Repeat a job after a delay of at most ``longest`` seconds, or give up after this many attempts."""
    with database.write() as session:
        if (job := _mine(session, claim)) is not None:
            _again(session, job, {"problem": problem, "remedy": remedy}, attempts, longest)


def running(database: Database, owner: str) -> tuple[Claim, float] | None:
    """The job that a worker is doing, and its start time."""
    with database.read() as session:
        job = session.scalar(select(Job).where(Job.owner == owner, Job.state == RUNNING))
    return None if job is None else (Claim(job.id, job.study_id, owner, job.attempts), job.started or 0.0)


def lost(database: Database, owner: str) -> None:
    """Queue the job of a worker that died again, after a delay; it fails after :data:`ATTEMPTS` attempts."""
    with database.write() as session:
        for job in session.scalars(select(Job).where(Job.owner == owner, Job.state == RUNNING)):
            _again(session, job, _gave_up(job))


def recover(database: Database) -> None:
    """Queue the jobs of all workers again when a server starts, because no worker is alive then.

    The attempt does not count, because the job did not cause the server to stop.
    """
    with database.write() as session:
        for job in session.scalars(select(Job).where(Job.state == RUNNING)):
            job.attempts = max(0, job.attempts - 1)
            job.state, job.owner, job.lease_until, job.run_after = QUEUED, None, None, time.time()
            _set(session, job, state=QUEUED)


def release(database: Database, study: str) -> bool:
    """Queue a study that was ``received``; False if it is in another state."""
    with database.write() as session:
        row = session.get(Study, study)
        if row is None or row.state != RECEIVED:
            return False
        row.state = QUEUED
        session.add(new_job(study))
        return True


def retry(database: Database, study: str) -> bool:
    """Queue a failed study again; False if it is in another state."""
    with database.write() as session:
        row = session.get(Study, study)
        if row is None or row.state != FAILED:
            return False
        row.state, row.problem, row.remedy, row.finished = QUEUED, None, None, None
        session.execute(
            update(Job)
            .where(Job.study_id == study, Job.kind == ANSWER)
            .values(state=QUEUED, attempts=0, run_after=time.time(), owner=None)
        )
        return True


def resend(database: Database, study: str, destination: str | None = None) -> int:
    """Send a study's results again, to one destination or to all; returns the number of destinations."""
    again = Job.destination.is_not(None) if destination is None else Job.destination == destination
    with database.write() as session:
        jobs = session.scalars(
            select(Job).where(Job.study_id == study, Job.state.in_((DONE, FAILED)), again)
        ).all()
        for job in jobs:
            job.state, job.attempts, job.run_after, job.problem = QUEUED, 0, time.time(), None
        return len(jobs)


def _mine(session: Session, claim: Claim) -> Job | None:
    """The job, locked, if this worker still has its lease."""
    mine = select(Job).where(
        Job.id == claim.job,
        Job.owner == claim.owner,
        Job.attempts == claim.attempts,
        Job.state == RUNNING,
    )
    return session.scalar(mine.with_for_update())


def _again(
    session: Session,
    job: Job,
    failure: Mapping[str, str],
    attempts: float = ATTEMPTS,
    longest: float = LONGEST_DELAY,
) -> None:
    if job.attempts >= attempts:
        _end(session, job, FAILED, **failure)
        return
    job.state, job.owner, job.lease_until = QUEUED, None, None
    job.run_after = time.time() + delay(job.attempts, longest)
    _set(session, job, state=QUEUED)
    if job.kind == SEND:
        job.problem = failure["problem"]


def _gave_up(job: Job) -> dict[str, str]:
    return {
        "problem": f"the worker process ended unexpectedly {job.attempts} times on this study",
        "remedy": "report this; other studies are not affected",
    }


def _ended(database: Database, claim: Claim, state: str, columns: Mapping[str, Any]) -> bool:
    with database.write() as session:
        job = _mine(session, claim)
        if job is None:
            return False
        _end(session, job, state, **columns)
        return True


def _end(session: Session, job: Job, state: str, **columns: Any) -> None:
    if state == DONE and job.kind == ANSWER:
        job.progress = job.total
    job.state, job.owner, job.lease_until = state, None, None
    if job.kind == SEND:
        job.problem = columns.get("problem")
    _set(session, job, state=state, finished=time.time(), **columns)


def _set(session: Session, job: Job, **columns: Any) -> None:
    if job.kind == ANSWER:
        session.execute(update(Study).where(Study.id == job.study_id).values(**columns))
