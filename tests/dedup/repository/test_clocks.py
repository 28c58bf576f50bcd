"""The journal tells what happened in the order in which it did: servers' clocks differ by minutes,
and what two of them do to one repo at a time happens one after the other."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from catalogue_rows import read_rows
from models import make_weights, write_model
from upkeep import assert_pulls, gc

from weightvault.api.requests.tokens import create_token, recognise, revoke_token
from weightvault.dedup.errors import Conflict
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.maintenance import rename_repo as rename_module
from weightvault.dedup.maintenance.gc import Collector
from weightvault.dedup.maintenance.rebuild_catalogue import rebuild_catalogue
from weightvault.dedup.maintenance.rename_repo import rename_repo
from weightvault.dedup.maintenance.undelete_repo import undelete
from weightvault.dedup.repository import pins
from weightvault.dedup.repository import repository as local_module
from weightvault.dedup.repository.journal.replay import catch_up
from weightvault.dedup.transfer.push import push
from weightvault.dedup.transfer.refs import History
from weightvault.dedup.transfer.uploads import IncomingFiles
from weightvault.store.catalogue.catalogue import open_catalogue

AHEAD_SECONDS = 300.0
YEAR_SECONDS = 365 * 24 * 3600.0


@contextmanager
def clock_ahead(seconds: float = AHEAD_SECONDS) -> Iterator[None]:
    """Within, it is a server whose clock is ahead that works."""
    real = time.time
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", lambda: real() + seconds)
        yield


def assert_rebuilt_equal(vault: LocalVault) -> None:
    before = read_rows(vault.catalogue)
    rebuild_catalogue(vault.backend, vault.catalogue)
    assert read_rows(vault.catalogue) == before


@pytest.fixture
def sources(tmp_path: Path) -> list[Path]:
    return [write_model(tmp_path / f"source{i}", make_weights(i)) for i in range(2)]


def test_pushes_after_those_of_a_clock_ahead_are_the_newest(
    local: LocalVault, sources: list[Path], tmp_path: Path
):
    with clock_ahead():
        push(local, sources[0], "org/m")
    push(local, sources[1], "org/m")
    assert_rebuilt_equal(local)
    assert_pulls(local, "org/m", sources[1], tmp_path / "out")


@pytest.mark.parametrize("seconds", [YEAR_SECONDS, -YEAR_SECONDS])
def test_a_clock_that_jumps_by_a_year_loses_nothing(
    local: LocalVault, sources: list[Path], tmp_path: Path, seconds: float
):
    def collect() -> None:
        Collector(local, now=time.time).run()

    push(local, sources[0], "org/m")
    push(local, sources[0], "org/gone")
    with clock_ahead(seconds):
        collect()
        local.delete_repo("org/gone")
        push(local, sources[1], "org/there")
        collect()
    collect()
    push(local, sources[0], "org/back")
    collect()
    for repo, source in (("org/m", 0), ("org/there", 1), ("org/back", 0)):
        assert_pulls(local, repo, sources[source], tmp_path / repo)
    assert_rebuilt_equal(local)


def test_what_came_after_a_deletion_is_not_deleted(
    local: LocalVault, sources: list[Path], tmp_path: Path
):
    with clock_ahead():
        for repo in ("org/again", "org/back"):
            push(local, sources[0], repo)
            local.delete_repo(repo)
    push(local, sources[1], "org/again")
    undelete(local, "org/back")
    assert_rebuilt_equal(local)
    assert_pulls(local, "org/again", sources[1], tmp_path / "again")
    assert_pulls(local, "org/back", sources[0], tmp_path / "back")


def test_refs_tokens_and_uploads_are_what_they_became_last(local: LocalVault, sources: list[Path]):
    incoming = IncomingFiles(local)
    history = History(local, incoming)
    with clock_ahead():
        push(local, sources[0], "org/m")
        history.create_branch("org/m", "dev", "main")
        history.delete_branch("org/m", "dev")
        history.set_public("org/m", True)
        push(local, sources[0], "org/gone")
        local.delete_repo("org/gone")
        token = create_token(local, "robot", "read")
    history.create_branch("org/m", "dev", "main")
    history.set_public("org/m", False)
    incoming.add([b"uploaded"], "org/gone")
    revoke_token(local, "robot")
    assert_rebuilt_equal(local)
    assert recognise(local, token.secret) is None


def test_a_deletion_in_the_middle_of_a_commit_comes_first(
    on_each_database: LocalVault,
    sources: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    vault = on_each_database
    push(vault, sources[0], "org/m")
    secure = local_module.pin_chunks

    def delete_meanwhile(*args: object) -> None:
        monkeypatch.undo()
        secure(*args)  # type: ignore[arg-type]
        vault.delete_repo("org/m")

    monkeypatch.setattr(local_module, "pin_chunks", delete_meanwhile)
    push(vault, sources[1], "org/m")
    assert_rebuilt_equal(vault)
    assert_pulls(vault, "org/m", sources[1], tmp_path / "out")


def test_a_push_at_the_end_of_a_renaming_is_not_deleted(
    on_each_database: LocalVault, sources: list[Path], monkeypatch: pytest.MonkeyPatch
):
    """It comes after the last look at the repo that is to go, as long as it can."""
    vault = on_each_database
    push(vault, sources[0], "org/m")
    require_repo = LocalVault.require_repo
    calls = 0

    def push_meanwhile(self: LocalVault, repo: str) -> None:
        nonlocal calls
        require_repo(self, repo)
        calls += 1
        if calls == 2:
            monkeypatch.undo()
            push(vault, sources[1], "org/m")

    monkeypatch.setattr(LocalVault, "require_repo", push_meanwhile)
    with pytest.raises(Conflict, match="changed while"):
        rename_repo(vault, "org/m", "org/n")
    assert len(rename_module.read_state(vault.catalogue, "org/m").commits) == 2


@pytest.fixture
def other(local: LocalVault, tmp_path: Path) -> Iterator[LocalVault]:
    """The same store with a catalogue of its own."""
    catalogue = open_catalogue(f"sqlite:///{tmp_path / 'other.sqlite'}")
    opened = LocalVault(local.backend, catalogue, scratch=tmp_path)
    yield opened
    opened.close()


def test_what_is_read_late_does_not_undo_what_came_after_it(
    local: LocalVault, other: LocalVault, sources: list[Path], tmp_path: Path
):
    """Two machines that do not know of each other's entries; the clock of one is ahead."""
    here, there = History(local, IncomingFiles(local)), History(other, IncomingFiles(other))
    for repo in ("org/kept", "org/moved", "org/gone"):
        push(local, sources[0], repo)
    here.create_branch("org/moved", "dev", "main")
    catch_up(other.backend, other.catalogue)
    with clock_ahead():
        push(other, sources[1], "org/kept")
        push(other, sources[1], "org/moved")
        there.set_public("org/moved", True)
        there.delete_branch("org/moved", "dev")
        other.delete_repo("org/gone")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pins, "catch_up", lambda *_: 0)
        local.delete_repo("org/kept")
        push(local, tmp_path / "source0", "org/moved", branch="dev")
        push(local, write_model(tmp_path / "x", make_weights(7)), "org/moved")
        push(local, write_model(tmp_path / "y", make_weights(8)), "org/gone")
        here.set_public("org/moved", False)
    for vault in (local, other):
        catch_up(vault.backend, vault.catalogue)
    rows = [read_rows(vault.catalogue) for vault in (local, other)]
    rebuild_catalogue(local.backend, local.catalogue)
    rows.append(read_rows(local.catalogue))
    for table in ("repos", "commits", "refs", "commit_chunks"):
        assert rows[0][table] == rows[1][table] == rows[2][table], table
    for name, vault in (("here", local), ("there", other)):
        gc(vault)
        assert [repo.name for repo in vault.list_repos()] == ["org/kept", "org/moved"]
        assert_pulls(vault, "org/kept", sources[1], tmp_path / "kept" / name)
        assert_pulls(vault, "org/moved", sources[1], tmp_path / "moved" / name)
