"""Empty vaults, a model to push, as the tests of the middle room need them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from models import make_weights, tune, write_model
from vaults import open_local
from xet_server import Server

from weightvault.dedup.formats import gguf
from weightvault.dedup.formats.cutting.reader import Work
from weightvault.dedup.formats.torch import pickles
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.transfer.push import push
from weightvault.store.backends.open import open_backend
from weightvault.store.catalogue.catalogue import open_catalogue


@pytest.fixture
def local(tmp_path: Path) -> Iterator[LocalVault]:
    """An empty vault in a folder."""
    opened = open_local(tmp_path / "vault")
    yield opened
    opened.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def on_each_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LocalVault]:
    """An empty vault with each kind of catalogue."""
    if request.param == "sqlite":
        opened = open_local(tmp_path / "vault")
    else:
        backend = open_backend(str(tmp_path / "vault" / "objects"))
        catalogue = open_catalogue(request.getfixturevalue("postgres_url"))
        opened = LocalVault(backend, catalogue, scratch=tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder with a small model."""
    return write_model(tmp_path / "model", make_weights(1))


@pytest.fixture
def damageable(tmp_path: Path) -> Iterator[LocalVault]:
    """A base, a model coded against it, another model, and traces of a deleted one."""
    vault = open_local(tmp_path / "vault")
    for repo, seed in (("org/base", 1), ("org/other", 9)):
        push(vault, write_model(tmp_path / repo, make_weights(seed)), repo)
    tuned = write_model(tmp_path / "org/tuned", tune(make_weights(1), 2), "# Tuned\n")
    push(vault, tuned, "org/tuned", base="org/base")
    push(vault, write_model(tmp_path / "org/gone", make_weights(4)), "org/gone")
    vault.delete_repo("org/gone")
    yield vault
    vault.close()


@pytest.fixture
def server(tmp_path: Path) -> Server:
    """An empty vault that takes uploads through Xet."""
    return Server(tmp_path)


@pytest.fixture
def tight_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds of a twentieth of the real ones, so that a file beyond them is soon made."""
    monkeypatch.setattr(Work, "READS", Work.READS // 20)
    monkeypatch.setattr(pickles, "_MAX_OPCODES", pickles._MAX_OPCODES // 20)
    monkeypatch.setattr(gguf, "_MAX_HEADER_BYTES", gguf._MAX_HEADER_BYTES // 20)
