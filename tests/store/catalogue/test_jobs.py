"""Jobs in the catalogue: one of each kind, claimed by one at a time, taken over and given up."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace

from weightvault.store.catalogue.catalogue import Catalogue
from weightvault.store.catalogue.queues.jobs import (
    KEPT_SECONDS,
    JobRow,
    add_job,
    cancel_job,
    claim_job,
    end_job,
    list_jobs,
    return_job,
    tell_job,
)


def make_job(name: str, at: float) -> JobRow:
    return JobRow(name, "optimise", "{}", at, "optimise")


def test_a_job_is_claimed_by_one_and_taken_over_late(catalogue: Catalogue):
    assert claim_job(catalogue, 10.0, 20.0) is None
    assert add_job(catalogue, make_job("a", 1.0)).id == "a"
    assert add_job(catalogue, make_job("b", 2.0)).id == "a"
    mine = claim_job(catalogue, 10.0, 20.0)
    assert mine is not None
    assert (mine.id, mine.state, mine.until) == ("a", "running", 20.0)
    assert claim_job(catalogue, 15.0, 25.0) is None
    assert tell_job(catalogue, mine, "{}", 30.0)
    # The row as it was before is nobody's any more.
    assert not tell_job(catalogue, mine, "{}", 40.0)
    late = claim_job(catalogue, 31.0, 41.0)
    assert late is not None
    assert not end_job(catalogue, replace(mine, until=30.0), "done", "{}")
    assert return_job(catalogue, late)
    again = claim_job(catalogue, 32.0, 42.0)
    assert again is not None
    assert end_job(catalogue, again, "done", json.dumps({"x": 1}))
    assert not cancel_job(catalogue, "a")
    assert add_job(catalogue, make_job("c", KEPT_SECONDS)).id == "c"
    assert cancel_job(catalogue, "c")
    assert {job.id for job in list_jobs(catalogue, 9)} == {"a", "c"}
    assert add_job(catalogue, make_job("d", KEPT_SECONDS + 2.0)).id == "d"
    assert {job.id for job in list_jobs(catalogue, 9)} == {"c", "d"}


def test_two_who_ask_at_once_get_one_job(catalogue: Catalogue):
    found: list[str] = []

    def ask(name: str) -> None:
        job = JobRow(name, "comparison", "{}", time.time(), "comparison")
        found.append(add_job(catalogue, job).id)

    threads = [threading.Thread(target=ask, args=(f"{i}",)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert len(set(found)) == 1
