"""Collections beside pushes, of the same machine and of others: nobody loses anything."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from crashes import Crash
from models import make_weights, tune, write_model
from upkeep import GRACE, Clock, assert_pulls, gc, model
from vaults import Wrapper, open_local

from weightvault.dedup.errors import ChunksMissing, Conflict
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.maintenance.collection.plan import list_objects
from weightvault.dedup.maintenance.gc import Collector
from weightvault.dedup.model import journal_entries
from weightvault.dedup.model.files.entries import ChunkUse
from weightvault.dedup.reading.chunk_reader import ChunkReader
from weightvault.dedup.reading.timed_codecs import encode_tensor
from weightvault.dedup.repository.journal import replay
from weightvault.dedup.repository.journal.writing import new_entry
from weightvault.dedup.repository.pack_writing import add_frame
from weightvault.dedup.transfer.push import push
from weightvault.dedup.transfer.uploads import IncomingFiles
from weightvault.dedup.verification.scrub import Scrubber
from weightvault.store.backends.open import open_backend
from weightvault.store.catalogue.catalogue import open_catalogue
from weightvault.store.catalogue.tombstones import remove_dead, set_tombstones
from weightvault.store.object_keys import pack_key
from weightvault.store.packs import PackWriter


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


class Collecting(Wrapper):
    """Collects as soon as a pack is there; the process dies before it puts that again."""

    collect: Callable[[], object]
    packs = 0

    def put_file(self, key: str, path) -> None:
        self.packs += 1
        if self.packs > 1:
            raise Crash
        self.inner.put_file(key, path)
        self.collect()


def test_a_push_that_dies_when_its_pack_was_just_collected(tmp_path: Path):
    """The pack is not on record then: a later push would count on it."""
    vault = open_local(tmp_path / "vault", Collecting)
    assert isinstance(vault.backend, Collecting)
    vault.backend.collect = lambda: gc(vault)
    source = model(tmp_path, 1)
    with pytest.raises(Crash):
        push(vault, source, "org/m")
    vault.close()
    vault = open_local(tmp_path / "vault")
    push(vault, source, "org/m")
    assert_pulls(vault, "org/m", source, tmp_path / "out")
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


def test_a_base_that_a_collection_left_as_a_delta_is_none(
    local: LocalVault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A pack goes while a push is under way that has sent a delta on a base in it. Of that base
    there is another frame, but one that is a delta itself."""
    weights = make_weights(1, {"w": (64, 64)})
    newest = write_model(tmp_path / "newest", tune(weights, 3))
    push(local, write_model(tmp_path / "base", weights), "org/base")
    push(local, write_model(tmp_path / "later", tune(weights, 2)), "org/later")
    ours, theirs = ({c.digest: c for c in _chunks(local, r)} for r in ("org/base", "org/later"))
    (old,), (new,) = ours.keys() - theirs.keys(), theirs.keys() - ours.keys()
    uses = [ours[old], theirs[new]]
    base, centre = map(bytes, ChunkReader(local.fetch_frames).read(uses))
    pack = tmp_path / "pack"
    with PackWriter(pack) as writer:
        add_frame(writer, encode_tensor(centre, "BF16", digest=new))
        delta = encode_tensor(base, "BF16", base=centre, digest=old, base_digest=new)
        add_frame(writer, delta)
        name = writer.finish()
    local.add_pack(pack, name)
    gone = local.catalogue.locate([old])[old].pack

    def collect_first(*args, **options):
        monkeypatch.undo()
        local.delete_repo("org/base")
        local.delete_repo("org/later")
        keys = [pack_key(gone)]
        set_tombstones(local.catalogue, keys, 0, "journal/1")
        assert remove_dead(local.catalogue, keys, 0, lambda _: lambda *_: ["journal/2"]) == keys
        local.backend.delete(*keys)
        return local.commit(*args, **options)

    monkeypatch.setattr(local, "commit", collect_first)
    push(local, newest, "org/newest")
    assert_pulls(local, "org/newest", newest, tmp_path / "out")
    assert Scrubber(local).run().problems == []


def _chunks(vault: LocalVault, repo: str) -> list[ChunkUse]:
    manifest = vault.resolve(repo).manifest
    return [use for file in manifest.files for use in file.chunks(manifest.chunk_bytes)]


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
    replay.catch_up(there.backend, there.catalogue)
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
    replay.catch_up(there.backend, there.catalogue)
    here.delete_repo("org/m")
    assert gc(here).removed == 2
    other = write_model(tmp_path / "o", make_weights(1) | {"x": make_weights(4)["layer.0.bias"]})
    assert push(there, other, "org/again").sent > 0
    assert_pulls(there, "org/again", other, tmp_path / "out")
    replay.catch_up(here.backend, here.catalogue)
    gc(here)
    assert_pulls(here, "org/again", other, tmp_path / "out2")


def test_the_same_pack_cannot_come_while_it_is_being_removed(pair, tmp_path: Path):
    here, there = pair
    path = model(tmp_path, 1)
    push(here, path, "org/m")
    here.delete_repo("org/m")
    assert gc(here).removed == 2
    replay.catch_up(there.backend, there.catalogue)
    with pytest.raises(Conflict, match="being removed"):
        push(there, path, "org/m")
    assert push(here, path, "org/m").sent > 0
    replay.catch_up(there.backend, there.catalogue)
    assert_pulls(there, "org/m", path, tmp_path / "out")


def test_a_commit_that_got_ahead_of_the_removal_keeps_its_chunks(pair, tmp_path: Path):
    """The other machine's entry is written after this one looked at the journal, and before it
    announces what it removes."""
    here, there = pair
    path = model(tmp_path, 1)
    push(here, path, "org/m")
    replay.catch_up(there.backend, there.catalogue)
    here.delete_repo("org/m")
    here.backend = paused = Pausing(here.backend, "journal/")
    stages: list[str] = []

    def on_remove() -> None:
        stages.append("remove")
        # Without reading the journal first, as if its commit had been under way all the time.
        snapshot_row = journal_entries.commit_row("org/kept", "main", manifest, None, None)
        entry = journal_entries.Entry("org/kept", snapshot_row.created, snapshot_row)
        new_entry(there.backend, lambda _: entry)(None, ())

    manifest = there.resolve("org/m").commit.manifest
    collector = Collector(here, grace_seconds=0)
    state, plan = collector._plan(list_objects(here))
    collector._retire(plan.retire)
    paused.action = on_remove
    collector._remove(state, plan.remove)
    assert stages == ["remove"]
    assert_pulls(here, "org/kept", path, tmp_path / "out")


def test_an_upload_that_got_ahead_of_the_removal_keeps_its_chunks(pair, tmp_path: Path):
    """As above, of a file that was uploaded and that no commit names yet."""
    here, there = pair
    data = bytes(1000) + b"uploaded"
    uploads = IncomingFiles(there)
    file = uploads.add([data], "org/kept")
    there.delete_repo(push(there, model(tmp_path, 1), "org/kept").commit.repo)
    replay.catch_up(here.backend, here.catalogue)
    here.backend = paused = Pausing(here.backend, "journal/")
    collector = Collector(here, grace_seconds=0)
    state, plan = collector._plan(list_objects(here))
    collector._retire(plan.retire)
    paused.action = lambda: uploads.keep(file, "org/kept")
    collector._remove(state, plan.remove)
    gc(here)
    assert b"".join(map(bytes, uploads.read(file))) == data


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
            # SQLite's lock knows no queue: without a pause pushes may never have it.
            stop.wait(0.01)

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
