"""Leases, retries, and that no result is entered twice."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from test_intake import send

from groundglass.store import queue
from groundglass.store.database import Database
from groundglass.store.history import Entry, counts, find, forget, listed
from groundglass.store.queue import (
    ATTEMPTS,
    claim,
    delay,
    fail,
    finish,
    lost,
    postpone,
    recover,
    renew,
    running,
)


def entry(database: Database, study: str) -> Entry:
    found = find(database, study)
    assert found is not None
    return found


def test_a_job_is_leased_done_and_ended_once(database: Database, data: Path) -> None:
    study, _ = send(database, data, {"1": b"one"})
    lease = claim(database, "first")
    assert lease is not None
    assert claim(database, "second") is None
    assert renew(database, lease, 3, 10)
    found = entry(database, study)
    assert (found.study.state, found.progress, found.total) == ("running", 3, 10)
    now = running(database, "first")
    assert now is not None
    assert now[0] == lease
    assert finish(database, lease, {"verdict": "covid", "probability": 0.5, "findings": {"a": [1]}})
    assert not finish(database, lease, {"verdict": "not covid"})
    assert not fail(database, lease, "too late")
    found = entry(database, study)
    assert (found.study.state, found.study.verdict, found.study.findings) == ("done", "covid", {"a": [1]})
    assert found.study.finished is not None
    assert claim(database, "first") is None


def test_many_workers_never_take_one_job_twice(database: Database, data: Path) -> None:
    for number in range(20):
        send(database, data, {"1": str(number).encode()})

    def work(name: int) -> list[int]:
        done = []
        while lease := claim(database, f"worker {name}"):
            assert finish(database, lease, {})
            done.append(lease.job)
        return done

    with ThreadPoolExecutor(4) as pool:
        taken = Counter(job for jobs in pool.map(work, range(4)) for job in jobs)
    # A worker that found another one faster may have stopped early: the last one of all goes on.
    taken.update(work(9))
    assert len(taken) == 20
    assert set(taken.values()) == {1}
    assert counts(database) == {"done": 20}


def test_a_worker_that_lost_its_lease_cannot_end_the_job(database: Database, data: Path) -> None:
    study, _ = send(database, data, {"1": b"one"})
    slow = claim(database, "slow", lease=-1)
    fast = claim(database, "fast")
    assert slow is not None
    assert fast is not None
    assert not renew(database, slow, 1, 1)
    assert not finish(database, slow, {"verdict": "covid"})
    assert finish(database, fast, {"verdict": "not covid"})
    assert entry(database, study).study.verdict == "not covid"


def test_a_job_whose_worker_dies_is_tried_again_later_and_given_up_in_the_end(
    database: Database, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(queue.time, "time", lambda: clock[0])
    study, _ = send(database, data, {"1": b"one"})
    for attempt in range(1, ATTEMPTS + 1):
        assert claim(database, "me") is not None
        lost(database, "me")
        if attempt < ATTEMPTS:
            assert entry(database, study).study.state == "queued"
            clock[0] += delay(attempt) - 0.1
            assert claim(database, "me") is None
            clock[0] += 0.2
    found = entry(database, study).study
    assert found.state == "failed"
    assert found.problem == f"the worker process ended unexpectedly {ATTEMPTS} times on this study"
    assert claim(database, "me") is None


def test_leases_that_run_out_are_given_up_too(database: Database, data: Path) -> None:
    study, _ = send(database, data, {"1": b"one"})
    for _ in range(ATTEMPTS):
        assert claim(database, "gone", lease=-1) is not None
    assert claim(database, "next") is None
    assert entry(database, study).study.state == "failed"


def test_a_postponed_job_keeps_its_reason_when_it_is_given_up(database: Database, data: Path) -> None:
    study, _ = send(database, data, {"1": b"one"})
    for _ in range(ATTEMPTS):
        lease = claim(database, "me")
        assert lease is not None
        postpone(database, lease, "the disk is full", "make room")
        with database.write() as session:
            session.query(queue.Job).update({"run_after": 0})
    found = entry(database, study).study
    assert (found.state, found.problem, found.remedy) == ("failed", "the disk is full", "make room")


def test_a_start_of_the_server_queues_what_ran_and_counts_no_attempt(database: Database, data: Path) -> None:
    study, _ = send(database, data, {"1": b"one"})
    for _ in range(2 * ATTEMPTS):
        assert claim(database, "me") is not None
        recover(database)
    found = entry(database, study)
    assert (found.study.state, found.attempts) == ("queued", 0)


def test_a_study_that_is_deleted_while_it_runs_cannot_be_ended(database: Database, data: Path) -> None:
    study, _ = send(database, data, {"1": b"one"})
    lease = claim(database, "me")
    assert lease is not None
    assert forget(database, data, study)
    assert not finish(database, lease, {"verdict": "covid"})
    assert listed(database) == ([], 0)
