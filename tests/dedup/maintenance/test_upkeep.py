"""Copies of bases, and catalogues built anew."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from catalogue_rows import read_rows
from damage import entries_of, flip_frame
from models import make_weights, read_folder, tune, write_model
from vaults import open_local

from weightvault.dedup.errors import Missing, VaultError
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.maintenance.gc import Collected, Collector
from weightvault.dedup.maintenance.rebuild_catalogue import rebuild_catalogue
from weightvault.dedup.maintenance.repair import Repairer
from weightvault.dedup.transfer.pull import pull
from weightvault.dedup.transfer.push import push
from weightvault.dedup.verification.scrub import Scrubber
from weightvault.store.backends.open import open_backend
from weightvault.store.catalogue.catalogue import open_catalogue


def gc(vault: LocalVault, **options) -> Collected:
    return Collector(vault, grace_seconds=0, **options).run()


def push_family(vault: LocalVault, tmp_path: Path, members: int) -> None:
    push(vault, write_model(tmp_path / "base", make_weights(1)), "org/base")
    for i in range(members):
        tuned = write_model(tmp_path / f"t{i}", tune(make_weights(1), i))
        push(vault, tuned, f"org/t{i}", base="org/base")


# Copies


def test_bases_with_many_deltas_are_kept_twice(local: LocalVault, tmp_path: Path):
    push_family(local, tmp_path, 3)
    assert gc(local, copies_from=4).copied_bytes == 0
    said = Collector(local, grace_seconds=0, copies_from=3).predict()
    assert said.copied_bytes == gc(local, copies_from=3).copied_bytes > 0
    assert gc(local, copies_from=3).copied_bytes == 0
    digests = local.resolve("org/base").manifest.digests()
    used = {place.pack for place in local.catalogue.locate(list(digests)).values()}
    for name in used:
        path = tmp_path / "vault/objects/packs" / name[:2] / name
        for entry in entries_of(path):
            if entry.frame_bytes > 1000 and entry.base_digest is None:
                flip_frame(path, entry)
    assert Scrubber(local).run().problems != []
    assert Repairer(local).run().lost == []
    for i in range(3):
        pull(local, f"org/t{i}", tmp_path / f"out{i}")
        assert read_folder(tmp_path / f"out{i}") == read_folder(tmp_path / f"t{i}")


def test_copies_go_when_they_are_no_longer_wanted(local: LocalVault, tmp_path: Path):
    push_family(local, tmp_path, 3)
    gc(local)
    before = sum(info.size for info in local.backend.list("packs/"))
    gc(local, copies_from=3)
    assert sum(info.size for info in local.backend.list("packs/")) > before
    gc(local)
    assert sum(info.size for info in local.backend.list("packs/")) == before


# Catalogues built anew


def build_many(vault: LocalVault, tmp_path: Path, count: int) -> None:
    """Models of families of ten, some pushed twice, some deleted, the rest collected."""
    for i in range(count):
        weights = tune(make_weights(i // 10, {"w": (16, 32)}), i)
        push(vault, write_model(tmp_path / "m" / str(i), weights), f"org/m{i}")
    for i in range(0, count, 7):
        vault.delete_repo(f"org/m{i}")
    gc(vault)


def test_a_catalogue_built_anew_equals_the_old_one(local: LocalVault, tmp_path: Path):
    """With 1,000 models: benchmarks/proofs/rebuild.py."""
    count = 21
    build_many(local, tmp_path, count)
    # Reporting records the day.
    report = local.report()
    before = read_rows(local.catalogue)
    found = rebuild_catalogue(local.backend, local.catalogue)
    assert found.repos == count - len(range(0, count, 7))
    assert read_rows(local.catalogue) == before
    assert local.report() == report
    assert local.check().problems == ()


def test_nothing_is_built_from_nothing(local: LocalVault):
    with pytest.raises(Missing, match="no objects"):
        rebuild_catalogue(local.backend, local.catalogue)


def test_an_interrupted_rebuild_goes_on(local: LocalVault, tmp_path: Path, monkeypatch):
    build_many(local, tmp_path, 12)
    before = read_rows(local.catalogue)
    for table in ("journal", "journal_edges"):
        before.pop(table)
    add, calls = local.catalogue.add_commit, []

    def stop_at_third(*args, **options) -> None:
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        add(*args, **options)

    monkeypatch.setattr(local.catalogue, "add_commit", stop_at_third)
    with pytest.raises(KeyboardInterrupt):
        rebuild_catalogue(local.backend, local.catalogue)
    reopened = open_local(tmp_path / "vault")
    # Finishes the removals that the journal tells of.
    gc(reopened)
    after = read_rows(reopened.catalogue)
    assert {t: rows for t, rows in after.items() if not t.startswith("journal")} == before
    reopened.close()


def test_a_newer_store_is_refused(local: LocalVault, tmp_path: Path):
    push(local, write_model(tmp_path / "m", make_weights(1)), "org/m")
    marker = tmp_path / "vault/objects/weightvault.json"
    marker.write_text(marker.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(VaultError, match="format 2"):
        open_local(tmp_path / "vault")


def test_a_store_with_newer_features_is_refused(local: LocalVault, tmp_path: Path):
    push(local, write_model(tmp_path / "m", make_weights(1)), "org/m")
    marker = tmp_path / "vault/objects/weightvault.json"
    marker.write_text(marker.read_text().replace("[]", '["shiny packs", "x"]'))
    with pytest.raises(VaultError, match="does not know: shiny packs, x") as caught:
        open_local(tmp_path / "vault")
    assert caught.value.hint == "upgrade weightvault"


def test_a_marker_from_before_features_is_read(local: LocalVault, tmp_path: Path):
    push(local, write_model(tmp_path / "m", make_weights(1)), "org/m")
    marker = tmp_path / "vault/objects/weightvault.json"
    marker.write_text(marker.read_text().replace('"features": [], ', ""))
    reopened = open_local(tmp_path / "vault")
    assert Scrubber(reopened).run().problems == []
    reopened.close()


@pytest.mark.parametrize("place", ["folder", "s3"])
def test_machines_that_begin_a_store_at_once_agree_on_it(tmp_path: Path, place: str, request):
    """Each with a catalogue of its own: one identity counts, and no push is lost."""
    for turn in range(4):
        root = tmp_path / str(turn)
        url = str(root / "objects")
        if place == "s3":
            url = request.getfixturevalue("s3_server").url(
                request.getfixturevalue("s3_server").new_bucket()
            )
        vaults = [open_machine(url, root / str(i)) for i in range(3)]
        sources = [write_model(root / f"m{i}", make_weights(i)) for i in range(3)]
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(push, vaults, sources, [f"org/m{i}" for i in range(3)]))
        assert len({vault.catalogue.store_id() for vault in vaults}) == 1
        for vault in vaults:
            vault.close()
        again = open_machine(url, root / "0")
        assert [r.name for r in again.list_repos()] == ["org/m0", "org/m1", "org/m2"]
        assert Scrubber(again).run().problems == []
        again.close()


def open_machine(url: str, folder: Path) -> LocalVault:
    folder.mkdir(parents=True, exist_ok=True)
    catalogue = open_catalogue(f"sqlite:///{folder / 'c.sqlite'}")
    return LocalVault(open_backend(url), catalogue, scratch=folder)
