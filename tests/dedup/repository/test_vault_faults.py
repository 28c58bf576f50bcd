"""A vault whose store fails, is lost, damaged, or of another format."""

import shutil
from pathlib import Path

import pytest
from damage import flip, objects
from models import (
    make_weights,
    read_folder,
    tune,
    write_model,
)
from upkeep import assert_pulls, gc
from vaults import FailingWrites, open_anew, open_local

from weightvault.dedup.errors import Corrupt, StorageFull, Unreachable, VaultError
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.transfer.pull import pull
from weightvault.dedup.transfer.push import push
from weightvault.store.backends.open import open_backend
from weightvault.store.catalogue.catalogue import open_catalogue
from weightvault.store.errors import StorageFull as BackendFull
from weightvault.store.errors import Unavailable
from weightvault.store.object_keys import manifest_key, pack_key


@pytest.mark.parametrize("after", [False, True], ids=["not done", "done but unanswered"])
@pytest.mark.parametrize("at", range(5))
def test_failed_write_shows_nothing_and_a_retry_completes(
    tmp_path: Path, model: Path, at: int, after: bool
):
    """Writes of a first push: marker, sketches, pack, manifest, journal entry."""
    failing = open_local(
        tmp_path / "vault", lambda b: FailingWrites(b, at, BackendFull("no space"), after=after)
    )
    with pytest.raises(StorageFull):
        push(failing, model, "org/m")
    assert failing.list_repos() == []
    failing.close()
    # A journal entry that did become durable is a commit, seen by whoever opens the vault next.
    reopened = open_local(tmp_path / "vault")
    assert [r.name for r in reopened.list_repos()] == (
        ["org/m"] if (at, after) == (4, True) else []
    )
    push(reopened, model, "org/m")
    pull(reopened, "org/m", tmp_path / "out")
    assert read_folder(tmp_path / "out") == read_folder(model)
    assert reopened.check().problems == ()
    reopened.close()


def test_passing_errors_say_so(tmp_path: Path, model: Path):
    failing = open_local(
        tmp_path / "vault", lambda b: FailingWrites(b, 1, Unavailable("connection reset"))
    )
    with pytest.raises(Unreachable, match="connection reset"):
        push(failing, model, "org/m")
    failing.close()


def test_catalogue_is_rebuilt_from_the_objects(tmp_path: Path, model: Path):
    vault = open_local(tmp_path / "vault")
    push(vault, model, "org/m")
    push(vault, write_model(tmp_path / "t", tune(make_weights(1), 2)), "org/t", base="org/m")
    push(vault, model, "org/gone", "dev")
    vault.delete_repo("org/gone")
    report, repos = vault.report(), vault.list_repos()
    vault.close()
    rebuilt = open_anew(tmp_path / "vault")
    assert rebuilt.report() == report
    assert rebuilt.list_repos() == repos
    pull(rebuilt, "org/t", tmp_path / "out")
    assert read_folder(tmp_path / "out") == read_folder(tmp_path / "t")
    rebuilt.close()


@pytest.mark.parametrize("lost", ["pack", "manifest"])
def test_a_lost_object_and_a_lost_catalogue_leave_the_rest(tmp_path: Path, model: Path, lost: str):
    vault = open_local(tmp_path / "vault")
    push(vault, model, "org/whole")
    other = write_model(tmp_path / "other", make_weights(2))
    snapshot = push(vault, other, "org/lost").commit
    places = vault.catalogue.locate(list(vault.resolve("org/lost").manifest.digests()))
    largest = max(places.values(), key=lambda place: place.raw_bytes)
    vault.backend.delete(
        pack_key(largest.pack) if lost == "pack" else manifest_key(snapshot.manifest)
    )
    vault = lose_catalogue(vault, tmp_path)
    assert [repo.name for repo in vault.list_repos()] == ["org/lost", "org/whole"]
    pull(vault, "org/whole", tmp_path / "out")
    assert read_folder(tmp_path / "out") == read_folder(model)
    assert all("org/lost" in problem for problem in vault.check().problems)
    with pytest.raises(VaultError):
        pull(vault, "org/lost", tmp_path / "none")

    push(vault, other, "org/lost")
    gc(vault)
    assert_pulls(vault, "org/lost", other, tmp_path / "again")
    vault = lose_catalogue(vault, tmp_path)
    gc(vault)
    assert_pulls(vault, "org/lost", other, tmp_path / "once more")
    vault.close()


def lose_catalogue(vault: LocalVault, root: Path) -> LocalVault:
    """Opens the vault anew without what it knew."""
    vault.close()
    return open_anew(root / "vault")


