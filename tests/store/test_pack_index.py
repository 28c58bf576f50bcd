"""What is not the index of a pack is refused, by kind, and never believed."""

import io
import struct
import tracemalloc

import pytest
import xxhash
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from pack_samples import make_pack, read_all, reader

from weightvault.store.backends.memory import MemoryBackend
from weightvault.store.errors import CorruptObject, NotFound, UnsupportedFormat
from weightvault.store.packs import MAX_CHAIN, PackEntry, PackWriter, read_index


def test_the_bytes_are_those_of_the_specification() -> None:
    """A pack put together here by FORMAT.md alone, facts not compressed, is read."""
    digest, base = b"d" * 32, b"b" * 32
    lengths = [b"\2\3", b"\0\1", *[b"\0\0"] * 6]
    raw = [b"\7\0", *[b"\0\0"] * 6, b"\0\x7f"]
    bases = [b"\0\3", *[b"\0\0"] * 3]
    facts = b"".join([*lengths, *raw, *bases, b"\x05\x06", b"\x08\x09"])
    index = digest + b"e" * 32 + base + facts
    pack = b"WVPACK\n\1" + b"F" * 2 + b"G" * 259 + index + trailer(index, 2, 1, flags=0)
    assert read_all(pack) == [
        PackEntry(digest, 8, 2, 7, 5, 8),
        PackEntry(b"e" * 32, 10, 259, 0x7F << 56, 6, 9, (base,)),
    ]


def trailer(
    index: bytes,
    count: int,
    bases: int,
    *,
    flags: int,
    reserved: int = 0,
    version: int = 1,
    index_bytes: int | None = None,
    magic: bytes = b"WVPACK\n",
) -> bytes:
    """Returns a trailer whose checksum is right, whatever else it claims."""
    length = len(index) if index_bytes is None else index_bytes
    rest = struct.pack("<IIIHH7sB", length, count, bases, flags, reserved, magic, version)
    return struct.pack("<Q", xxhash.xxh3_64_intdigest(index + rest)) + rest


def test_every_shorter_pack_is_refused() -> None:
    pack, _ = make_pack()
    for size in range(len(pack)):
        with pytest.raises(CorruptObject):
            read_all(pack[:size])
    with pytest.raises(CorruptObject):
        read_all(pack + b"\0")


def test_every_flipped_bit_of_the_index_is_found() -> None:
    pack, entries = make_pack()
    start = entries[-1].offset + entries[-1].frame_bytes
    assert len(pack) - start > 100
    for at in range(start, len(pack)):
        for bit in range(8):
            damaged = bytearray(pack)
            damaged[at] ^= 1 << bit
            with pytest.raises(CorruptObject):
                read_all(bytes(damaged))


@pytest.mark.parametrize("lost", [1, 100, 66_000])
def test_a_read_that_comes_short_is_refused(lost: int) -> None:
    pack, _ = make_pack(2500)
    with pytest.raises(CorruptObject):
        read_index(lambda start, stop: pack[start:stop][: -min(lost, stop - start)], len(pack))


def lying_pack(frames: bytes = b"F" * 10, **lies: int | bytes) -> bytes:
    """Returns a pack of one frame with a right checksum, except for what is passed."""
    facts = lies.pop("facts", struct.pack("<QQIBB", 10, 20, 0, 0, 0))
    assert isinstance(facts, bytes)
    table = lies.pop("table", b"d" * 32)
    assert isinstance(table, bytes)
    claims: dict = {"count": 1, "bases": 0, "flags": 0, **lies}
    return b"WVPACK\n\1" + frames + table + facts + trailer(table + facts, **claims)


def test_the_honest_form_of_the_lying_pack_is_read() -> None:
    assert read_all(lying_pack()) == [PackEntry(b"d" * 32, 8, 10, 20, 0, 0)]


HUGE = (1 << 32) - 1


