"""Long work that operators ask a server for: one of each kind, followed, cancelled, taken over."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from live_server import serving, wait_until
from models import make_weights, write_model

from weightvault.api.client import http_jobs
from weightvault.api.client.http_vault import HttpVault
from weightvault.api.server.app import create_app
from weightvault.api.server.jobs import JobRunner
from weightvault.dedup.errors import Corrupt, Unreachable
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.progress import Progress
from weightvault.dedup.transfer.push import push
from weightvault.dedup.vault import Optimised
from weightvault.store.catalogue.queues.jobs import (
    JobRow,
    add_job,
    cancel_job,
    find_job,
    list_jobs,
)
from weightvault.store.errors import Conflict

OPTIMISE = {"kind": "optimise", "dry_run": False}


class SlowWork:
    """Optimising that goes on until it is let go, in steps that may be cancelled."""

    def __init__(self, vault: LocalVault, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.go = threading.Event(), threading.Event()
        self.times = 0
        monkeypatch.setattr(vault, "optimise_all", self.run)

    def run(self, *, dry_run: bool, reads: int | None, progress: Progress) -> Optimised:
        assert reads is None
        self.times += 1
        with progress.running("optimising", 9, "chunks"):
            self.begun.set()
            progress.advance(4)
            while not self.go.wait(0.02):
                progress.advance(0)
            progress.advance(5)
        return Optimised(families=3)


@pytest.fixture
def vault(local: LocalVault, tmp_path: Path) -> LocalVault:
    push(local, write_model(tmp_path / "a", make_weights(1)), "org/a")
    return local


@pytest.fixture
def slow(vault: LocalVault, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowWork]:
    work = SlowWork(vault, monkeypatch)
    yield work
    work.go.set()


@pytest.fixture
def web(vault: LocalVault) -> Iterator[httpx.Client]:
    with (
        serving(create_app(vault)) as url,
        httpx.Client(base_url=url, trust_env=False) as client,
    ):
        yield client


def follow(web: httpx.Client, job: str) -> dict:
    return web.get(f"/v1/jobs/{job}").json()


def test_a_job_is_followed_to_its_result(web: httpx.Client, slow: SlowWork):
    asked = web.post("/v1/jobs", json=OPTIMISE)
    assert asked.status_code == 202
    job = asked.json()["id"]
    assert slow.begun.wait(30)
    found = follow(web, job)
    assert (found["state"], found["result"], found["asked"]) == (
        "running",
        None,
        {"dry_run": False},
    )
    told = {"task": "optimising", "done": found["progress"]["done"], "total": 9, "unit": "chunks"}
    assert found["progress"] == told
    assert told["done"] in (0, 4)
    slow.go.set()
    wait_until(lambda: follow(web, job)["state"] == "done")
    done = follow(web, job)
    assert done["progress"]["done"] == 9
    nothing = dict.fromkeys(("changed", "chunks", "before", "after", "freed"), 0)
    assert done["result"] == {"families": 3, **nothing}
    assert [each["id"] for each in web.get("/v1/jobs").json()] == [job]


def test_there_is_one_of_each_kind(web: httpx.Client, slow: SlowWork):
    first = web.post("/v1/jobs", json=OPTIMISE).json()["id"]
    assert web.post("/v1/jobs", json=OPTIMISE).json()["id"] == first
    other = web.post("/v1/jobs", json={"kind": "optimise", "dry_run": True})
    assert (other.status_code, other.json()["error"]["code"]) == (409, "conflict")
    assert first in other.json()["error"]["hint"]
    comparison = web.post("/v1/jobs", json={"kind": "comparison"}).json()
    assert comparison["state"] == "waiting"
    slow.go.set()
    wait_until(lambda: follow(web, comparison["id"])["state"] == "done")
    assert follow(web, comparison["id"])["result"]["share"] == 1
    assert web.post("/v1/jobs", json=OPTIMISE).json()["id"] != first


def test_a_cancelled_job_ends_and_makes_room(web: httpx.Client, slow: SlowWork):
    job = web.post("/v1/jobs", json=OPTIMISE).json()["id"]
    assert slow.begun.wait(30)
    assert web.delete(f"/v1/jobs/{job}").status_code == 204
    assert follow(web, job)["state"] == "cancelled"
    # Once more changes nothing.
    assert web.delete(f"/v1/jobs/{job}").status_code == 204
    slow.go.set()
    again = web.post("/v1/jobs", json=OPTIMISE).json()["id"]
    wait_until(lambda: follow(web, again)["state"] == "done")
    assert (slow.times, follow(web, job)["state"]) == (2, "cancelled")


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"kind": "check"},
        {"kind": "optimise", "cursor": 3},
        {"kind": "comparison", "share": 0},
        {"kind": "comparison", "share": 1.5},
        {"kind": "comparison", "seed": 1 << 64},
        [],
        "optimise",
    ],
)
def test_what_is_no_job(web: httpx.Client, asked: object):
    assert web.post("/v1/jobs", json=asked).status_code == 422


def test_jobs_that_are_not_there(web: httpx.Client):
    for method in ("GET", "DELETE"):
        assert web.request(method, f"/v1/jobs/{'0' * 32}").status_code == 404
        assert web.request(method, "/v1/jobs/x").status_code == 422


def test_errors_of_the_work_reach_who_asked(vault: LocalVault, live: str, monkeypatch):
    def fail(**_: object) -> None:
        raise Corrupt("a manifest is damaged", "look closer")

    monkeypatch.setattr(vault, "optimise_all", fail)
    with pytest.raises(Corrupt, match="a manifest is damaged") as caught:
        HttpVault(live).optimise_all()
    assert caught.value.hint == "look closer"
    monkeypatch.setattr(vault, "optimise_all", lambda **_: 1 / 0)
    with pytest.raises(Exception, match="failed unexpectedly"):
        HttpVault(live).optimise_all()


def test_an_interrupted_caller_ends_the_job(vault, live: str, slow: SlowWork, monkeypatch):
    def interrupt(_seconds: float) -> None:
        assert slow.begun.wait(30)
        raise KeyboardInterrupt

    monkeypatch.setattr(http_jobs, "time", SimpleNamespace(sleep=interrupt))
    with pytest.raises(KeyboardInterrupt):
        HttpVault(live).optimise_all()
    (job,) = list_jobs(vault.catalogue, 9)
    assert (job.state, job.slot) == ("cancelled", None)


def test_whoever_waits_for_a_cancelled_job_is_told(vault, live: str, slow: SlowWork, monkeypatch):
    def cancel(_seconds: float) -> None:
        (job,) = list_jobs(vault.catalogue, 9)
        cancel_job(vault.catalogue, job.id)

    monkeypatch.setattr(http_jobs, "time", SimpleNamespace(sleep=cancel))
    with pytest.raises(Unreachable, match="somebody cancelled"):
        HttpVault(live).optimise_all()


def test_a_stopped_server_leaves_its_job_to_the_next(vault: LocalVault, slow: SlowWork):
    job = JobRow("0" * 32, "optimise", '{"dry_run": false}', time.time(), "optimise")
    add_job(vault.catalogue, job)
    first = JobRunner(lambda: vault)
    first.start()
    assert slow.begun.wait(30)
    first.stop()
    left = find_job(vault.catalogue, job.id)
    assert left is not None
    assert replace(left, progress=None) == job
    slow.go.set()
    second = JobRunner(lambda: vault)
    second.start()
    wait_until(lambda: (find_job(vault.catalogue, job.id) or job).state == "done")
    second.stop()
    assert slow.times == 2


def test_a_conflict_is_one_for_clients_too(vault: LocalVault, live: str, slow: SlowWork):
    add_job(
        vault.catalogue,
        JobRow("0" * 32, "optimise", '{"dry_run": true}', time.time(), "optimise"),
    )
    with pytest.raises(Conflict, match="another job is under way"):
        HttpVault(live).optimise_all()