def test_second_catalogue_follows_the_first(tmp_path: Path, model: Path):
    """Two machines with catalogues of their own share one object store."""
    one = open_local(tmp_path / "vault")
    push(one, model, "org/m")
    other_url = f"sqlite:///{tmp_path / 'other.sqlite'}"
    objects = str(tmp_path / "vault" / "objects")
    two = LocalVault(open_backend(objects), open_catalogue(other_url), scratch=tmp_path)
    push(two, write_model(tmp_path / "t", tune(make_weights(1), 2)), "org/t", base="org/m")
    one.close()
    one = open_local(tmp_path / "vault")
    assert [r.name for r in one.list_repos()] == ["org/m", "org/t"]
    one.delete_repo("org/m")
    two.close()
    two = LocalVault(open_backend(objects), open_catalogue(other_url), scratch=tmp_path)
    assert [r.name for r in two.list_repos()] == ["org/t"]
    pull(two, "org/t", tmp_path / "out")
    one.close()
    two.close()


def test_catalogue_of_a_lost_store_is_not_believed(tmp_path: Path, model: Path):
    """Its chunks are gone: a push that skipped them would commit what nobody can pull."""
    vault = open_local(tmp_path / "vault")
    push(vault, model, "org/m")
    vault.close()
    shutil.move(tmp_path / "vault" / "objects", tmp_path / "moved")
    with pytest.raises(VaultError, match="is gone") as caught:
        open_local(tmp_path / "vault")
    assert "delete the catalogue" in (caught.value.hint or "")
    other = open_local(tmp_path / "other")
    push(other, model, "org/m")
    other.close()
    shutil.copytree(tmp_path / "other" / "objects", tmp_path / "vault" / "objects")
    with pytest.raises(VaultError, match="another store"):
        open_local(tmp_path / "vault")
    shutil.rmtree(tmp_path / "vault" / "objects")
    shutil.move(tmp_path / "moved", tmp_path / "vault" / "objects")
    back = open_local(tmp_path / "vault")
    pull(back, "org/m", tmp_path / "out")
    back.close()


@pytest.mark.parametrize(
    ("marker", "reason"), [(b'{"format": 2, "id": "x"}', "format 2"), (b"{", "damaged")]
)
def test_store_of_another_format_is_refused(tmp_path: Path, marker: bytes, reason: str):
    (tmp_path / "vault" / "objects").mkdir(parents=True)
    (tmp_path / "vault" / "objects" / "weightvault.json").write_bytes(marker)
    with pytest.raises(VaultError, match=reason):
        open_local(tmp_path / "vault")


def test_damaged_pack_never_reads_as_data(tmp_path: Path, model: Path):
    vault = open_local(tmp_path / "vault")
    push(vault, model, "org/m")
    (pack,) = objects(tmp_path, "packs")
    whole = pack.read_bytes()
    for position in range(8, len(whole) - 600, 997):
        pack.write_bytes(whole)
        flip(pack, position)
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        with pytest.raises(VaultError):
            pull(vault, "org/m", tmp_path / "out")
        assert set(read_folder(tmp_path / "out").items()) < set(read_folder(model).items())
    vault.close()


def test_check_names_what_is_gone(tmp_path: Path, model: Path):
    vault = open_local(tmp_path / "vault")
    push(vault, model, "org/m")
    push(vault, write_model(tmp_path / "t", tune(make_weights(1), 2)), "org/t", base="org/m")
    first = vault.resolve("org/m").commit
    base_pack = next(
        iter(vault.catalogue.locate(vault.resolve("org/m").manifest.digests()).values())
    )
    (path,) = [p for p in objects(tmp_path, "packs") if p.name == base_pack.pack]
    path.unlink()
    (problem,) = vault.check().problems
    assert base_pack.pack in problem
    assert "org/m, org/t" in problem
    (manifest,) = [p for p in objects(tmp_path, "manifests") if p.name == first.manifest]
    flip(manifest, 50)
    problems = vault.check().problems
    assert any("manifest is damaged" in p and "org/m" in p for p in problems)
    vault.close()
    vault = open_local(tmp_path / "vault")
    with pytest.raises(Corrupt):
        vault.resolve("org/m")
    vault.close()


def test_check_finds_a_damaged_index(tmp_path: Path, model: Path):
    vault = open_local(tmp_path / "vault")
    push(vault, model, "org/m")
    (pack,) = objects(tmp_path, "packs")
    flip(pack, pack.stat().st_size - 40)
    (problem,) = vault.check().problems
    assert "damaged" in problem
    vault.close()
