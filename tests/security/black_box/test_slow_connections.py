"""Attack: connections that do nothing, or ask and never read, keep others out."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest
from models import safetensors_bytes
from product import Server, Vault
from slow_clients import ask, connect

LONG_BYTES = 48 << 20
UNREAD = 48
FILE = "/org/model/resolve/main/model.safetensors"
# A head has 20 seconds; a machine that is busy gets more.
MOST_SECONDS = 45.0


@dataclass
class Site:
    """A server with a long file, and connections that owe it a head since `begun`."""

    server: Server
    idle: list[socket.socket]
    begun: float


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    root: Path = tmp_path_factory.mktemp("slow")
    noise = np.random.default_rng(1).bytes(LONG_BYTES)
    content = safetensors_bytes({"w": ("U8", (LONG_BYTES,), noise)})
    (root / "model.safetensors").write_bytes(content)
    vault = Vault(root / "vault")
    vault.push(root / "model.safetensors", "org/model")
    with vault.serve() as server, ExitStack() as stack:
        idle = [stack.enter_context(connect(server.url)) for _ in range(20)]
        for number, each in enumerate(idle):
            each.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n" if number % 2 else b"")
        yield Site(server, idle, time.monotonic())


def test_clients_that_do_not_read_are_not_in_the_way(site: Site):
    """Sixteen of them once held all long downloads, and as many as there are threads the server."""
    with ExitStack() as stack:
        for _ in range(UNREAD):
            held = stack.enter_context(connect(site.server.url))
            held.sendall(ask(FILE))
        time.sleep(2)
        # Another client than that.
        elsewhere = httpx.HTTPTransport(local_address="127.0.0.2")
        with httpx.Client(transport=elsewhere, base_url=site.server.url, timeout=30) as client:
            try:
                assert client.get("/health").status_code == 200
                answer = client.get(FILE)
            except httpx.TimeoutException:
                pytest.fail("no answer while others do not read theirs")
            assert answer.status_code == 200, f"a download is refused: {answer.status_code}"
            assert len(answer.content) > LONG_BYTES


def test_half_open_connections_are_closed(site: Site):
    left = set(site.idle)
    while left and (rest := site.begun + MOST_SECONDS - time.monotonic()) > 0:
        for each in select.select(list(left), [], [], rest)[0]:
            if not each.recv(1000):
                left.remove(each)
    assert not left, f"{len(left)} connections without a request live for ever"
