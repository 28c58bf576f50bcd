"""Commits made of changes, branches, tags, the log: as git has them, and rebuilt from objects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from vaults import open_local

from weightvault.dedup.errors import Conflict, EntryNotFound, InvalidManifest, RevisionNotFound
from weightvault.dedup.maintenance.rebuild_catalogue import rebuild_catalogue
from weightvault.dedup.model.names import is_commit_id
from weightvault.dedup.transfer import refs as module
from weightvault.dedup.transfer.push import push
from weightvault.dedup.transfer.refs import (
    AddFile,
    Change,
    DeleteFile,
    DeleteFolder,
    History,
    Message,
    StaleParent,
)
from weightvault.dedup.transfer.uploads import IncomingFiles
from weightvault.store.catalogue.files.hashes import hashes_of

REPO = "org/model"


class World:
    """A vault and what makes commits in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.vault = open_local(root / "vault")
        self.incoming = IncomingFiles(self.vault)
        self.history = History(self.vault, self.incoming)

    def add(self, path: str, data: bytes) -> AddFile:
        return AddFile(path, self.incoming.add([data], REPO))

    def commit(self, title: str, *changes: Change, branch: str = "main", parent: str | None = None):
        return self.history.commit(
            REPO, branch, changes, Message(title, author="me"), parent=parent
        )

    def files(self, revision: str = "main") -> dict[str, bytes]:
        manifest = self.vault.resolve(REPO, revision).manifest
        reads = {e.path: self.vault.read_file(REPO, revision, e.path)[2] for e in manifest.files}
        return {path: b"".join(map(bytes, pieces)) for path, pieces in reads.items()}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    made.history.create_repo(REPO, Message("initial commit", author="me"))
    yield made
    made.vault.close()


def titles(world: World, revision: str = "main") -> Sequence[str | None]:
    return [commit.title for commit in world.history.log(REPO, revision)]


def test_changes_add_up(world: World):
    world.commit("one", world.add("a.txt", b"a"), world.add("d/b.txt", b"b"), world.add("d/c", b""))
    assert world.files() == {"a.txt": b"a", "d/b.txt": b"b", "d/c": b""}
    world.commit("two", DeleteFile("a.txt"), world.add("d/b.txt", b"B"))
    assert world.files() == {"d/b.txt": b"B", "d/c": b""}
    world.commit("three", DeleteFolder("d/"), world.add("d", b"now a file"))
    assert world.files() == {"d": b"now a file"}
    assert titles(world) == ["three", "two", "one", "initial commit"]
    log = world.history.log(REPO, "main")
    assert all(is_commit_id(commit.id) for commit in log)
    assert [commit.parent for commit in log] == [*(commit.id for commit in log[1:]), None]
    assert world.files(log[1].id) == {"d/b.txt": b"B", "d/c": b""}


@pytest.mark.parametrize("change", [DeleteFile("b"), DeleteFolder("d"), DeleteFile("d/b")])
def test_what_is_not_there_cannot_be_deleted(world: World, change: Change):
    world.commit("one", world.add("a", b"a"))
    with pytest.raises(EntryNotFound):
        world.commit("two", change)
    assert titles(world) == ["one", "initial commit"]


def test_a_path_is_a_file_or_a_folder(world: World):
    world.commit("one", world.add("a/b", b"a"))
    with pytest.raises(InvalidManifest, match="both a file and a folder"):
        world.commit("two", world.add("a", b"a"))


def test_a_stale_parent_is_refused(world: World):
    first = world.commit("one", world.add("a", b"1"))
    world.commit("two", world.add("a", b"2"), parent=first.id)
    with pytest.raises(StaleParent):
        world.commit("three", world.add("b", b"3"), parent=first.id)


def test_a_commit_asked_for_again_is_the_same(world: World, monkeypatch: pytest.MonkeyPatch):
    first = world.commit("one", world.add("a", b"1"), world.add("b", b"1"))
    changes = (world.add("a", b"2"), DeleteFile("b"))
    made = world.commit("two", *changes, parent=first.id)
    assert world.commit("two", *changes, parent=first.id) == made
    assert world.commit("two", *changes) == made
    monkeypatch.setattr(module, "_REPEAT_SECONDS", -1)
    with pytest.raises(EntryNotFound):
        world.commit("two", *changes)


def test_changes_that_change_nothing_make_no_commit(world: World):
    made = world.commit("one", world.add("a", b"1"))
    assert world.commit("another title", world.add("a", b"1")) == made


def test_many_at_once_all_land(world: World):
    from concurrent.futures import ThreadPoolExecutor

    changes = [world.add(f"{i}.txt", str(i).encode()) for i in range(8)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda change: world.commit(change.path, change), changes))
    assert len(world.files()) == 8
    assert len(world.history.log(REPO, "main")) == 9


