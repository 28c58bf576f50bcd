"""What every backend promises, looked at from behind: raw access never goes through the backend."""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from places import KIB, PART_BYTES, Place

from weightvault.store.backends import s3
from weightvault.store.errors import CorruptObject, InvalidKey, NotFound

BAD_KEYS = [
    "",
    "/",
    "/etc/passwd",
    "../x",
    "a/../../x",
    "a/./b",
    ".",
    "..",
    "a//b",
    "a/",
    "/a",
    "a\0b",
    "a\n",
    "a b",
    "a\\b",
    "ü",
    "a%2e",
    "~",
    "tmp",
    "tmp/x",
    "x" * 256,
    "/".join(["abcdefghi"] * 91),
]


def test_keys_that_could_lead_elsewhere_are_refused(place: Place, tmp_path: Path) -> None:
    backend = place.backend
    (tmp_path / "file").write_bytes(b"x")
    for use in (
        lambda key: backend.put(key, b"x"),
        lambda key: backend.put_new(key, b"x"),
        lambda key: backend.put_file(key, tmp_path / "file"),
        backend.get,
        backend.size,
        backend.exists,
        backend.delete,
    ):
        for key in BAD_KEYS:
            with pytest.raises(InvalidKey):
                use(key)
    assert place.raw() == {}


def test_prefixes_that_no_key_has_are_refused(place: Place) -> None:
    for prefix in ("/", "/a", "../", "a/../b", "a//", "tmp/", "a b", "ü"):
        with pytest.raises(InvalidKey):
            place.backend.list(prefix)


def test_odd_but_sound_keys_work(place: Place) -> None:
    for key in ("a", "..a", "a..", "...", "-", "x" * 255, "a-/tmp", "tmpx/a", "A/a"):
        place.backend.put(key, b"x")
        assert place.raw() == {key: b"x"}
        assert [info.key for info in place.backend.list()] == [key]
        assert place.backend.get(key) == b"x"
        place.backend.delete(key)


def test_the_longest_key_works(place: Place) -> None:
    key = "/".join(["abcdefghi"] * 90)
    place.backend.put(key, b"x")
    assert place.raw() == {key: b"x"}


@pytest.mark.parametrize(
    "size", [0, 1, KIB, 4 * PART_BYTES - 1, 4 * PART_BYTES, 5 * PART_BYTES + 7]
)
@pytest.mark.parametrize("way", ["put", "put_file"])
def test_bytes_out_are_bytes_in(place: Place, size: int, way: str, tmp_path: Path) -> None:
    data = os.urandom(size)
    source = tmp_path / "source"
    source.write_bytes(data)
    if way == "put":
        place.backend.put("a/b", data)
    else:
        place.backend.put_file("a/b", source)
        assert source.read_bytes() == data
        # The object must not share what may now change.
        source.write_bytes(b"other")
    assert place.raw() == {"a/b": data}
    assert place.backend.get("a/b") == data
    assert place.backend.size("a/b") == size


@pytest.mark.parametrize("wrap", [bytearray, memoryview, lambda data: memoryview(data).cast("I")])
def test_any_buffer_is_stored(place: Place, wrap: Callable[[bytes], memoryview]) -> None:
    place.backend.put("a", wrap(b"12345678"))
    assert place.raw() == {"a": b"12345678"}


def test_a_put_replaces(place: Place, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"3")
    place.backend.put("a", b"first and longer")
    place.backend.put("a", b"2")
    assert place.raw() == {"a": b"2"}
    place.backend.put_file("a", tmp_path / "file")
    assert place.raw() == {"a": b"3"}


def test_a_new_object_replaces_none(place: Place) -> None:
    assert place.backend.put_new("a/b", b"first")
    assert not place.backend.put_new("a/b", b"second and longer")
    assert place.raw() == {"a/b": b"first"}
    place.backend.put("a/b", b"third")
    assert not place.backend.put_new("a/b", b"fourth")
    place.backend.delete("a/b")
    assert place.backend.put_new("a/b", bytearray(b"fifth"))
    assert place.raw() == {"a/b": b"fifth"}


