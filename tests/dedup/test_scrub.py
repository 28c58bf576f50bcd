"""Damage of every kind is found, named exactly, and mended where a second copy allows it."""

import random
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from catalogue_rows import read_rows
from models import make_weights, read_folder, tune, write_model
from vaults import Wrapper, open_local

from weightvault.dedup.collect import Collector
from weightvault.dedup.entries import RefChange, TokenChange, Visibility
from weightvault.dedup.errors import Corrupt, Unreachable, VaultError
from weightvault.dedup.local import LocalVault
from weightvault.dedup.pull import pull
from weightvault.dedup.push import push
from weightvault.dedup.renew import rebuild_catalogue
from weightvault.dedup.repair import Repaired, Repairer
from weightvault.dedup.scrub import Scrubber
from weightvault.store.errors import Unavailable
from weightvault.store.pack import read_index
from weightvault.store.scrubbing import list_findings
from weightvault.store.tokens import TokenRow

REPOS = {"org/base": 1, "org/other": 9}


@pytest.fixture
def local(tmp_path: Path) -> Iterator[LocalVault]:
    """A base, a model coded against it, another model, and traces of a deleted one."""
    vault = open_local(tmp_path / "vault")
    for repo, seed in REPOS.items():
        push(vault, write_model(tmp_path / repo, make_weights(seed)), repo)
    tuned = write_model(tmp_path / "org/tuned", tune(make_weights(1), 2), "# Tuned\n")
    push(vault, tuned, "org/tuned", base="org/base")
    push(vault, write_model(tmp_path / "org/gone", make_weights(4)), "org/gone")
    vault.delete_repo("org/gone")
    yield vault
    vault.close()


def scrub(vault: LocalVault, **options) -> list[str]:
    return Scrubber(vault, **options).run().problems


def repair(vault: LocalVault, **options) -> Repaired:
    return Repairer(vault, **options).run()


def objects(tmp_path: Path, kind: str) -> list[Path]:
    return sorted(p for p in (tmp_path / "vault/objects" / kind).rglob("*") if p.is_file())


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.write_bytes(data)


def unreadable(vault: LocalVault) -> set[str]:
    """The files that really cannot be read any more."""
    found = set()
    for repo in vault.list_repos():
        try:
            files = vault.resolve(repo.name).manifest.files
        except Corrupt:
            found.add(f"{repo.name}@main")
            continue
        for entry in files:
            try:
                for _ in vault.read_file(repo.name, "main", entry.path)[2]:
                    pass
            except Corrupt:
                found.add(f"{repo.name}@main:{entry.path}")
    return found


def named(problems: list[str]) -> set[str]:
    """The files that the sentences name."""
    words = {word.strip(",;") for problem in problems for word in problem.split()}
    return {word for word in words if word.startswith("org/") and ":" in word}


def test_a_sound_store_is_clean(local: LocalVault):
    found = Scrubber(local).run()
    assert (found.problems, found.packs, found.resumed) == ([], 4, False)
    assert found.bytes == sum(info.size for info in local.backend.list("packs/"))
    assert found.frames == sum(1 for _ in frames(local))


def frames(vault: LocalVault):
    for info in vault.backend.list("packs/"):
        yield from entries_of(vault, info.key, info.size)


def entries_of(vault: LocalVault, key: str, size: int):
    return read_index(lambda start, stop: vault.backend.get(key, start, stop), size)