@pytest.mark.parametrize(
    "lies",
    [
        {"count": 0},
        {"count": 0, "frames": b"", "table": b"", "facts": b""},
        {"bases": 2, "table": bytes(96)},
        {"magic": b"WVPACK "},
        {"count": 2},
        {"count": HUGE},
        {"bases": 1},
        {"bases": HUGE},
        {"count": HUGE, "bases": HUGE},
        {"reserved": 1},
        {"version": 0},
        {"index_bytes": 53},
        {"index_bytes": 55},
        {"index_bytes": 64},
        {"index_bytes": 65},
        {"index_bytes": HUGE},
        {"index_bytes": 0},
        {"facts": b""},
        {"facts": struct.pack("<QQIBB", 9, 20, 0, 0, 0)},
        {"facts": struct.pack("<QQIBB", 11, 20, 0, 0, 0)},
        {"facts": struct.pack("<QQIBB", 0, 20, 0, 0, 0), "frames": b""},
        {"facts": struct.pack("<QQIBB", (1 << 64) - 1, 20, 0, 0, 0)},
        {"facts": struct.pack("<QQIBB", 10, 1 << 63, 0, 0, 0)},
        {"facts": struct.pack("<QQIBB", 10, 20, 2, 0, 0)},
        {"facts": struct.pack("<QQIBB", 10, 20, HUGE, 0, 0)},
        {"facts": struct.pack("<QQIBB", 10, 20, 0, 0, 0) + b"\0"},
        {"flags": 1},
        {"flags": 1, "facts": b""},
        {"flags": 1, "facts": zstandard.compress(bytes(21))},
        {"flags": 1, "facts": zstandard.compress(bytes(1 << 30))},
        {"flags": 1, "facts": zstandard.compress(struct.pack("<QQIBB", 10, 20, 0, 0, 0)) + b"\0"},
        {"flags": 1, "facts": zstandard.compress(struct.pack("<QQIBB", 10, 20, 0, 0, 0))[:-1]},
    ],
    ids=repr,
)
def test_lies_with_a_right_checksum_are_found_without_being_believed(lies: dict) -> None:
    pack = lying_pack(**lies)
    tracemalloc.start()
    try:
        with pytest.raises(CorruptObject):
            read_all(pack)
        assert tracemalloc.get_traced_memory()[1] < 100_000 + 10 * len(pack)
    finally:
        tracemalloc.stop()


def test_frames_whose_lengths_overflow_are_refused() -> None:
    # Two of 2^63 + 5 bytes: their sum modulo 2^64 is what the frames have.
    facts = b"\5\5" + bytes(12) + b"\x80\x80" + bytes(16 + 8 + 2 + 2)
    with pytest.raises(CorruptObject, match="frames"):
        read_all(lying_pack(facts=facts, table=bytes(64), count=2))


@given(st.binary(max_size=400))
def test_noise_is_no_pack(noise: bytes) -> None:
    with pytest.raises(CorruptObject):
        read_all(noise)


@given(st.binary(max_size=300), st.integers(0, 9), st.integers(0, 9), st.integers(0, 3))
def test_noise_under_a_right_checksum_never_escapes_the_pack(
    index: bytes, count: int, bases: int, flags: int
) -> None:
    pack = b"WVPACK\n\1" + b"F" * 10 + index + trailer(index, count, bases, flags=flags)
    try:
        entries = read_all(pack)
    except CorruptObject:
        return
    assert sum(entry.frame_bytes for entry in entries) == 10


@pytest.mark.parametrize(
    "newer", [{"version": 2}, {"version": 255}, {"flags": 8}, {"flags": 1 << 15}]
)
def test_a_newer_pack_is_refused_as_such(newer: dict) -> None:
    with pytest.raises(UnsupportedFormat, match="upgrade"):
        read_all(lying_pack(**newer))


def test_what_reading_raises_passes_through() -> None:
    backend = MemoryBackend()
    with pytest.raises(NotFound):
        read_index(lambda start, stop: backend.get("a", start, stop), 1000)


@pytest.mark.parametrize(("count", "calls"), [(1, 1), (1000, 1), (1800, 2), (10_000, 2)])
def test_the_index_is_read_in_two_reads_at_most(count: int, calls: int) -> None:
    pack, entries = make_pack(count)
    seen: list[tuple[int, int]] = []
    assert read_index(reader(pack, seen), len(pack)) == entries
    assert len(seen) == calls
    # The second read fetches only what the first left out.
    assert sum(stop - start for start, stop in seen) <= len(pack)