def test_of_many_who_put_a_new_object_one_does(place: Place) -> None:
    for turn in range(6):
        contents = [bytes([number]) * 100 for number in range(8)]
        ready = threading.Barrier(len(contents))

        def put(data: bytes, key: str = f"new/{turn}", ready: threading.Barrier = ready) -> bool:
            ready.wait()
            return place.backend.put_new(key, data)

        with ThreadPoolExecutor(len(contents)) as pool:
            won = list(pool.map(put, contents))
        assert sum(won) == 1
        assert place.backend.get(f"new/{turn}") == contents[won.index(True)]


def test_long_reads_come_in_one_piece(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "READ_PART_BYTES", 1000)
    data = os.urandom(12_345)
    place.backend.put("packs/a", data)
    for start, stop in [(0, 12_345), (0, 12_000), (7, 12_344), (500, 2500), (500, 2499)]:
        assert place.backend.get("packs/a", start, stop) == data[start:stop]
    with pytest.raises(CorruptObject):
        place.backend.get("packs/a", 0, 12_346)


def test_a_missing_source_file_is_not_a_missing_object(place: Place, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        place.backend.put_file("a", tmp_path / "none")
    assert place.raw() == {}


def test_ranges(place: Place) -> None:
    data = b"0123456789"
    place.backend.put("a", data)
    for start in range(11):
        for stop in (None, *range(start, 11)):
            assert place.backend.get("a", start, stop) == data[start:stop]


def test_ranges_beyond_the_end_are_never_silently_short(place: Place) -> None:
    place.backend.put("a", b"0123456789")
    for start, stop in [
        (0, 11),
        (9, 11),
        (10, 11),
        (11, 11),
        (11, None),
        (20, 30),
        (1 << 40, None),
    ]:
        with pytest.raises(CorruptObject, match="a has 10 bytes"):
            place.backend.get("a", start, stop)


def test_what_is_no_range_is_a_value_error(place: Place) -> None:
    place.backend.put("a", b"0123456789")
    for start, stop in [(-1, None), (-1, 3), (3, 2), (0, -1)]:
        with pytest.raises(ValueError, match="range"):
            place.backend.get("a", start, stop)


def test_ranges_of_an_empty_object(place: Place) -> None:
    place.backend.put("a", b"")
    assert place.backend.get("a") == b""
    assert place.backend.get("a", 0, 0) == b""
    for start, stop in [(0, 1), (1, None), (1, 1)]:
        with pytest.raises(CorruptObject):
            place.backend.get("a", start, stop)


def test_what_is_not_there(place: Place) -> None:
    place.backend.put("a/b/c", b"x")
    for key in ("b", "a", "a/b", "a/b/d", "a/b/c/d"):
        assert not place.backend.exists(key)
        for use in (
            lambda key=key: place.backend.get(key),
            lambda key=key: place.backend.get(key, 0, 0),
            lambda key=key: place.backend.get(key, 5, 9),
            lambda key=key: place.backend.size(key),
        ):
            with pytest.raises(NotFound, match=key):
                use()
        place.backend.delete(key)
    assert place.backend.exists("a/b/c")


def test_deleting_is_idempotent(place: Place) -> None:
    place.backend.put("a/b", b"x")
    place.backend.delete("a/b")
    place.backend.delete("a/b")
    assert place.raw() == {}
    assert not place.backend.exists("a/b")
    place.backend.put("a/b", b"y")
    assert place.raw() == {"a/b": b"y"}


def test_one_key_written_by_many_is_always_whole(place: Place) -> None:
    contents = [bytes([number]) * (20_000 + number) for number in range(6)]
    place.backend.put("a", contents[0])
    done = threading.Event()
    seen: list[bytes] = []

    def read() -> None:
        while not done.is_set():
            seen.append(place.backend.get("a"))

    with ThreadPoolExecutor(8) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        for writer in [pool.submit(place.backend.put, "a", data) for data in contents * 4]:
            writer.result()
        done.set()
        for reader in readers:
            reader.result()
    assert seen
    assert set(seen) <= set(contents)
    assert place.raw()["a"] in contents
    assert list(place.raw()) == ["a"]


def test_a_backend_closes_with_its_block(place: Place) -> None:
    with place.backend as backend:
        backend.put("a", b"x")
    assert backend is place.backend
