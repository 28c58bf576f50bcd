"""Work of one caller leaves room for others, and ends when nobody waits for it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from blake3 import blake3
from client_packs import code_of, make_pack
from live_server import serving
from vaults import Wrapper, open_local

from weightvault.api.errors import Overloaded
from weightvault.api.requests.slots import Slots
from weightvault.api.requests.tokens import create_token
from weightvault.api.server.app import create_app
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.model.files import expansion
from weightvault.dedup.model.files.entries import FileEntry
from weightvault.dedup.model.files.manifest import Manifest, pack_manifest
from weightvault.dedup.model.files.segments import CHUNK_BYTES, Opaque
from weightvault.store.backend import Backend
from weightvault.store.cancel import Cancelled, CancelToken, cancelled_by

REPO = "org/model"
COMMITS = f"/v1/repos/{REPO}/commits"


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[LocalVault]:
    opened = open_local(tmp_path / "served")
    yield opened
    opened.close()


# Slots


class Held:
    """Work that goes on until it is let go, and counts how much of it there is."""

    def __init__(self) -> None:
        self.running = 0
        self._end = threading.Event()
        self._lock = threading.Lock()

    def work(self, *_: object, **__: object) -> int:
        with self._lock:
            self.running += 1
        assert self._end.wait(60)
        return 0

    def let_go(self) -> None:
        self._end.set()


def wait_until(holds: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_one_token_cannot_hold_all_slots(vault: LocalVault, monkeypatch: pytest.MonkeyPatch):
    secrets = [create_token(vault, name, "write", name).secret for name in ("evil", "good")]
    evil, good = ({"Authorization": f"Bearer {secret}"} for secret in secrets)
    held = Held()
    monkeypatch.setattr(LocalVault, "commit", held.work)
    manifest = pack_manifest(Manifest((), CHUNK_BYTES))
    app = create_app(vault)

    def send() -> None:
        path = "/v1/repos/evil/model/commits"
        httpx.post(f"{url}{path}", content=manifest, headers=evil, timeout=60, trust_env=False)

    with serving(app) as url:
        threads = [threading.Thread(target=send) for _ in range(8)]
        for thread in threads:
            thread.start()
        slots: Slots = app.state.checking
        wait_until(lambda: held.running == slots.at_once // 2 and slots.waiting == 6)
        name, data = make_pack([b"what somebody else sends"])
        answer = httpx.put(
            f"{url}/v1/packs/{name}", content=data, headers=good, timeout=30, trust_env=False
        )
        assert answer.status_code == 200
        assert held.running == slots.at_once // 2
        held.let_go()
        for thread in threads:
            thread.join(60)


def test_waiting_is_bounded_and_says_when_to_come_again(
    vault: LocalVault, monkeypatch: pytest.MonkeyPatch
):
    held = Held()
    monkeypatch.setattr(LocalVault, "add_pack", held.work)
    app = create_app(vault)
    app.state.checking = Slots(2, waiting_each=1, wait_seconds=0.5)
    answers: list[httpx.Response] = []

    def send() -> None:
        url_of_pack = f"{url}/v1/packs/{'0' * 64}"
        answers.append(httpx.put(url_of_pack, content=b"", timeout=60, trust_env=False))

    with serving(app) as url:
        threads = [threading.Thread(target=send) for _ in range(3)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(answers) == 2)
        held.let_go()
        for thread in threads:
            thread.join(60)
    refused = answers[:2]
    assert all(code_of(answer) == (503, Overloaded.code) for answer in refused)
    assert all(answer.headers["retry-after"].isdecimal() for answer in refused)
    assert len({answer.json()["error"]["message"] for answer in refused}) == 2
    assert held.running == 1


# What ends when nobody waits for it


class SlowPacks(Wrapper):
    """Takes a moment for each read of a pack."""

    def __init__(self, inner: Backend) -> None:
        super().__init__(inner)
        self.reads = 0

    def get(self, key: str, start: int = 0, stop: int | None = None) -> bytes:
        if key.startswith("packs/"):
            self.reads += 1
            time.sleep(0.1)
        return super().get(key, start, stop)


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[LocalVault]:
    """A vault that takes minutes to read all that its one manifest names."""
    opened = open_local(tmp_path / "slow", SlowPacks)
    yield opened
    opened.close()


def fill_slowly(vault: LocalVault, count: int = 1200) -> bytes:
    """Stores chunks of 16 MiB, of which two are fetched at once; returns a manifest that commits
    them in another order and order again, as one file."""
    raws = [bytes([i]) * (CHUNK_BYTES // 2 + i) for i in range(8)]
    for raw in raws:
        name, data = make_pack([raw])
        path = vault.scratch / "one.pack"
        path.write_bytes(data)
        vault.add_pack(path, name)
    chosen = [raws[i % 8] for i in range(count)]
    segments = tuple(Opaque(len(raw), (blake3(raw).digest(),)) for raw in chosen)
    entry = FileEntry("long.bin", sum(map(len, chosen)), bytes(32), segments)
    return pack_manifest(Manifest((entry,), CHUNK_BYTES))


def test_work_ends_when_its_client_goes_away(slow: LocalVault, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(expansion, "FREE_BYTES", 1 << 40)
    manifest = fill_slowly(slow)
    backend = slow.backend
    assert isinstance(backend, SlowPacks)
    app = create_app(slow)
    with serving(app) as url:
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as client:
            head = f"POST {COMMITS} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(manifest)}"
            client.sendall(f"{head}\r\n\r\n".encode() + manifest)
            wait_until(lambda: backend.reads > 3)
        wait_until(lambda: app.state.checking.busy == 0)
        assert backend.reads < 300
    with pytest.raises(KeyError):
        slow.catalogue.branches(REPO)["main"]


def test_a_question_to_the_catalogue_ends_too(vault: LocalVault):
    endless = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000000) "
        "SELECT count(*) FROM n"
    )
    token = CancelToken()
    threading.Timer(0.3, token.cancel).start()
    with cancelled_by(token), pytest.raises(Cancelled), vault.catalogue.reading() as connection:
        connection.exec_driver_sql(endless).scalar()
    with vault.catalogue.reading() as connection:
        assert connection.exec_driver_sql("SELECT 1").scalar() == 1
