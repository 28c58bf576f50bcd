"""Several servers on one PostgreSQL and one bucket: nothing is lost, nothing stored twice."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from models import make_weights, read_folder, tune, write_model

from weightvault.dedup.errors import ChunksMissing, Conflict, Missing
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.maintenance.gc import Collector
from weightvault.dedup.maintenance.rebuild_catalogue import rebuild_catalogue
from weightvault.dedup.maintenance.undelete_repo import undelete
from weightvault.dedup.transfer.pull import pull
from weightvault.dedup.transfer.push import push
from weightvault.dedup.verification.scrub import Scrubber
from weightvault.store.backends.open import open_backend
from weightvault.store.catalogue.catalogue import open_catalogue
from weightvault.store.catalogue.tombstones import list_tombstones


@pytest.fixture
def connect(postgres_url: str, s3_url: str, tmp_path: Path) -> Iterator[Callable[[], LocalVault]]:
    """Opens one more vault on the same database and bucket, as one more server would."""
    opened: list[LocalVault] = []

    def open_one() -> LocalVault:
        backend, catalogue = open_backend(s3_url), open_catalogue(postgres_url)
        opened.append(LocalVault(backend, catalogue, scratch=tmp_path))
        return opened[-1]

    yield open_one
    for vault in opened:
        vault.close()


def gc(vault: LocalVault) -> None:
    Collector(vault, grace_seconds=0, dead_share=0.001).run()


def assert_pulls(vault: LocalVault, repo: str, source: Path, out: Path) -> None:
    pull(vault, repo, out)
    assert read_folder(out) == read_folder(source)


def test_the_whole_life_of_a_vault(connect, tmp_path: Path):
    here, there = connect(), connect()
    base = write_model(tmp_path / "base", make_weights(1))
    tuned = write_model(tmp_path / "tuned", tune(make_weights(1), 2))
    push(here, base, "org/base")
    push(there, tuned, "org/tuned", base="org/base")
    here.delete_repo("org/base")
    assert undelete(there, "org/base").commits == 1
    assert_pulls(here, "org/base", base, tmp_path / "out")
    there.delete_repo("org/base")
    gc(here)
    gc(there)
    assert list_tombstones(here.catalogue) == {}
    assert here.report().garbage == 0
    assert Scrubber(there).run().problems == []
    before = here.report()
    rebuild_catalogue(here.backend, here.catalogue)
    assert here.report() == before
    assert_pulls(there, "org/tuned", tuned, tmp_path / "out2")
    assert there.check().problems == ()


def test_the_same_revision_pushed_by_many_at_once(connect, tmp_path: Path):
    vaults = [connect() for _ in range(4)]
    source = write_model(tmp_path / "m", make_weights(1))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda v: push(v, source, "org/m"), vaults))
    assert_pulls(vaults[0], "org/m", source, tmp_path / "out")
    # All coded alike, so all packs were one pack.
    assert len(list(vaults[0].backend.list("packs/"))) == 1
    assert vaults[0].report().garbage == 0


def test_pushes_beside_deletion_and_collection(connect, tmp_path: Path):
    """The same tensors come and go from several sides while a collection takes what it can."""
    sources = [write_model(tmp_path / str(i), tune(make_weights(1), i)) for i in range(3)]
    stop, failures = threading.Event(), []

    def collect_all() -> None:
        vault = connect()
        while not stop.is_set():
            try:
                gc(vault)
            except BaseException as error:
                failures.append(error)

    def come_and_go(number: int) -> None:
        vault = connect()
        for _ in range(4):
            _until_done(lambda: push(vault, sources[number % 3], f"org/m{number}"))
            vault.delete_repo(f"org/m{number}")
        _until_done(lambda: push(vault, sources[number % 3], f"org/m{number}"))

    collecting = threading.Thread(target=collect_all)
    collecting.start()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(come_and_go, range(4)))
    stop.set()
    collecting.join()
    assert failures == []
    vault = connect()
    for number in range(4):
        assert_pulls(vault, f"org/m{number}", sources[number % 3], tmp_path / f"out{number}")
    gc(vault)
    assert vault.report().garbage == 0
    assert vault.check().problems == ()
    assert Scrubber(vault).run().problems == []


def test_damage_in_a_bucket_is_found(connect, tmp_path: Path):
    """Nothing of it may be left unread because it is far away."""
    vault = connect()
    source = write_model(tmp_path / "m", make_weights(1))
    push(vault, source, "org/m")
    (pack,) = vault.backend.list("packs/")
    whole = vault.backend.get(pack.key)
    vault.backend.put(pack.key, whole[:200] + bytes([whole[200] ^ 1]) + whole[201:])
    assert any("org/m" in problem for problem in Scrubber(vault).run().problems)
    assert any("org/m" in problem for problem in connect().check().problems)
    vault.backend.put(pack.key, whole)
    assert Scrubber(vault).run().problems == []
    vault.backend.delete(pack.key)
    assert any("org/m" in problem for problem in vault.check().problems)
    assert Scrubber(vault).run().problems != []


def _until_done(work: Callable[[], object]) -> None:
    for _ in range(30):
        try:
            work()
        except (ChunksMissing, Conflict, Missing):
            continue
        return
    raise AssertionError("the collection always got ahead")
