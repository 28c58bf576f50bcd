"""Hubs to talk to: a vault behind a socket, open or with tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hub_clients import Hub
from live_server import serving
from vaults import open_local

from weightvault.api.requests.settings import ServerSettings
from weightvault.api.server.app import create_app


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
