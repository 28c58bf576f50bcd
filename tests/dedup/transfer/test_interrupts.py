"""Ctrl-C while a thread is at something that takes long: nobody waits for it, nothing is lost."""

import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Event

import pytest
from models import read_folder
from vaults import open_local

from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.model.files.manifest import Manifest
from weightvault.dedup.reading import workers
from weightvault.dedup.transfer import push as pushing
from weightvault.dedup.transfer.pull import pull
from weightvault.dedup.transfer.push import push
from weightvault.dedup.verification import check as checking
from weightvault.store.backend import Backend

# Longer than a test may take: what waits for this has failed.
LONG_SECONDS = 60


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalVault]:
    monkeypatch.setattr(workers, "PATIENCE_SECONDS", 0.01)
    vault = open_local(tmp_path / "vault")
    yield vault
    vault.close()


class Line:
    """A line to a vault on which the second thing to come by gets stuck, while the user presses
    Ctrl-C."""

    def __init__(self) -> None:
        self.repaired = Event()
        self.passed = 0
        self.outlasted = False

    def pass_by(self) -> None:
        self.passed += 1
        if self.passed == 2:
            # Raised in this thread, it does not wake the main one, as one that comes just before
            # that falls asleep.
            signal.raise_signal(signal.SIGINT)
            self.outlasted = not self.repaired.wait(LONG_SECONDS)


def test_a_push_does_not_wait_for_the_pack_on_its_way(
    local: LocalVault, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    line, taken = Line(), list[str]()

    def add_pack(path: Path, name: str) -> int:
        line.pass_by()
        taken.append(name)
        return LocalVault.add_pack(local, path, name)

    monkeypatch.setattr(pushing, "PACK_BYTES", 10_000)
    monkeypatch.setattr(local, "add_pack", add_pack)
    with pytest.raises(KeyboardInterrupt):
        push(local, model, "org/m")
    assert not line.outlasted
    assert local.list_repos() == []
    line.repaired.set()

    resumed = push(local, model, "org/m")
    assert resumed.known_chunks > 0
    assert taken.count(taken[0]) == 1
    pull(local, "org/m", tmp_path / "out")
    assert read_folder(tmp_path / "out") == read_folder(model)
    assert local.check().problems == ()


def test_a_pull_does_not_wait_for_the_frames_on_their_way(
    local: LocalVault, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    push(local, model, "org/m")
    line = Line()

    def read_frames(repo: str, revision: str, digests: Sequence[bytes]) -> Iterator[bytes]:
        line.pass_by()
        return LocalVault.read_frames(local, repo, revision, digests)

    monkeypatch.setattr("weightvault.dedup.reading.chunk_reader.BATCH_CHUNKS", 1)
    monkeypatch.setattr(local, "read_frames", read_frames)
    with pytest.raises(KeyboardInterrupt):
        pull(local, "org/m", tmp_path / "out")
    assert not line.outlasted
    line.repaired.set()

    pull(local, "org/m", tmp_path / "out")
    assert read_folder(tmp_path / "out") == read_folder(model)


def test_a_check_does_not_wait_for_what_it_looks_at(
    local: LocalVault, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in ("org/m", "org/n"):
        push(local, model, name)
    line = Line()

    def load_manifest(backend: Backend, name: str) -> Manifest:
        line.pass_by()
        return read_manifest(backend, name)

    read_manifest = checking.load_manifest
    monkeypatch.setattr(checking, "load_manifest", load_manifest)
    with pytest.raises(KeyboardInterrupt):
        local.check()
    assert not line.outlasted
    line.repaired.set()
    assert local.check().problems == ()