def test_branches_with_slashes(world: World):
    base = world.commit("one", world.add("a", b"1"))
    world.history.create_branch(REPO, "dev/x", "main")
    world.commit("two", world.add("a", b"2"), branch="dev/x")
    assert world.files("main") == {"a": b"1"}
    assert world.files("dev/x") == {"a": b"2"}
    assert titles(world, "dev/x") == ["two", "one", "initial commit"]
    with pytest.raises(Conflict):
        world.history.create_branch(REPO, "dev/x", "main")
    world.history.delete_branch(REPO, "dev/x")
    assert world.history.branches(REPO) == {"main": base.id}
    with pytest.raises(RevisionNotFound):
        world.history.delete_branch(REPO, "dev/x")
    with pytest.raises(RevisionNotFound):
        world.commit("three", world.add("a", b"3"), branch="dev/x")
    with pytest.raises(Conflict):
        world.history.delete_branch(REPO, "main")


def test_tags_stay_where_they_are(world: World):
    first = world.commit("one", world.add("a", b"1"))
    world.history.create_tag(REPO, "v1.0", "main", "the first")
    world.commit("two", world.add("a", b"2"))
    assert world.history.tags(REPO) == {"v1.0": first.id}
    assert world.files("v1.0") == {"a": b"1"}
    with pytest.raises(Conflict):
        world.history.create_tag(REPO, "v1.0", "main", None)
    with pytest.raises(RevisionNotFound):
        world.commit("three", world.add("a", b"3"), branch="v1.0")
    world.history.delete_tag(REPO, "v1.0")
    assert world.history.tags(REPO) == {}
    with pytest.raises(RevisionNotFound):
        world.history.delete_tag(REPO, "v1.0")


def test_pull_requests_are_numbered_branches(world: World):
    assert [world.history.open_pull_request(REPO, "main") for _ in range(2)] == [1, 2]
    world.commit("proposal", world.add("a", b"1"), branch="refs/pr/2")
    assert world.files("refs/pr/2") == {"a": b"1"}
    assert world.files("main") == {}


def test_repos_are_made_once_and_private(world: World):
    with pytest.raises(Conflict):
        world.history.create_repo(REPO, Message("again"))
    assert world.history.is_public(REPO) is False
    assert world.history.is_public("org/none") is None
    world.history.set_public(REPO, True)
    assert world.history.is_public(REPO) is True


def test_pushes_and_commits_share_a_history(world: World, tmp_path: Path):
    world.commit("one", world.add("a", b"1"))
    (tmp_path / "pushed").mkdir()
    (tmp_path / "pushed/b").write_bytes(b"2")
    push(world.vault, tmp_path / "pushed", REPO)
    world.commit("three", world.add("c", b"3"))
    assert world.files() == {"b": b"2", "c": b"3"}
    assert titles(world) == ["three", None, "one", "initial commit"]


def test_files_pushed_in_other_chunks_are_cut_anew(world: World, tmp_path: Path):
    import numpy as np

    (tmp_path / "pushed").mkdir()
    data = np.random.default_rng(1).bytes(300_000)
    np.save(tmp_path / "pushed/w.npy", np.frombuffer(data, np.uint8))
    push(world.vault, tmp_path / "pushed", REPO, chunk_bytes=1 << 16)
    before = world.files()
    world.commit("one", world.add("c", b"3"))
    assert world.files() == {**before, "c": b"3"}


def test_a_catalogue_built_anew_knows_all_of_it(world: World, tmp_path: Path):
    first = world.commit("one", world.add("a", b"1"))
    world.history.create_branch(REPO, "dev/x", first.id)
    world.history.create_branch(REPO, "gone", first.id)
    world.commit("two", world.add("a", b"2"), branch="dev/x")
    world.history.delete_branch(REPO, "gone")
    world.history.create_tag(REPO, "v1", first.id, "message")
    world.history.set_public(REPO, True)
    (tmp_path / "pushed").mkdir()
    (tmp_path / "pushed/b").write_bytes(b"2")
    push(world.vault, tmp_path / "pushed", REPO)
    digests = [entry.digest for entry in world.vault.resolve(REPO).manifest.files]

    def state():
        history = world.history
        logs = [history.log(REPO, revision) for revision in ("main", "dev/x", "v1")]
        hashes = hashes_of(world.vault.catalogue, digests)
        assert len(hashes) == len(digests)
        return history.branches(REPO), history.tags(REPO), logs, history.is_public(REPO), hashes

    before = state()
    rebuild_catalogue(world.vault.backend, world.vault.catalogue)
    assert state() == before
