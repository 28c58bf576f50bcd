"""Bringing back deleted repos: all of one, as long as its files are there."""

import time
from pathlib import Path

import pytest
from catalogue_rows import read_rows
from models import make_weights, tune, write_model
from upkeep import GRACE, Clock, assert_pulls, gc, model

from weightvault.dedup.errors import ChunksMissing, Conflict, RepoNotFound
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.maintenance.rebuild_catalogue import rebuild_catalogue
from weightvault.dedup.maintenance.undelete_repo import undelete
from weightvault.dedup.model import journal_entries
from weightvault.dedup.transfer.push import push
from weightvault.store.catalogue.catalogue import open_catalogue


def test_undelete_brings_back_every_commit(local: LocalVault, tmp_path: Path):
    first, second = model(tmp_path, 1), model(tmp_path, 2)
    old = push(local, first, "org/m").commit
    push(local, second, "org/m", "dev")
    new = push(local, write_model(tmp_path / "t", tune(make_weights(1), 5)), "org/m").commit
    before = local.describe_repo("org/m")
    clock = Clock()
    local.delete_repo("org/m")
    clock.ahead = GRACE + 1
    assert gc(local, GRACE, now=clock).retired > 0
    assert undelete(local, "org/m").commits == 3
    assert local.describe_repo("org/m") == before
    assert local.resolve("org/m", old.id).commit == old
    assert local.resolve("org/m").commit == new
    clock.ahead = 9 * GRACE
    assert gc(local, GRACE, now=clock).removed == 0
    assert_pulls(local, "org/m", tmp_path / "t", tmp_path / "out")
    rebuilt = LocalVault(
        local.backend, open_catalogue(f"sqlite:///{tmp_path / 'other.sqlite'}"), scratch=tmp_path
    )
    assert rebuilt.describe_repo("org/m") == before
    rebuilt.catalogue.close()


def test_undelete_brings_back_branches_tags_and_who_may_see(local: LocalVault, tmp_path: Path):
    first = push(local, model(tmp_path, 1), "org/m").commit.id
    second = push(local, model(tmp_path, 2), "org/m").commit.id
    push(local, model(tmp_path, 3), "org/m", "gone")
    for entry in (
        journal_entries.RefChange("org/m", "branch", "gone", None, time.time()),
        journal_entries.RefChange("org/m", "branch", "main", first, time.time()),
        journal_entries.RefChange("org/m", "tag", "v2", second, time.time(), "the second"),
        journal_entries.Visibility("org/m", True, time.time()),
    ):
        local.record(entry)
    tables = ("refs", "tags", "repos")
    rows = read_rows(local.catalogue)
    local.delete_repo("org/m")
    undelete(local, "org/m")
    after = read_rows(local.catalogue)
    assert [after[table] for table in tables] == [rows[table] for table in tables]
    # And so has a catalogue that only reads of it.
    rebuild_catalogue(local.backend, local.catalogue)
    after = read_rows(local.catalogue)
    assert [after[table] for table in tables] == [rows[table] for table in tables]


def test_undelete_ends_with_the_grace(local: LocalVault, tmp_path: Path):
    push(local, model(tmp_path, 1), "org/m")
    local.delete_repo("org/m")
    gc(local)
    with pytest.raises(ChunksMissing, match="grace has ended"):
        undelete(local, "org/m")
    assert local.list_repos() == []


def test_undelete_needs_a_deletion_and_a_free_name(local: LocalVault, tmp_path: Path):
    push(local, model(tmp_path, 1), "org/m")
    with pytest.raises(RepoNotFound):
        undelete(local, "org/m")
    local.delete_repo("org/m")
    push(local, model(tmp_path, 2), "org/m")
    with pytest.raises(Conflict, match="pushed again"):
        undelete(local, "org/m")


def test_an_interrupted_undelete_goes_on(local: LocalVault, tmp_path: Path, monkeypatch):
    for seed in (1, 2, 3):
        push(local, model(tmp_path, seed), "org/m")
    before = local.describe_repo("org/m")
    local.delete_repo("org/m")
    record, calls = local.record_commit, []

    def stop_at_second(*args) -> None:
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        record(*args)

    monkeypatch.setattr(local, "record_commit", stop_at_second)
    with pytest.raises(KeyboardInterrupt):
        undelete(local, "org/m")
    monkeypatch.undo()
    undelete(local, "org/m")
    assert local.describe_repo("org/m") == before
