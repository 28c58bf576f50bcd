"""Collection: what goes, what stays, and that a push beside it never loses anything."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from catalogue_rows import read_rows
from models import make_weights, read_folder, tune, write_model
from vaults import Wrapper, open_local

from weightvault.dedup import collect, entries, journal
from weightvault.dedup.collect import Collected, Collector
from weightvault.dedup.errors import ChunksMissing, Conflict, RepoNotFound
from weightvault.dedup.local import LocalVault
from weightvault.dedup.pull import pull
from weightvault.dedup.push import push
from weightvault.dedup.renew import rebuild_catalogue
from weightvault.dedup.undelete import undelete
from weightvault.store.catalogue import open_catalogue
from weightvault.store.collection import list_tombstones
from weightvault.store.open import open_backend

GRACE = 1000.0


@pytest.fixture
def local(tmp_path: Path) -> Iterator[LocalVault]:
    opened = open_local(tmp_path / "vault")
    yield opened
    opened.close()


class Clock:
    """A clock that is set forward by hand."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return collect.time.time() + self.ahead


def gc(vault: LocalVault, grace: float = 0.0, **options) -> Collected:
    return Collector(vault, grace_seconds=grace, **options).run()


def model(folder: Path, seed: int) -> Path:
    return write_model(folder / str(seed), make_weights(seed))


def keys(vault: LocalVault) -> set[str]:
    return {info.key for info in vault.backend.list()}


def assert_pulls(vault: LocalVault, repo: str, source: Path, out: Path) -> None:
    pull(vault, repo, out)
    assert read_folder(out) == read_folder(source)
    assert vault.check().problems == ()


def test_nothing_that_is_needed_goes(local: LocalVault, tmp_path: Path):
    push(local, model(tmp_path, 1), "org/base")
    tuned = write_model(tmp_path / "t", tune(make_weights(1), 2))
    push(local, tuned, "org/tuned", base="org/base")
    local.delete_repo("org/base")
    before = keys(local)
    done = gc(local)
    # The base's weights stay for the deltas on them; its manifest and nothing else goes.
    (gone,) = before - keys(local)
    assert done.removed == 1
    assert gone.startswith("manifests/")
    assert_pulls(local, "org/tuned", tuned, tmp_path / "out")


def test_garbage_goes_after_the_grace_and_not_before(local: LocalVault, tmp_path: Path):
    clock = Clock()
    kept = model(tmp_path, 1)
    push(local, kept, "org/kept")
    alone = keys(local)
    push(local, model(tmp_path, 2), "org/gone")
    local.delete_repo("org/gone")
    clock.ahead = GRACE + 1
    assert gc(local, GRACE, now=clock).removed == 0
    clock.ahead = 2 * GRACE
    waiting = gc(local, GRACE, now=clock)
    assert (waiting.retired, waiting.removed, waiting.waiting) == (0, 0, 2)
    clock.ahead = 2 * GRACE + 2
    done = gc(local, GRACE, now=clock)
    assert (done.removed, done.waiting) == (2, 0)
    assert {k for k in keys(local) if not k.startswith("journal/")} == {
        k for k in alone if not k.startswith("journal/")
    }
    assert local.report().garbage == 0
    assert list_tombstones(local.catalogue) == {}
    assert_pulls(local, "org/kept", kept, tmp_path / "out")


def test_what_is_younger_than_the_grace_is_not_even_retired(local: LocalVault, tmp_path: Path):
    push(local, model(tmp_path, 1), "org/m")
    local.delete_repo("org/m")
    assert gc(local, GRACE).retired == 0


def test_dry_run_says_what_would_go_and_changes_nothing(local: LocalVault, tmp_path: Path):
    push(local, model(tmp_path, 1), "org/kept")
    push(local, model(tmp_path, 2), "org/gone")
    local.delete_repo("org/gone")
    before = {info.key: info.size for info in local.backend.list()}
    said = Collector(local, grace_seconds=0).predict()
    assert {info.key: info.size for info in local.backend.list()} == before
    done = gc(local)
    after = {info.key: info.size for info in local.backend.list()}
    assert (
        (said.removed, said.removed_bytes)
        == (done.removed, done.removed_bytes)
        == (2, done.removed_bytes)
    )
    gone = before.keys() - after.keys()
    assert sum(before[key] for key in gone) == done.removed_bytes


def test_packs_of_dead_pushes_go(tmp_path: Path):
    vault = open_local(tmp_path / "vault")
    path = model(tmp_path, 1)

    def refuse(*_: object, **__: object) -> None:
        raise Conflict("the process died here")

    vault.commit = refuse  # type: ignore[method-assign]
    with pytest.raises(Conflict):
        push(vault, path, "org/m")
    vault.close()
    for file in (tmp_path / "vault").glob("catalogue.sqlite*"):
        file.unlink()
    reopened = open_local(tmp_path / "vault")
    assert gc(reopened).removed == 1
    assert keys(reopened) - {"weightvault.json"} == {
        k for k in keys(reopened) if k.startswith("journal/")
    }
    push(reopened, path, "org/m")
    assert_pulls(reopened, "org/m", path, tmp_path / "out")
    reopened.close()


