"""Hubs to talk to: a vault behind a socket, open or with tokens, a mirror, or in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from hub_clients import Hub
from live_server import serving
from mirror_front import FILES, NAME, Front
from replayed_hub import ReplayedHub, Repo, replayed_hub
from vaults import open_local

from weightvault.api.requests.settings import ServerSettings, UpstreamSettings
from weightvault.api.requests.tokens import create_token
from weightvault.api.server.app import create_app
from weightvault.dedup.transfer.refs import History, Message
from weightvault.dedup.transfer.uploads import IncomingFiles


@pytest.fixture
def start_hub(tmp_path: Path) -> Iterator[Callable[..., Hub]]:
    """Starts servers, each of a new vault; takes what ServerSettings take."""
    with ExitStack() as stack:

        def start(name: str = "served", **settings) -> Hub:
            vault = open_local(tmp_path / name)
            stack.callback(vault.close)
            app = create_app(vault, ServerSettings(**settings))
            return Hub(stack.enter_context(serving(app)), vault)

        yield start


@pytest.fixture
def hub(start_hub: Callable[..., Hub]) -> Hub:
    """A server of an empty vault."""
    return start_hub()


@pytest.fixture
def upstream() -> Iterator[ReplayedHub]:
    """A hub that answers as the public one does, with one repo."""
    with replayed_hub() as hub:
        hub.repos[NAME] = Repo(FILES)
        yield hub


@pytest.fixture
def open_front(tmp_path: Path, upstream: ReplayedHub) -> Callable[..., Any]:
    """Opens mirrors in front of that hub; takes what UpstreamSettings take."""

    @contextmanager
    def start(
        name: str = "front", reads: str = "none", tokens: bool = False, **options: Any
    ) -> Iterator[Front]:
        vault = open_local(tmp_path / name)
        if tokens:
            create_token(vault, "first", "admin")
        options = {"hosts": ("127.0.0.1",), "refresh_seconds": 0.0, **options}
        settings = UpstreamSettings(options.pop("url", upstream.url), **options)
        app = create_app(vault, ServerSettings(anonymous_reads=reads, upstream=settings))
        with serving(app) as url, httpx.Client(base_url=url, timeout=30) as web:
            yield Front(url, vault, web, app.state.mirror)
        vault.close()

    return start


@pytest.fixture
def web(tmp_path: Path) -> Iterator[TestClient]:
    """A client of a server with an empty repo, where long files are sent in parts."""
    vault = open_local(tmp_path / "served")
    # Empty, where those that clients make have .gitattributes.
    History(vault, IncomingFiles(vault)).create_repo("me/model", Message("initial commit"))
    settings = ServerSettings(multipart_bytes=20_000, part_bytes=8_000)
    with TestClient(create_app(vault, settings), base_url="http://hub") as client:
        yield client
    vault.close()
