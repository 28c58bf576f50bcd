"""Long work of a server: how far it is, seen by whoever asked for it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from weightvault.api.client.http_vault import HttpVault
from weightvault.api.protocol.following import follow
from weightvault.dedup.errors import Corrupt, InvalidInput, Unreachable
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.progress import Progress
from weightvault.dedup.transfer.push import push

RESULT = b'{"result": {"files": 3}}'
PLENTY = 10_000


class Diary(Progress):
    """Notes what it is told; counts in a row are added up."""

    def __init__(self) -> None:
        self.entries: list[Any] = []

    def begin(self, task: str, total: int | None, unit: str | None = None) -> None:
        self.entries += [(task, total, unit), 0]

    def advance(self, count: int) -> None:
        assert count >= 0
        self.entries[-1] += count

    def end(self) -> None:
        self.entries.append("end")


def state(task: str, done: int, total: int, unit: str | None = None) -> bytes:
    line = {"task": task, "done": done, "total": total, "unit": unit}
    return json.dumps({"progress": line}).encode()


@pytest.fixture
def pushed(local: LocalVault, model: Path) -> LocalVault:
    """The vault behind the server, with a model in it."""
    push(local, model, "org/model")
    return local


@pytest.mark.parametrize("length", [1, 7, PLENTY])
def test_lines_are_told_wherever_the_body_is_cut(length: int) -> None:
    lines = [
        state("a", 0, 9),
        state("a", 5, 9),
        state("b", 2, 3, "packs"),
        state("b", 3, 3, "packs"),
    ]
    body = b"\n".join([*lines, RESULT, b""])
    pieces = (body[i : i + length] for i in range(0, len(body), length))
    diary = Diary()
    assert follow(pieces, diary, PLENTY) == RESULT
    assert diary.entries == [("a", 9, None), 5, "end", ("b", 3, "packs"), 3, "end"]


def test_an_error_comes_instead_of_the_result() -> None:
    error = {"error": {"code": Corrupt.code, "message": "a pack is damaged", "hint": None}}
    diary = Diary()
    with pytest.raises(Corrupt, match="a pack is damaged"):
        follow(iter([state("a", 1, 9) + b"\n", json.dumps(error).encode() + b"\n"]), diary, PLENTY)
    assert diary.entries[-1] == "end"


@pytest.mark.parametrize("body", [b"", state("a", 1, 9) + b"\n", RESULT, RESULT[:-3]])
def test_a_body_without_its_last_line_has_no_result(body: bytes) -> None:
    with pytest.raises(Unreachable, match="before the result"):
        follow(iter([body]), Progress(), PLENTY)


def test_a_line_without_end_is_refused() -> None:
    with pytest.raises(InvalidInput, match="a line of more than"):
        follow(iter(lambda: b"x" * 1000, None), Progress(), PLENTY)


@pytest.mark.parametrize("ask", [lambda v, p: v.check(p), lambda v, p: v.compare(progress=p)])
def test_a_server_tells_what_the_vault_itself_tells(
    pushed: LocalVault, remote: HttpVault, ask: Callable[[object, Progress], object]
) -> None:
    here, there = Diary(), Diary()
    ask(pushed, here)
    ask(remote, there)
    assert there.entries == here.entries
    (_, total, _), done, end, *_ = here.entries
    assert (done, end) == (total, "end")


def test_errors_of_the_work_are_those_of_the_vault(
    pushed: LocalVault, remote: HttpVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_progress: Progress) -> None:
        raise Corrupt("a manifest is damaged", "look closer")

    monkeypatch.setattr(pushed, "check", fail)
    with pytest.raises(Corrupt, match="a manifest is damaged") as caught:
        remote.check()
    assert caught.value.hint == "look closer"


def test_plain_requests_get_plain_json(pushed: LocalVault, web: httpx.Client) -> None:
    plain = web.get("/v1/check")
    told = web.get("/v1/check", params={"progress": True})
    assert plain.headers["content-type"] == "application/json"
    assert told.headers["content-type"] == "application/x-ndjson"
    assert json.loads(told.text.splitlines()[-1]) == {"result": plain.json()}


def test_work_ends_when_nobody_listens(
    pushed: LocalVault, web: httpx.Client, monkeypatch: pytest.MonkeyPatch, wait_until
) -> None:
    ended = threading.Event()

    def check(progress: Progress) -> None:
        progress.begin("checking", 1 << 60, "things")
        try:
            while True:
                progress.advance(1)
        finally:
            progress.end()
            ended.set()

    monkeypatch.setattr(pushed, "check", check)
    with web.stream("GET", "/v1/check", params={"progress": True}) as response:
        # Held, as what it reads from is closed with it.
        pieces = response.iter_raw()
        assert b"checking" in next(pieces)
        assert not ended.is_set()
    wait_until(ended.is_set)


def test_verbs_show_what_the_server_tells(pushed: LocalVault, run, live: str) -> None:
    checked = run("--vault", live, "check")
    assert "checking commits: 1 of 1 commits (100.0 %)" in checked.stderr
    assert "checking packs: 1 of 1 packs (100.0 %)" in checked.stderr
    compared = run("--vault", live, "report", "--compare")
    assert compared.exit_code == 0
    assert "comparing: " in compared.stderr
    assert "(100.0 %)" in compared.stderr
