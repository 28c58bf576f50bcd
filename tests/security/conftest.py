"""A server of an empty vault, in this process, for tenants to meet in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from vaults import open_local

from weightvault.api.server.app import create_app


@pytest.fixture
def shared_app(tmp_path: Path) -> Iterator[FastAPI]:
    """An application nobody has a token for yet; nothing is encoded in the background."""
    vault = open_local(tmp_path / "served")
    yield create_app(vault)
    vault.close()