def pack_regions(vault: LocalVault, path: Path) -> set[int]:
    """Places in header, every frame, index and trailer of a pack."""
    size = path.stat().st_size
    entries = entries_of(vault, f"packs/{path.parent.name}/{path.name}", size)
    end = entries[-1].offset + entries[-1].frame_bytes
    places = {0, 7, end, (end + size - 32) // 2, size - 33, *range(size - 32, size, 5)}
    for e in entries:
        places |= {e.offset, e.offset + 20, e.offset + e.frame_bytes // 2}
        places.add(e.offset + e.frame_bytes - 1)
    return places


def test_a_flipped_byte_anywhere_in_a_pack_is_found_and_named(local: LocalVault, tmp_path: Path):
    tried = 0
    for path in objects(tmp_path, "packs"):
        whole = path.read_bytes()
        for at in sorted(pack_regions(local, path)):
            flip(path, at)
            problems = scrub(local)
            assert problems, (path.name, at)
            assert named(problems) == unreadable(local), (path.name, at)
            path.write_bytes(whole)
            tried += 1
    assert scrub(local) == []
    assert tried > 60


@pytest.mark.parametrize("kind", ["manifests", "journal", "sketches"])
def test_a_flipped_byte_in_a_small_object_is_found(local: LocalVault, tmp_path: Path, kind: str):
    rng = random.Random(1)
    for path in objects(tmp_path, kind):
        whole = path.read_bytes()
        size = len(whole)
        for at in {*range(min(size, 24)), size - 1, *rng.sample(range(size), 8)}:
            flip(path, at)
            (problem,) = local_small(local)
            assert path.name in problem, at
            path.write_bytes(whole)
    assert scrub(local) == []


def local_small(vault: LocalVault) -> list[str]:
    return list(Scrubber(vault)._scrub_small())


def test_a_damaged_manifest_names_its_revision(local: LocalVault, tmp_path: Path):
    commit = local.resolve("org/other").commit
    flip(tmp_path / "vault/objects/manifests" / commit.manifest[:2] / commit.manifest, 30)
    (problem,) = scrub(local)
    assert f"org/other@main ({commit.id[:12]})" in problem


def test_a_damaged_marker_is_found_and_mended(local: LocalVault, tmp_path: Path):
    path = tmp_path / "vault/objects/weightvault.json"
    whole = path.read_bytes()
    for at in range(len(whole)):
        flip(path, at)
        (problem,) = local_small(local)
        assert "weightvault.json" in problem
        path.write_bytes(whole)
    flip(path, 3)
    assert repair(local).lost == []
    assert path.read_bytes() == whole


@pytest.mark.parametrize("damage", ["gone", "short", "empty"])
def test_packs_that_lost_bytes_are_found(local: LocalVault, tmp_path: Path, damage: str):
    for path in objects(tmp_path, "packs"):
        whole = path.read_bytes()
        if damage == "gone":
            path.unlink()
        else:
            path.write_bytes(whole[: len(whole) // 2] if damage == "short" else b"")
        problems = scrub(local)
        assert problems
        assert named(problems) == unreadable(local)
        path.write_bytes(whole)
    assert scrub(local) == []


def test_check_tells_what_a_scrub_found(local: LocalVault, tmp_path: Path):
    flip(base_pack(local, tmp_path), 200)
    assert local.check().problems == ()
    problems = scrub(local)
    about_frames = {problem for problem in problems if named([problem])}
    assert about_frames
    assert about_frames == set(local.check().problems)


def test_an_unreachable_store_is_no_damage(tmp_path: Path, local: LocalVault):
    class Down(Wrapper):
        def get(self, key: str, start: int = 0, stop: int | None = None) -> bytes:
            raise Unavailable("down for maintenance")

    local.backend = Down(local.backend)
    with pytest.raises(Unreachable):
        scrub(local)
    assert list_findings(local.catalogue) == []


# Going on, samples, rates


def test_a_stopped_scrub_goes_on(local: LocalVault, monkeypatch: pytest.MonkeyPatch):
    scrubber = Scrubber(local)
    real, seen = scrubber.scrub_pack, []

    def stop_at_third(pack) -> None:
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(pack.name)
        real(pack)

    monkeypatch.setattr(scrubber, "scrub_pack", stop_at_third)
    with pytest.raises(KeyboardInterrupt):
        scrubber.run()
    second = Scrubber(local).run()
    assert (second.packs, second.skipped, second.resumed) == (2, 2, True)
    third = Scrubber(local).run()
    assert (third.packs, third.skipped, third.resumed) == (4, 0, False)


def test_packs_with_bases_come_first(local: LocalVault, tmp_path: Path):
    order = [pack.name for pack in Scrubber(local)._choose()]
    assert order[0] == base_pack(local, tmp_path).name


def test_samples_get_round_to_everything(local: LocalVault):
    seen = 0
    for _ in range(8):
        part = Scrubber(local, sample=0.2).run()
        assert part.packs <= 2
        seen += part.packs
    assert seen >= 4
    assert Scrubber(local, sample=0.01).run().packs == 1


def test_the_rate_is_kept(local: LocalVault, monkeypatch: pytest.MonkeyPatch):
    slept: list[float] = []
    monkeypatch.setattr("weightvault.dedup.scrub.time.sleep", slept.append)
    total = Scrubber(local, rate=1000).run().bytes
    assert max(slept) == pytest.approx(total / 1000, rel=0.05)


# Repair


def base_pack(vault: LocalVault, tmp_path: Path) -> Path:
    digests = list(vault.resolve("org/base").manifest.digests())
    weights = [p for p in vault.catalogue.locate(digests).values() if p.raw_bytes > 1000]
    return tmp_path / "vault/objects/packs" / weights[0].pack[:2] / weights[0].pack


def add_copies(vault: LocalVault, tmp_path: Path, repo: str) -> None:
    """Stores a second pack with the frames of a repo, in another order."""
    from weightvault.dedup.packing import add_frame
    from weightvault.store.pack import PackWriter

    digests = list(reversed(vault.resolve(repo).manifest.digests()))
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
    for entry in entries_of(local, f"packs/{path.parent.name}/{path.name}", path.stat().st_size):
        flip(path, entry.offset + entry.frame_bytes // 2)
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
    entries = entries_of(local, f"packs/{path.parent.name}/{path.name}", path.stat().st_size)
    worst = max(entries, key=lambda e: e.frame_bytes)
    flip(path, worst.offset + worst.frame_bytes // 2)
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
    path = base_pack(local, tmp_path)
    entries = entries_of(local, f"packs/{path.parent.name}/{path.name}", path.stat().st_size)
    worst = max(entries, key=lambda e: e.frame_bytes)
    flip(path, worst.offset + worst.frame_bytes // 2)
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
    for file in (tmp_path / "vault").glob("catalogue.sqlite*"):
        file.unlink()
    rebuilt = open_local(tmp_path / "vault")
    assert rebuilt.report().by_repo == report.by_repo
    assert [r.name for r in rebuilt.list_repos()] == ["org/base", "org/other", "org/tuned"]
    assert_all_pull(rebuilt, tmp_path, "rebuilt")
    rebuilt.close()


def test_every_entry_of_the_journal_can_be_lost(local: LocalVault, tmp_path: Path):
    """Commits, deletions, branches and tags made, moved and taken away, visibility, tokens: what
    the rest of the journal leads to after the repair is what the catalogue has."""
    first = local.resolve("org/base").commit.id
    second = push(local, tmp_path / "org/other", "org/base").commit.id
    token = TokenRow("t1", "ci", bytes(32), "write", "org", 1.0)
    for number, entry in enumerate(
        [
            TokenChange(token, 1.0),
            TokenChange(replace(token, revoked=2.0), 2.0),
            RefChange("org/base", "branch", "dev", first, 0.0),
            RefChange("org/base", "branch", "gone", first, 0.0),
            RefChange("org/base", "branch", "gone", None, 0.0),
            RefChange("org/base", "tag", "v1", first, 0.0, "first"),
            RefChange("org/base", "tag", "v2", second, 0.0),
            RefChange("org/base", "branch", "main", first, 0.0),
            Visibility("org/base", True, 0.0),
        ]
    ):
        local.record(replace(entry, created=time.time() + number / 1000))
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
        for table in rows.keys() - {"journal", "hashes"}:
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
    monkeypatch.setattr("weightvault.dedup.repair._PLAUSIBLE_PACKS", 1)
    for path in objects(tmp_path, "packs"):
        flip(path, 100)
    scrub(local)
    with pytest.raises(VaultError, match="too many to be true"):
        repair(local)
