"""The cache of chunks on a client: bounded, private, shared by processes, and never needed."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import stat
import time
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from weightvault.dedup.reading.held import chunk_cache
from weightvault.dedup.reading.held.chunk_cache import ChunkCache, Kept

LIMIT = 10_000
KEY = b"k" * 24


def digest_of(number: int) -> bytes:
    return blake3(b"%d" % number).digest()


def frame_of(number: int, size: int = 1000) -> bytes:
    return bytes([number % 256]) * size


def put(cache: ChunkCache, *numbers: int, size: int = 1000) -> None:
    cache.put([Kept(digest_of(n), frame_of(n, size), (KEY, b"%d" % n)) for n in numbers])


def stored(folder: Path) -> int:
    """Bytes of all frames in a folder."""
    return sum(p.stat().st_size for p in folder.rglob("*") if len(p.name) == 64)


def test_frames_come_back(tmp_path: Path) -> None:
    cache = ChunkCache(tmp_path / "chunks", LIMIT)
    assert cache.holds([digest_of(1)]) == set()
    put(cache, 1, 2)
    assert cache.holds([digest_of(n) for n in (1, 2, 3)]) == {digest_of(1), digest_of(2)}
    assert ChunkCache(tmp_path / "chunks", LIMIT).get(digest_of(1)) == frame_of(1)
    assert cache.get(digest_of(3)) is None


def test_the_limit_holds_and_what_is_used_stays(tmp_path: Path) -> None:
    cache = ChunkCache(tmp_path, LIMIT)
    for number in range(30):
        put(cache, number)
        assert stored(tmp_path) <= LIMIT
        assert cache.holds([digest_of(0)])
    assert cache.get(digest_of(0)) == frame_of(0)
    assert not cache.holds([digest_of(1)])
    put(cache, 99, size=LIMIT)
    assert not cache.holds([digest_of(99)])


def test_what_is_alike_is_found_newest_first(tmp_path: Path) -> None:
    cache = ChunkCache(tmp_path, 1 << 20)
    for number in range(12):
        put(cache, number)
    found = cache.find_alike([KEY, b"none"])
    assert found == {KEY: [digest_of(n) for n in range(11, 3, -1)]}
    cache.drop(digest_of(11))
    assert digest_of(11) not in cache.find_alike([KEY])[KEY]


def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    put(ChunkCache(tmp_path / "chunks", LIMIT), 1)
    for path in [tmp_path / "chunks", *(tmp_path / "chunks").rglob("*")]:
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path


@pytest.mark.parametrize("damage", [b"", b"x", b"not a database" * 100])
def test_a_damaged_index_is_made_anew(tmp_path: Path, damage: bytes) -> None:
    cache = ChunkCache(tmp_path, LIMIT)
    put(cache, 1)
    (tmp_path / "index.sqlite").write_bytes(damage)
    cache.holds([digest_of(1)])
    put(cache, 2)
    assert cache.holds([digest_of(2)]) == {digest_of(2)}


def test_other_bytes_than_were_kept_are_none(tmp_path: Path) -> None:
    cache = ChunkCache(tmp_path, LIMIT)
    put(cache, 1)
    (path,) = (p for p in tmp_path.rglob("*") if len(p.name) == 64)
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    assert cache.get(digest_of(1)) is None
    assert not cache.holds([digest_of(1)])
    assert not path.exists()


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cache = ChunkCache(tmp_path / "file" / "chunks", LIMIT)
    put(cache, 1)
    assert cache.get(digest_of(1)) is None
    assert cache.holds([digest_of(1)]) == set()
    assert cache.find_alike([KEY]) == {}


def test_a_busy_index_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunk_cache, "_BUSY_SECONDS", 0.01)
    cache = ChunkCache(tmp_path, LIMIT)
    put(cache, 1)
    with sqlite3.connect(tmp_path / "index.sqlite", isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        put(cache, 2)
        assert cache.holds([digest_of(1)]) == set()
        other.execute("ROLLBACK")
    assert cache.holds([digest_of(1)])


def test_a_full_disk_is_left_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunk_cache, "_FREE_SHARE", 2.0)
    cache = ChunkCache(tmp_path, LIMIT)
    put(cache, 1)
    assert stored(tmp_path) == 0


def test_what_killed_processes_left_goes(tmp_path: Path) -> None:
    cache = ChunkCache(tmp_path, LIMIT)
    put(cache, 1)
    (path,) = (p for p in tmp_path.rglob("*") if len(p.name) == 64)
    orphan, temporary = path.with_name("ab" * 32), path.with_name(".1234")
    old = time.time() - 7200
    for each in (orphan, temporary):
        each.write_bytes(b"x")
        os.utime(each, (old, old))
    put(cache, *range(2, 30))
    assert not orphan.exists()
    assert not temporary.exists()


def _work(folder: Path, seed: int) -> None:
    cache = ChunkCache(folder, LIMIT)
    for number in range(seed, seed + 40):
        put(cache, number % 25)
        frame = cache.get(digest_of(number * 7 % 25))
        assert frame in (None, frame_of(number * 7 % 25))


def test_processes_share_a_folder(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_work, args=(tmp_path, seed)) for seed in (0, 9, 17)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert stored(tmp_path) <= LIMIT + 3 * 1016
    (total,) = sqlite3.connect(tmp_path / "index.sqlite").execute("SELECT bytes FROM total")
    (rows,) = sqlite3.connect(tmp_path / "index.sqlite").execute("SELECT sum(bytes) FROM chunks")
    assert total == rows
    assert total[0] <= LIMIT


@settings(deadline=None, max_examples=25)
@given(
    acts=st.lists(
        st.tuples(st.sampled_from(["put", "get", "drop"]), st.integers(0, 9), st.integers(1, 4000)),
        max_size=30,
    )
)
def test_it_never_gives_anything_else(
    tmp_path_factory: pytest.TempPathFactory, acts: list[tuple[str, int, int]]
) -> None:
    cache = ChunkCache(tmp_path_factory.mktemp("chunks"), LIMIT)
    sizes: dict[int, set[int]] = {}
    for act, number, size in acts:
        if act == "put":
            put(cache, number, size=size)
            sizes.setdefault(number, set()).add(size)
        elif act == "drop":
            cache.drop(digest_of(number))
        elif (frame := cache.get(digest_of(number))) is not None:
            assert len(frame) in sizes[number]
            assert set(frame) == {number}
