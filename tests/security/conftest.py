"""Servers in this process, for tenants to meet in and to attack; a vault and a model to pull."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from hostile_requests import Target, attacked, push_card
from models import CARD, make_weights, write_model
from vaults import open_local

from weightvault.api.server.app import create_app
from weightvault.dedup.local_vault import LocalVault


@pytest.fixture
def shared_app(tmp_path: Path) -> Iterator[FastAPI]:
    """An application nobody has a token for yet; nothing is encoded in the background."""
    vault = open_local(tmp_path / "served")
    yield create_app(vault)
    vault.close()


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[LocalVault]:
    """An empty vault."""
    opened = open_local(tmp_path / "vault")
    yield opened
    opened.close()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder with a small model and its card."""
    return write_model(tmp_path / "model", make_weights(1), CARD)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A server with a model, which the tests of a file share."""
    root = tmp_path_factory.mktemp("shared")
    with attacked(root / "served") as found:
        push_card(found, root / "model", "# A model\n")
        yield found
