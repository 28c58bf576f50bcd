"""Clients that are slow, or do nothing, hold nothing that others need."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from live_server import serving
from models import safetensors_bytes
from pydantic import BaseModel
from slow_clients import ask, connect, read_all, sockets
from vaults import open_local

from weightvault.api.requests.settings import ConnectionLimits, ServerSettings
from weightvault.api.requests.slots import Slots
from weightvault.api.sending.downloads import Downloads, Source
from weightvault.api.sending.progress_lines import TellingResponse
from weightvault.api.server.app import create_app
from weightvault.dedup.progress import Progress
from weightvault.dedup.transfer.push import push

LONG_BYTES = 12 << 20
FILE = "/v1/repos/org/model/files/model.safetensors"
RESOLVED = "/org/model/resolve/main/model.safetensors"


@dataclass
class Started:
    """A running server with one model."""

    url: str
    app: FastAPI
    content: bytes

    def get(self, path: str, **options) -> httpx.Response:
        """Asks on a connection of its own."""
        return httpx.get(self.url + path, trust_env=False, timeout=60, **options)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Started]]:
    """Starts a server; takes what ServerSettings take."""
    with ExitStack() as stack:

        def begin(**settings) -> Started:
            vault = open_local(tmp_path / "served")
            stack.callback(vault.close)
            noise = sha256(b"seed").digest() * (LONG_BYTES // 32)
            # Raw bytes of no float, so that what goes out is what lies there.
            mixed = bytes(a ^ (i * 2654435761 >> 13) & 0xFF for i, a in enumerate(noise[: 1 << 16]))
            weights = b"".join(mixed[n % 999 :] + mixed[: n % 999] for n in range(LONG_BYTES >> 16))
            content = safetensors_bytes({"w": ("U8", (len(weights),), weights)})
            folder = tmp_path / "model"
            folder.mkdir()
            (folder / "model.safetensors").write_bytes(content)
            push(vault, folder, "org/model")
            app = create_app(vault, ServerSettings(**settings))
            return Started(stack.enter_context(serving(app)), app, content)

        yield begin


HASTY = ConnectionLimits(head_seconds=0.5, progress_seconds=0.5, idle_seconds=0.5)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET / HT",
        b"GET / HTTP/1.1\r\nHost: x\r\n",
        ask("/v1/missing", "Content-Length: 100", method="POST"),
        ask("/v1/missing", "Content-Length: 100", method="POST") + b'{"dig',
        ask("/v1/missing", "Transfer-Encoding: chunked", method="POST") + b"5\r\n{",
        ask("/v1/packs/" + "0" * 64, "Content-Length: 100", method="PUT") + b"x",
        ask("/health"),
    ],
    ids=["nothing", "word", "head", "no body", "body", "chunk", "pack", "kept"],
)
def test_a_client_that_says_no_more_is_let_go(start: Callable[..., Started], sent: bytes) -> None:
    server = start(connections=HASTY)
    with sockets(server.url, 1, sent) as [connection]:
        # Returns only when the server has closed.
        read_all(connection)
    assert server.get("/health").status_code == 200


def test_a_head_that_comes_byte_by_byte_has_one_time_for_all(start: Callable[..., Started]) -> None:
    server = start(connections=HASTY)
    with sockets(server.url, 1) as [connection]:
        connection.settimeout(0.1)
        answer = b""
        head = b"GET /health HTTP/1.1\r\n" + b"X-Long: " + b"x" * 600
        for byte in head:
            connection.sendall(bytes([byte]))
            with suppress(TimeoutError):
                answer = connection.recv(1 << 16)
                break
    assert answer.startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize("path", [FILE, RESOLVED])
def test_a_client_that_does_not_read_is_let_go(start: Callable[..., Started], path: str) -> None:
    server = start(connections=HASTY)
    with sockets(server.url, 3, ask(path)) as held:
        wait_until(lambda: server.app.state.connections.closed["sending"] == 3)
        for connection in held:
            assert len(read_all(connection)) < len(server.content)
    wait_until(lambda: server.app.state.downloads.held_bytes == 0)


def test_clients_that_do_not_read_are_not_in_the_way(start: Callable[..., Started]) -> None:
    server = start(download_bytes=8 << 20)
    with sockets(server.url, 64, ask(FILE)) as held:
        for connection in held:
            assert connection.recv(12) == b"HTTP/1.1 200"
        for path in (FILE, RESOLVED):
            found = server.get(path)
            assert found.status_code == 200
            assert found.content == server.content
        assert server.get("/health").status_code == 200
        assert server.get("/metrics").status_code == 200
        # All that wait together hold no more than they may, and each of those that are decoded.
        assert server.app.state.downloads.held_bytes <= 8 << 20


def test_whoever_was_made_to_wait_gets_the_same_bytes(start: Callable[..., Started]) -> None:
    server = start(download_bytes=1)
    with sockets(server.url, 6, ask(FILE, "Connection: close")) as held:
        firsts = [connection.recv(1000) for connection in held]
        assert server.get(FILE).content == server.content
        # In turns, so that each is dropped again and again while another one reads.
        bodies = [bytearray(first) for first in firsts]
        reading = set(range(len(held)))
        while reading:
            for number in sorted(reading):
                piece = held[number].recv(1 << 20)
                bodies[number] += piece
                if not piece:
                    reading.remove(number)
    for body in bodies:
        head, _, content = bytes(body).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        assert content == server.content


def test_idle_connections_make_room(start: Callable[..., Started]) -> None:
    server = start(connections=ConnectionLimits(most_per_client=4))
    with sockets(server.url, 12) as idle:
        assert server.get("/v1/repos").status_code == 200
        assert len(server.app.state.connections) <= 4
        assert read_all(idle[0]).startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize("limits", [{"most_per_client": 4}, {"most": 4}])
def test_too_many_are_told_so_and_health_answers(
    start: Callable[..., Started], limits: dict[str, Any]
) -> None:
    server = start(connections=ConnectionLimits(**limits))
    with sockets(server.url, 4, ask("/v1/packs/" + "0" * 64, "Expect: 100-continue", *_LONG)):
        wait_until(lambda: len(server.app.state.connections) == 4)
        # What is under way is not ended for somebody else.
        refused = server.get("/v1/repos")
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "busy"
        assert refused.headers["retry-after"] == "1"
        assert server.get("/health").status_code == 200
        assert server.get("/metrics").status_code == 200
    wait_until(lambda: len(server.app.state.connections) == 0)
    assert server.get("/v1/repos").status_code == 200


_LONG = ("Content-Length: 100000",)


def test_a_client_with_many_waits_for_one_with_few() -> None:
    order: list[str] = []

    async def take(slots: Slots, client: str) -> None:
        async with slots.taken(client):
            order.append(client)
            await asyncio.sleep(0)

    async def run() -> None:
        slots = Slots(2, waiting=100, waiting_each=100)
        async with asyncio.TaskGroup() as group:
            for _ in range(50):
                group.create_task(take(slots, "many"))
            await asyncio.sleep(0)
            for _ in range(3):
                group.create_task(take(slots, "few"))

    asyncio.run(run())
    assert len(order) == 53
    assert max(i for i, client in enumerate(order) if client == "few") < 10


def test_memory_is_counted_until_a_download_ends() -> None:
    async def run() -> None:
        downloads = Downloads(10 << 20)
        made = [Source(lambda a, b: iter([bytes(b - a)]), 0, 2 << 20) for _ in range(9)]
        for each in made:
            await downloads.advance(each, "client")
            assert downloads.held_bytes <= 10 << 20
        assert [each.ready for each in made] == [False] * 4 + [True] * 5
        for each in made:
            await downloads.end(each)
        assert downloads.held_bytes == 0

    asyncio.run(run())


def test_work_does_not_wait_for_whoever_is_told_of_it() -> None:
    class Result(BaseModel):
        count: int

    done = asyncio.Event()

    async def run() -> None:
        loop = asyncio.get_running_loop()

        def work(told: Progress) -> Result:
            for number in range(500):
                told.begin(f"task {number}", 1)
                told.advance(1)
            loop.call_soon_threadsafe(done.set)
            return Result(count=500)

        async def send(message) -> None:
            sent.append(message)
            if len(sent) > 1:
                # The client reads nothing before the work is over.
                await done.wait()

        sent: list[dict] = []
        response = TellingResponse(work)  # type: ignore[arg-type]
        await asyncio.wait_for(response.stream_response(send), 30)
        assert b'"count": 500' in sent[-2]["body"]

    asyncio.run(run())


def test_an_address_is_not_what_a_client_says_it_is(start: Callable[..., Started]) -> None:
    """What counts for one client must not count for another, so nobody can choose their own."""
    server = start(connections=ConnectionLimits(most_per_client=2))
    with sockets(server.url, 2, ask("/health", "X-Forwarded-For: 10.1.2.3")) as held:
        for each in held:
            assert each.recv(12) == b"HTTP/1.1 200"
        made = connect(server.url)
        made.sendall(ask("/health", "X-Forwarded-For: 10.1.2.3"))
        assert made.recv(12) == b"HTTP/1.1 200"
        made.close()
        assert server.app.state.connections.closed["room for others"] == 1


def wait_until(condition: Callable[[], bool]) -> None:
    """Waits until `condition` holds; fails when it does not in time."""
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("waited in vain")
