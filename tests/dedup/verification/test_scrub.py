"""Damage of every kind is found, and named exactly."""

import random
from pathlib import Path

import pytest
from damage import base_pack, entries_of, flip, named, objects, repair, scrub, unreadable
from vaults import Wrapper

from weightvault.dedup.errors import Unreachable
from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.verification.scrub import Scrubber
from weightvault.store.catalogue.damage import list_findings
from weightvault.store.errors import Unavailable


@pytest.fixture
def local(damageable: LocalVault) -> LocalVault:
    return damageable


def test_a_sound_store_is_clean(local: LocalVault, tmp_path: Path):
    found = Scrubber(local).run()
    assert (found.problems, found.packs, found.resumed) == ([], 4, False)
    assert found.bytes == sum(info.size for info in local.backend.list("packs/"))
    assert found.frames == sum(len(entries_of(path)) for path in objects(tmp_path, "packs"))


def pack_regions(path: Path) -> set[int]:
    """Places in header, every frame, index and trailer of a pack."""
    size = path.stat().st_size
    entries = entries_of(path)
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
        for at in sorted(pack_regions(path)):
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


def test_what_a_lost_pack_takes_along_is_said_once(local: LocalVault, tmp_path: Path):
    path = max(objects(tmp_path, "packs"), key=lambda path: path.stat().st_size)
    count = len(entries_of(path))
    path.unlink()
    meanings = [p.partition("; ")[2] for p in scrub(local)]
    assert len(set(meanings)) == len(meanings) < count
    lost = repair(local).lost
    assert len(lost) < count
    assert named(lost) == unreadable(local)


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
    monkeypatch.setattr("weightvault.dedup.verification.scrub.time.sleep", slept.append)
    total = Scrubber(local, rate=1000).run().bytes
    assert max(slept) == pytest.approx(total / 1000, rel=0.05)
