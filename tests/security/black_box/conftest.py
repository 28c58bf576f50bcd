"""Servers to attack, each a process of its own that several attacks share."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from hub_requests import HubRequests
from product import PATIENCE_SECONDS, NotSetUp, Server, Vault, require


@dataclass(frozen=True)
class Hub:
    """A server with tokens, that shows public repos to everybody."""

    vault: Vault
    server: Server
    secrets: dict[str, str]

    def user(self, name: str) -> HubRequests:
        """Somebody with a token for the namespace of that name; `root` has one for everything."""
        return self.server.hub(self.secrets[name])

    def wait_for_encoder(self) -> None:
        """Returns once nothing waits to be encoded in the background."""
        monitor = self.user("root").web
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            lengths = _QUEUE.findall(monitor.get("/metrics").text)
            require(lengths, "the server tells no length of the queue")
            if not any(map(float, lengths)):
                return
            # The answer is work, too, which goes before the encoder's.
            time.sleep(0.7)
        raise NotSetUp("encoding in the background does not come to an end")


_QUEUE = re.compile(r'^weightvault_queue_length\{queue="uncoded"\} (\S+)', re.MULTILINE)


@pytest.fixture(scope="session")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """See Hub."""
    vault = Vault(tmp_path_factory.mktemp("hub") / "vault")
    secrets = {name: vault.make_token(name, "write", name) for name in ("you", "me")}
    secrets["root"] = vault.make_token("root", "admin")
    words = ("--anonymous-reads", "public", "--log-format", "json")
    with vault.serve(*words) as server:
        yield Hub(vault, server, secrets)


@pytest.fixture(scope="session")
def lone_kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Server]]:
    """See lone."""
    with Vault(tmp_path_factory.mktemp("lone") / "vault").keep() as running:
        yield running


@pytest.fixture
def lone(lone_kept: Callable[[], Server]) -> Server:
    """A server without tokens."""
    return lone_kept()
