"""The cache in front of a far store: right bytes whatever happens, fewer requests, a bound."""

import random
from pathlib import Path

import pytest
from vaults import CountingReads

from weightvault.store.backends import cache
from weightvault.store.backends.cache import CachedBackend
from weightvault.store.backends.memory import MemoryBackend
from weightvault.store.errors import CorruptObject, NotFound

BLOCK = 1000
PACK = "packs/ab/" + "ab" * 32
OTHER = "packs/cd/" + "cd" * 32
DATA = random.Random(1).randbytes(10 * BLOCK + 77)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "BLOCK_BYTES", BLOCK)


@pytest.fixture
def far() -> CountingReads:
    backend = CountingReads(MemoryBackend())
    backend.put(PACK, DATA)
    backend.put(OTHER, DATA[::-1])
    return backend


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def test_any_range_is_right_and_read_once(far: CountingReads, tmp_path: Path):
    cached = CachedBackend(far, tmp_path, 1 << 20)
    rng = random.Random(2)
    for _ in range(200):
        start, stop = sorted(rng.choices(range(len(DATA) + 1), k=2))
        assert cached.get(PACK, start, stop) == DATA[start:stop]
    assert cached.get(PACK) == DATA
    assert far.bytes <= len(DATA)


def test_a_second_process_finds_what_the_first_read(far: CountingReads, tmp_path: Path):
    CachedBackend(far, tmp_path, 1 << 20).get(PACK)
    before = far.requests
    assert CachedBackend(far, tmp_path, 1 << 20).get(PACK, 5, 5000) == DATA[5:5000]
    assert far.requests == before


def test_the_bound_is_kept_and_what_is_read_often_stays(far: CountingReads, tmp_path: Path):
    limit = 5 * (BLOCK + 8)
    cached = CachedBackend(far, tmp_path, limit)
    for _ in range(4):
        cached.get(PACK, 0, BLOCK)
    for start in range(0, 10 * BLOCK, BLOCK):
        cached.get(OTHER, start, start + BLOCK)
        cached.get(PACK, 0, BLOCK)
        assert folder_bytes(tmp_path) <= limit
    before = far.requests
    cached.get(PACK, 0, BLOCK)
    assert far.requests == before


def test_what_another_process_removes_meanwhile_hides_nothing_else(
    far: CountingReads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """It is there when the folder is listed and gone when it is looked at."""
    limit = 5 * (BLOCK + 8)
    CachedBackend(far, tmp_path, limit).get(PACK, 0, 5 * BLOCK)
    listed = list(tmp_path.iterdir())
    listed[2].unlink()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "iterdir", lambda _: iter(listed))
        cached = CachedBackend(far, tmp_path, limit)
    cached.get(OTHER, 0, 4 * BLOCK)
    assert folder_bytes(tmp_path) <= limit


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "gone"])
def test_damage_in_the_folder_is_never_handed_out(far: CountingReads, tmp_path: Path, damage: str):
    cached = CachedBackend(far, tmp_path, 1 << 20)
    cached.get(PACK)
    for path in tmp_path.iterdir():
        data = path.read_bytes()
        changed = {"flip": bytes([data[0] ^ 1]) + data[1:], "cut": data[:-20], "empty": b""}
        if damage == "gone":
            path.unlink()
        else:
            path.write_bytes(changed[damage])
    assert cached.get(PACK) == DATA
    assert CachedBackend(far, tmp_path, 1 << 20).get(PACK) == DATA


def test_errors_are_those_of_the_store(far: CountingReads, tmp_path: Path):
    cached = CachedBackend(far, tmp_path, 1 << 20)
    with pytest.raises(NotFound):
        cached.get("packs/ef/" + "ef" * 32, 0, 10)
    with pytest.raises(CorruptObject):
        cached.get(PACK, 0, len(DATA) + 1)
    cached.get(PACK)
    cached.delete(PACK)
    with pytest.raises(NotFound):
        cached.get(PACK, 0, 10)


def test_a_folder_that_cannot_be_made_is_no_error(far: CountingReads, tmp_path: Path):
    (tmp_path / "file").touch()
    cached = CachedBackend(far, tmp_path / "file" / "below", 1 << 20)
    assert cached.get(PACK, 3, 4000) == DATA[3:4000]


def test_what_checks_the_store_reads_the_store(far: CountingReads, tmp_path: Path):
    assert CachedBackend(far, tmp_path, 1 << 20).uncached() is far
    assert far.uncached() is far