def test_pushing_again_takes_the_tombstones_away(local: LocalVault, tmp_path: Path):
    clock = Clock()
    path = model(tmp_path, 1)
    push(local, path, "org/m")
    local.delete_repo("org/m")
    clock.ahead = GRACE + 1
    assert gc(local, GRACE, now=clock).retired == 2
    again = push(local, path, "org/again")
    assert again.sent == 0
    assert list_tombstones(local.catalogue) == {}
    clock.ahead = 9 * GRACE
    assert gc(local, GRACE, now=clock).removed == 0
    assert_pulls(local, "org/again", path, tmp_path / "out")


def test_mostly_dead_packs_are_compacted(local: LocalVault, tmp_path: Path):
    """One pack with two models' tensors; then only one of them is left."""
    both = tmp_path / "both"
    small = make_weights(1, {"w": (64, 64)})
    write_model(both / "small", small)
    write_model(both / "large", make_weights(2))
    push(local, both, "org/both")
    alone = write_model(tmp_path / "alone", small)
    push(local, alone, "org/small")
    local.delete_repo("org/both")
    done = gc(local)
    assert (done.compacted, done.removed) == (1, 2)
    assert local.report().garbage == 0
    assert_pulls(local, "org/small", alone, tmp_path / "out")


def test_a_rebuilt_catalogue_follows_a_collection(local: LocalVault, tmp_path: Path):
    kept = model(tmp_path, 1)
    push(local, kept, "org/kept")
    push(local, model(tmp_path, 2), "org/gone")
    local.delete_repo("org/gone")
    gc(local)
    report = local.report()
    other = LocalVault(
        local.backend, open_catalogue(f"sqlite:///{tmp_path / 'other.sqlite'}"), scratch=tmp_path
    )
    assert other.report() == report
    assert_pulls(other, "org/kept", kept, tmp_path / "out")
    other.catalogue.close()


# Beside live traffic


class Pausing(Wrapper):
    """Calls `action` once before the first object is put whose key starts with `prefix`."""

    def __init__(self, inner, prefix: str) -> None:
        super().__init__(inner)
        self.prefix = prefix
        self.action: Callable[[], object] = lambda: None

    def put(self, key: str, data) -> None:
        self._pause(key)
        self.inner.put(key, data)

    def put_file(self, key: str, path) -> None:
        self._pause(key)
        self.inner.put_file(key, path)

    def _pause(self, key: str) -> None:
        if key.startswith(self.prefix):
            action, self.action = self.action, lambda: None
            action()


@pytest.mark.parametrize("prefix", ["packs/", "sketches/"])
def test_a_collection_without_grace_in_the_middle_of_a_push(tmp_path: Path, prefix: str):
    """It takes packs that nothing needs yet, and what the push has asked about: sent again."""
    pausing: list[Pausing] = []

    def wrap(backend):
        pausing.append(Pausing(backend, prefix))
        return pausing[0]

    vault = open_local(tmp_path / "vault", wrap)
    first, second = model(tmp_path, 1), model(tmp_path, 2)
    push(vault, first, "org/first")
    vault.delete_repo("org/first")
    pausing[0].action = lambda: gc(vault)
    mixed = write_model(
        tmp_path / "mixed", make_weights(1) | {"new": make_weights(3)["layer.0.weight"]}
    )
    push(vault, mixed, "org/mixed")
    assert_pulls(vault, "org/mixed", mixed, tmp_path / "out")
    push(vault, second, "org/second")
    gc(vault)
    assert_pulls(vault, "org/mixed", mixed, tmp_path / "out2")
    vault.close()


def test_collected_between_question_and_commit(local: LocalVault, tmp_path: Path):
    path = model(tmp_path, 1)
    manifest = push(local, path, "org/m").commit
    snapshot = local.resolve("org/m")
    local.delete_repo("org/m")
    assert local.find_missing(snapshot.manifest.digests().keys()) == set()
    gc(local)
    with pytest.raises(ChunksMissing) as caught:
        local.commit("org/again", "main", snapshot.manifest)
    assert caught.value.hint == "push again"
    assert local.list_repos() == []
    assert push(local, path, "org/again").commit.manifest == manifest.manifest
    assert_pulls(local, "org/again", path, tmp_path / "out")


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[LocalVault, LocalVault]]:
    """Two machines with one object store and a catalogue each."""
    root = tmp_path / "store"
    vaults = []
    for name in ("here", "there"):
        scratch = tmp_path / name
        scratch.mkdir()
        catalogue = open_catalogue(f"sqlite:///{scratch / 'c.sqlite'}")
        vaults.append(LocalVault(open_backend(str(root)), catalogue, scratch=scratch))
    yield vaults[0], vaults[1]
    for vault in vaults:
        vault.close()


