"""What damage leaves is mended from copies, and the rest of it is named."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from catalogue_rows import read_rows
from damage import (
    base_pack,
    entries_of,
    flip,
    flip_frame,
    flip_longest,
    named,
    objects,
    repair,
    scrub,
)
from models import read_folder
from vaults import open_anew, open_local

from weightvault.dedup.errors import VaultError
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.maintenance.gc import Collector
from weightvault.dedup.maintenance.rebuild_catalogue import rebuild_catalogue
from weightvault.dedup.maintenance.undelete_repo import undelete
from weightvault.dedup.model.journal_entries import RefChange, TokenChange, Visibility
from weightvault.dedup.transfer.pull import pull
from weightvault.dedup.transfer.push import push
from weightvault.store.catalogue.access.rules import RetentionRules
from weightvault.store.catalogue.damage import list_findings
from weightvault.store.catalogue.tokens import TokenRow


@pytest.fixture
def local(damageable: LocalVault) -> LocalVault:
    return damageable


def add_copies(vault: LocalVault, tmp_path: Path, repo: str) -> None:
    """Stores a second pack with the frames of a repo, in another order."""
    from weightvault.dedup.repository.pack_writing import add_frame
    from weightvault.store.packs import PackWriter

    digests = list(vault.resolve(repo).manifest.digests())[::-1]
    with PackWriter(tmp_path / "copy.pack") as writer:
        for frame in vault.read_frames(repo, "main", digests):
            add_frame(writer, frame)
        vault.add_pack(tmp_path / "copy.pack", writer.finish())


def assert_all_pull(vault: LocalVault, tmp_path: Path, tag: str) -> None:
    for repo in ("org/base", "org/other", "org/tuned"):
        pull(vault, repo, tmp_path / tag / repo)
        assert read_folder(tmp_path / tag / repo) == read_folder(tmp_path / repo)
    assert vault.check().problems == ()


def test_a_base_is_restored_from_its_copy(local: LocalVault, tmp_path: Path):
    add_copies(local, tmp_path, "org/base")
    path = base_pack(local, tmp_path)
    for entry in entries_of(path):
        flip_frame(path, entry)
    assert named(scrub(local)) >= {
        "org/base@main:model.safetensors",
        "org/tuned@main:model.safetensors",
    }
    before = path.read_bytes()
    said = repair(local, dry_run=True)
    assert (said.lost, path.read_bytes()) == ([], before)
    assert scrub(local) != []
    assert repair(local).lost == []
    assert_all_pull(local, tmp_path, "mended")
    Collector(local, grace_seconds=0).run()
    assert not path.exists()
    assert scrub(local) == []


def test_without_a_copy_the_rest_is_saved_and_a_push_brings_it_back(
    local: LocalVault, tmp_path: Path
):
    path = base_pack(local, tmp_path)
    worst = flip_longest(path)
    scrub(local)
    lost = repair(local).lost
    assert len(lost) == 1
    assert named(lost) == {"org/base@main:model.safetensors", "org/tuned@main:model.safetensors"}
    assert worst.digest in local.find_missing([worst.digest])
    again = push(local, tmp_path / "org/base", "org/again")
    assert again.new_chunks == 1
    assert_all_pull(local, tmp_path, "back")
    Collector(local, grace_seconds=0).run()
    assert not path.exists()
    assert scrub(local) == []
    assert_all_pull(local, tmp_path, "collected")


def test_a_delta_on_a_damaged_base_can_be_pushed_again(local: LocalVault, tmp_path: Path):
    flip_longest(base_pack(local, tmp_path))
    scrub(local)
    assert push(local, tmp_path / "org/tuned", "org/tuned2").new_chunks == 1
    pull(local, "org/tuned", tmp_path / "out")
    assert read_folder(tmp_path / "out") == read_folder(tmp_path / "org/tuned")


@pytest.mark.parametrize("at", [0, -1, -40])
def test_a_pack_with_a_damaged_head_or_index_is_rewritten(
    local: LocalVault, tmp_path: Path, at: int
):
    path = base_pack(local, tmp_path)
    whole = path.read_bytes()
    flip(path, at)
    assert len(scrub(local)) == 1
    assert repair(local).lost == []
    # All its frames are live and whole, so the pack that they moved to is the same one.
    assert path.read_bytes() == whole
    assert list_findings(local.catalogue) == []
    assert scrub(local) == []
    assert_all_pull(local, tmp_path, "mended")


@pytest.mark.parametrize("kind", ["journal", "sketches"])
def test_small_objects_are_made_anew(local: LocalVault, tmp_path: Path, kind: str):
    report = local.report()
    for path in objects(tmp_path, kind):
        flip(path, 50)
        assert repair(local).lost == []
        assert scrub(local) == []
    rebuilt = open_anew(tmp_path / "vault")
    assert rebuilt.report().by_repo == report.by_repo
    assert [r.name for r in rebuilt.list_repos()] == ["org/base", "org/other", "org/tuned"]
    assert_all_pull(rebuilt, tmp_path, "rebuilt")
    rebuilt.close()


def test_every_entry_of_the_journal_can_be_lost(local: LocalVault, tmp_path: Path):
    """Commits, deletions, what was brought back after one, what was forgotten, branches and tags
    made, moved and taken away, visibility, tokens: what the rest of the journal leads to after the
    repair is what the catalogue has."""
    push(local, tmp_path / "org/other", "org/back")
    local.delete_repo("org/back")
    undelete(local, "org/back")
    first = local.resolve("org/base").commit.id
    second = push(local, tmp_path / "org/other", "org/base").commit.id
    token = TokenRow("t1", "ci", bytes(32), (("org", "write"),), 1.0)
    for entry in (
        TokenChange(token, 1.0),
        TokenChange(replace(token, revoked=2.0), 2.0),
        RefChange("org/base", "branch", "dev", first, 0.0),
        RefChange("org/base", "branch", "gone", first, 0.0),
        RefChange("org/base", "branch", "gone", None, 0.0),
        RefChange("org/base", "tag", "v1", first, 0.0, "first"),
        RefChange("org/base", "tag", "v2", second, 0.0),
        RefChange("org/base", "branch", "main", first, 0.0),
        Visibility("org/base", True, 0.0),
    ):
        local.record(entry)
    push(local, tmp_path / "org/tuned", "org/other")
    local.forget("org/other", RetentionRules(last=1))
    rows = read_rows(local.catalogue)
    for path in objects(tmp_path, "journal"):
        kept = shutil.copytree(tmp_path / "vault", tmp_path / f"copy-{path.name}")
        flip(kept / "objects/journal" / path.name, 50)
        vault = open_local(kept)
        assert repair(vault).lost == [], path.name
        assert scrub(vault) == [], path.name
        rebuild_catalogue(vault.backend, vault.catalogue)
        after = read_rows(vault.catalogue)
        # Some of it was said again; hashes of files that no commit has may be lost.
        for table in rows.keys() - {"journal", "journal_edges", "hashes"}:
            assert after[table] == rows[table], (path.name, path.read_bytes(), table)
        vault.close()


def test_a_damaged_manifest_comes_back_with_the_next_push(local: LocalVault, tmp_path: Path):
    name = local.resolve("org/other").commit.manifest
    path = tmp_path / "vault/objects/manifests" / name[:2] / name
    whole = path.read_bytes()
    flip(path, 40)
    (lost,) = repair(local).lost
    assert "pushing the same files again" in lost
    local._load_manifest.cache_clear()
    push(local, tmp_path / "org/other", "org/other")
    assert path.read_bytes() == whole
    assert_all_pull(local, tmp_path, "back")


def test_too_much_damage_is_not_believed(local: LocalVault, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("weightvault.dedup.maintenance.repair._PLAUSIBLE_PACKS", 1)
    for path in objects(tmp_path, "packs"):
        flip(path, 100)
    scrub(local)
    with pytest.raises(VaultError, match="too many to be true"):
        repair(local)
