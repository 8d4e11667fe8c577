"""Overview of received studies and their delivery, for the page."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args

from sqlalchemy import ColumnElement, case, exists, func, select

from groundglass.store.database import Database
from groundglass.store.tables import DONE, FAILED, IGNORED, RECEIVING, SEND, Arrival, Job, Study

State = Literal["receiving", "waiting", "answered", "sent", "failed", "ignored"]
"""``answered``: there is an answer, which is still to be sent or need not be sent. ``failed``: it could not
be answered or sent."""
STATES: tuple[State, ...] = get_args(State)


@dataclass(frozen=True)
class Received:
    """One examination, its study if there is one, and the jobs that send the study's results."""

    arrival: Arrival
    state: State
    study: Study | None
    jobs: Sequence[Job]


def _state() -> ColumnElement[str]:
    def job(*conditions: ColumnElement[bool]) -> ColumnElement[bool]:
        return exists().where(Job.study_id == Arrival.study_id, Job.kind == SEND, *conditions)

    return case(
        (Arrival.state == RECEIVING, "receiving"),
        (Arrival.state == IGNORED, "ignored"),
        (Study.state == FAILED, "failed"),
        (Study.state != DONE, "waiting"),
        (job(Job.state == FAILED), "failed"),
        (job() & ~job(Job.state != DONE), "sent"),
        else_="answered",
    )


def overview(
    database: Database, state: State | None = None, limit: int = 50, offset: int = 0
) -> tuple[list[Received], dict[State, int]]:
    """The examinations received, the latest first, and the number of examinations in each state."""
    label = _state()
    rows = select(Arrival, Study, label).outerjoin(Study, Study.id == Arrival.study_id)
    page = rows.order_by(Arrival.last.desc(), Arrival.id).limit(limit).offset(offset)
    if state is not None:
        page = page.where(label == state)
    counted = select(label, func.count()).select_from(Arrival).outerjoin(Study, Study.id == Arrival.study_id)
    with database.read() as session:
        found = session.execute(page).all()
        ids = [study.id for _, study, _ in found if study is not None]
        sends = select(Job).where(Job.study_id.in_(ids), Job.kind == SEND).order_by(Job.id)
        jobs = session.scalars(sends).all()
        counts = {name: count for name, count in session.execute(counted.group_by(label))}  # noqa: C416
    received = [
        Received(arrival, cast(State, name), study, [job for job in jobs if job.study_id == arrival.study_id])
        for arrival, study, name in found
    ]
    return received, {one: counts.get(one, 0) for one in STATES}