def test_another_machine_takes_up_what_is_retired(pair, tmp_path: Path):
    here, there = pair
    clock = Clock()
    path = model(tmp_path, 1)
    push(here, path, "org/m")
    journal.catch_up(there.backend, there.catalogue)
    here.delete_repo("org/m")
    clock.ahead = GRACE + 1
    assert gc(here, GRACE, now=clock).retired == 2
    # It has not looked since the push, and knows of neither deletion nor tombstones.
    assert push(there, path, "org/again").sent == 0
    clock.ahead = 9 * GRACE
    assert gc(here, GRACE, now=clock).removed == 0
    assert_pulls(here, "org/again", path, tmp_path / "out")


def test_another_machine_misses_what_is_removed(pair, tmp_path: Path):
    here, there = pair
    path = model(tmp_path, 1)
    push(here, path, "org/m")
    journal.catch_up(there.backend, there.catalogue)
    here.delete_repo("org/m")
    assert gc(here).removed == 2
    other = write_model(tmp_path / "o", make_weights(1) | {"x": make_weights(4)["layer.0.bias"]})
    assert push(there, other, "org/again").sent > 0
    assert_pulls(there, "org/again", other, tmp_path / "out")
    journal.catch_up(here.backend, here.catalogue)
    gc(here)
    assert_pulls(here, "org/again", other, tmp_path / "out2")


def test_the_same_pack_cannot_come_while_it_is_being_removed(pair, tmp_path: Path):
    here, there = pair
    path = model(tmp_path, 1)
    push(here, path, "org/m")
    here.delete_repo("org/m")
    assert gc(here).removed == 2
    journal.catch_up(there.backend, there.catalogue)
    with pytest.raises(Conflict, match="being removed"):
        push(there, path, "org/m")
    assert push(here, path, "org/m").sent > 0
    journal.catch_up(there.backend, there.catalogue)
    assert_pulls(there, "org/m", path, tmp_path / "out")


def test_a_commit_that_got_ahead_of_the_removal_keeps_its_chunks(pair, tmp_path: Path):
    """The other machine's entry is written after this one looked at the journal, and before it
    announces what it removes."""
    here, there = pair
    path = model(tmp_path, 1)
    push(here, path, "org/m")
    journal.catch_up(there.backend, there.catalogue)
    here.delete_repo("org/m")
    here.backend = paused = Pausing(here.backend, "journal/")
    stages: list[str] = []

    def on_remove() -> None:
        stages.append("remove")
        # Without reading the journal first, as if its commit had been under way all the time.
        snapshot_row = entries.commit_row("org/kept", "main", manifest, None, None)
        entry = entries.Entry("org/kept", snapshot_row.created, snapshot_row)
        journal.write_entry(there.backend, entry)

    manifest = there.resolve("org/m").commit.manifest
    collector = Collector(here, grace_seconds=0)
    found = Collected()
    collector._look()
    collector._retire(found)
    paused.action = on_remove
    collector._remove(found)
    assert stages == ["remove"]
    assert_pulls(here, "org/kept", path, tmp_path / "out")


def test_pushes_deletions_and_collections_at_once(local: LocalVault, tmp_path: Path):
    sources = {f"org/m{i}": model(tmp_path, i) for i in range(3)}
    stop = threading.Event()
    failures: list[BaseException] = []

    def collect_all() -> None:
        while not stop.is_set():
            try:
                gc(local)
            except BaseException as error:
                failures.append(error)
                return

    collecting = threading.Thread(target=collect_all)
    collecting.start()
    for turn in range(4):
        for repo, path in sources.items():
            _push_until_done(local, path, repo)
            if turn < 3:
                local.delete_repo(repo)
    stop.set()
    collecting.join()
    assert failures == []
    for repo, path in sources.items():
        assert_pulls(local, repo, path, tmp_path / "out" / repo)
    gc(local)
    assert local.report().garbage == 0


def _push_until_done(vault: LocalVault, path: Path, repo: str) -> None:
    for _ in range(50):
        try:
            push(vault, path, repo)
        except (ChunksMissing, Conflict):
            continue
        return
    raise AssertionError("the collection always got ahead")


# Undelete


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
        entries.RefChange("org/m", "branch", "gone", None, time.time()),
        entries.RefChange("org/m", "branch", "main", first, time.time()),
        entries.RefChange("org/m", "tag", "v2", second, time.time(), "the second"),
        entries.Visibility("org/m", True, time.time()),
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
