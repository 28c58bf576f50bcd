"""A server of an empty vault, in this process, for tenants to meet in; a vault and a model for who
pulls."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
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
