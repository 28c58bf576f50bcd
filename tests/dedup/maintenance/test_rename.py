"""Repos that get another name: the same commits, found by it alone; if stopped, it goes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from catalogue_rows import read_rows
from models import make_weights, read_folder, tune, write_model
from vaults import open_local

from weightvault.dedup.errors import Conflict, InvalidInput, InvalidName, RepoNotFound
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.maintenance.rebuild_catalogue import rebuild_catalogue
from weightvault.dedup.maintenance.rename_repo import rename_repo
from weightvault.dedup.maintenance.undelete_repo import undelete
from weightvault.dedup.repository.refs_state import RepoState, read_state
from weightvault.dedup.transfer.pull import pull
from weightvault.dedup.transfer.push import push
from weightvault.dedup.transfer.refs import History, Message
from weightvault.dedup.transfer.uploads import IncomingFiles


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[LocalVault]:
    """Has the repo me/old: two commits, a second branch, one deleted, a tag, public."""
    weights = make_weights(1)
    with closing(open_local(tmp_path / "vault")) as opened:
        history = History(opened, IncomingFiles(opened))
        push(opened, write_model(tmp_path / "first", weights), "me/old")
        history.create_tag("me/old", "v1", "main", "the first")
        history.create_branch("me/old", "dev/x", "main")
        push(opened, write_model(tmp_path / "gone", tune(weights, 3)), "me/old", "gone")
        push(opened, write_model(tmp_path / "second", tune(weights, 2)), "me/old")
        history.delete_branch("me/old", "gone")
        history.set_public("me/old", True)
        yield opened


def renamed(state: RepoState, repo: str) -> RepoState:
    commits = {oid: replace(row, repo=repo) for oid, row in state.commits.items()}
    return replace(state, commits=commits)


def test_all_of_it_has_the_new_name(vault: LocalVault, tmp_path: Path):
    before = read_state(vault.catalogue, "me/old")
    unique = vault.report().unique
    rename_repo(vault, "me/old", "you/new")
    assert read_state(vault.catalogue, "you/new") == renamed(before, "you/new")
    assert [repo.name for repo in vault.list_repos()] == ["you/new"]
    assert vault.report().unique == unique
    pull(vault, "you/new", tmp_path / "copy", "v1")
    assert read_folder(tmp_path / "copy") == read_folder(tmp_path / "first")
    rows = read_rows(vault.catalogue)
    rebuild_catalogue(vault.backend, vault.catalogue)
    assert read_rows(vault.catalogue) == rows


def test_stopped_anywhere_it_goes_on(vault: LocalVault, monkeypatch: pytest.MonkeyPatch):
    before = read_state(vault.catalogue, "me/old")
    stops, record_commit, record = 0, LocalVault.record_commit, LocalVault.record
    while True:
        left = stops

        def once(call, *args, **options):
            nonlocal left
            if not left:
                raise KeyboardInterrupt
            left -= 1
            return call(*args, **options)

        with monkeypatch.context() as stopping:
            for name, call in (("record_commit", record_commit), ("record", record)):

                def counted(*args, _call=call, **options):
                    return once(_call, *args, **options)

                stopping.setattr(LocalVault, name, counted)
            try:
                rename_repo(vault, "me/old", "you/new")
                break
            except KeyboardInterrupt:
                assert read_state(vault.catalogue, "me/old") == before
        stops += 1
    assert stops > 0
    assert read_state(vault.catalogue, "you/new") == renamed(before, "you/new")
    assert not vault.catalogue.has_repo("me/old")


def test_a_name_that_is_taken_is_left_alone(vault: LocalVault):
    History(vault, IncomingFiles(vault)).create_repo("me/taken", Message("initial commit"))
    before = {repo: read_state(vault.catalogue, repo) for repo in ("me/old", "me/taken")}
    for new, error in (
        ("me/taken", Conflict),
        ("me/old", InvalidInput),
        ("nothing", InvalidName),
    ):
        with pytest.raises(error):
            rename_repo(vault, "me/old", new)
    with pytest.raises(RepoNotFound):
        rename_repo(vault, "me/none", "me/other")
    assert before == {repo: read_state(vault.catalogue, repo) for repo in before}


def test_a_commit_beside_it_is_not_lost(vault: LocalVault, monkeypatch: pytest.MonkeyPatch):
    first = vault.resolve("me/old", "v1")
    record = LocalVault.record

    def beside(self: LocalVault, entry: object) -> None:
        record(self, entry)  # type: ignore[arg-type]
        self.commit("me/old", "beside", first.manifest)

    with monkeypatch.context() as busy:
        busy.setattr(LocalVault, "record", beside)
        with pytest.raises(Conflict, match="changed while"):
            rename_repo(vault, "me/old", "you/new")
    rename_repo(vault, "me/old", "you/new")
    assert vault.resolve("you/new", "beside").manifest == first.manifest
    assert undelete(vault, "me/old").commits == 4