def derived_facts(inputs: int = 2, rows: bytes = b"\1\0" + bytes(6), base: int = 0) -> bytes:
    """The facts of one derived frame of 10 bytes, with the rows of its inputs as planes."""
    return struct.pack("<QQIBB", 10, 20, base, 0, 0) + bytes([inputs]) + rows


def test_the_inputs_of_a_derived_frame_are_those_of_the_specification() -> None:
    facts, table = derived_facts(), b"d" * 32 + b"i" * 32
    pack = lying_pack(facts=facts, table=table, bases=1, flags=2)
    inputs = (b"i" * 32, b"d" * 32)
    assert read_all(pack) == [PackEntry(b"d" * 32, 8, 10, 20, 0, 0, inputs, derived=True)]


@pytest.mark.parametrize(
    "facts",
    [
        derived_facts(rows=b"\2\0" + bytes(6)),
        derived_facts(rows=b"\1\0" + bytes(5) + b"\1"),
        derived_facts(base=1),
        derived_facts(inputs=1),
        derived_facts(inputs=3),
        derived_facts(inputs=0, rows=b""),
        derived_facts(inputs=17, rows=bytes(17 * 4)),
        derived_facts()[:-1],
        struct.pack("<QQIBB", 10, 20, 0, 0, 0),
        zstandard.compress(derived_facts()),
    ],
    ids=repr,
)
def test_lies_about_inputs_are_found(facts: bytes) -> None:
    with pytest.raises(CorruptObject):
        read_all(lying_pack(facts=facts, table=bytes(64), bases=1, flags=2))


@given(st.lists(st.lists(st.integers(0, 30), max_size=16), min_size=1, max_size=20))
def test_derived_frames_come_back_with_their_inputs(inputs: list[list[int]]) -> None:
    file = io.BytesIO()
    writer = PackWriter(file)
    facts = {"raw_bytes": 20, "codec": 1, "dtype": 1}
    for number, mine in enumerate(inputs):
        named = [bytes([i]) * 32 for i in mine]
        writer.add(b"F", digest=bytes([number]) * 32, inputs=named, derived=bool(mine), **facts)
    writer.finish()
    assert read_all(file.getvalue()) == writer.entries


def chain_facts(depth: int, base: int = 2) -> bytes:
    """The facts of one delta of 10 bytes, with its depth."""
    return struct.pack("<QQIBB", 10, 20, base, 0, 0) + bytes([depth])


def test_the_depth_of_a_delta_is_that_of_the_specification() -> None:
    pack = lying_pack(facts=chain_facts(MAX_CHAIN), table=b"d" * 32 + b"b" * 32, bases=1, flags=4)
    delta = PackEntry(b"d" * 32, 8, 10, 20, 0, 0, (b"b" * 32,), depth=MAX_CHAIN)
    assert read_all(pack) == [delta]
    assert delta.level == MAX_CHAIN


@pytest.mark.parametrize(
    "facts",
    [chain_facts(0), chain_facts(MAX_CHAIN + 1), chain_facts(2, base=0), chain_facts(2)[:-1]],
    ids=repr,
)
def test_lies_about_depths_are_found(facts: bytes) -> None:
    with pytest.raises(CorruptObject):
        read_all(lying_pack(facts=facts, table=bytes(64), bases=1, flags=4))


@given(st.lists(st.integers(0, MAX_CHAIN + 1), min_size=1, max_size=20))
def test_deltas_of_any_depth_come_back_beside_others(levels: list[int]) -> None:
    file = io.BytesIO()
    writer = PackWriter(file)
    facts: dict = {"raw_bytes": 20, "codec": 1, "dtype": 1}
    for number, level in enumerate(levels):
        more: dict = {"derived": level > MAX_CHAIN}
        more["depth"] = level if 0 < level <= MAX_CHAIN else 1
        inputs = [b"b" * 32] if level else []
        writer.add(b"F", digest=bytes([number]) * 32, inputs=inputs, **more, **facts)
    writer.finish()
    found = read_all(file.getvalue())
    assert found == writer.entries
    assert [entry.level for entry in found] == levels
