"""Sketches: as the format page has them, alike within families, and silent where they know
nothing."""

import struct
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
import pytest
import xxhash
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st
from models import to_bf16

from weightvault.codecs.dtypes import BY_NAME, find_dtype
from weightvault.dedup.errors import Corrupt, InvalidInput
from weightvault.dedup.model.sketch import (
    Sketch,
    check_sketch,
    count_differences,
    find_related,
    make_query,
    make_sketch,
    order_words,
)
from weightvault.dedup.model.sketch_file import (
    Sketches,
    check_sketches,
    pack_sketches,
    parse_sketches,
    predict_size,
)
from weightvault.store.packs import PackEntry

NUMPY_TYPES = {
    "U8": "u1",
    "I8": "i1",
    "U16": "u2",
    "I16": "i2",
    "U32": "u4",
    "I32": "i4",
    "U64": "u8",
    "I64": "i8",
    "F16": "f2",
    "F32": "f4",
    "F64": "f8",
}


def sketch_slowly(raw: bytes, dtype: str) -> tuple[bytes, bytes]:
    """Bits and words as FORMAT.md, "Sketch", describes them, one element at a time."""
    k = BY_NAME[dtype].item_bytes
    count = len(raw) // k
    if len(raw) < 4096:
        return bytes(32), b""
    exponent = count.bit_length() - 1
    stream = blake3(b"weightvault sketch 1").digest(length=4096)
    numbers = [int.from_bytes(stream[8 * i : 8 * i + 8], "little") for i in range(512)]
    places = [number >> (64 - exponent) for number in numbers]

    def word(place: int) -> int:
        return int.from_bytes(raw[place * k : place * k + k], "little")

    def order(value: int) -> int:
        top = 1 << (8 * k - 1)
        if "F" in dtype:
            return top - 1 - (value - top) if value & top else value + top
        return value ^ top if dtype.startswith("I") else value

    bits = 0
    for i in range(256):
        bits |= (order(word(places[2 * i])) > order(word(places[2 * i + 1]))) << i
    kept = min(k, 4)
    most = 32 if dtype == "U8" else 256
    chosen = places[0 : 2 * min(most, 512 // kept, 2**exponent // 32) : 2]
    words = b"".join(raw[p * k + k - kept : p * k + k] for p in chosen)
    return bits.to_bytes(32, "little"), words


@settings(deadline=None)
@given(
    st.integers(0, 20_000) | st.sampled_from([4095, 4096]),
    st.randoms(use_true_random=False),
    st.sampled_from(sorted(NUMPY_TYPES | {"BF16": "", "F8_E4M3": ""})),
)
def test_sketches_are_what_the_format_page_says(size: int, random: Random, dtype: str):
    raw = random.randbytes(size)
    sketch = make_sketch(raw, dtype)
    assert (sketch.bits, sketch.words) == sketch_slowly(raw, dtype)
    assert (sketch.dtype, sketch.size) == (dtype, len(raw))
    assert check_sketch(sketch) == sketch


@pytest.mark.parametrize("dtype", NUMPY_TYPES)
def test_words_keep_the_order_of_values(dtype: str):
    rng = np.random.default_rng(0)
    kind = np.dtype(NUMPY_TYPES[dtype])
    raw = rng.bytes(4096 * kind.itemsize)
    values = np.frombuffer(raw, kind)
    if kind.kind == "f":
        values = values[np.isfinite(values) & (values != 0)]
    words = values.view(f"u{kind.itemsize}")
    ordered = order_words(words, dtype)
    assert np.array_equal(np.sort(values), values[np.argsort(ordered, kind="stable")])


def weights(seed: int, count: int = 4096) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.05, count).astype(np.float32)


def distance(one: Sketch, other: Sketch) -> int:
    return int(count_differences(one.bits, [other.bits])[0])


def test_casts_share_a_sketch():
    values = weights(1)
    full = make_sketch(values.tobytes(), "F32")
    half = make_sketch(values.astype(np.float16).tobytes(), "F16")
    brain = make_sketch(to_bf16(values).tobytes(), "BF16")
    double = make_sketch(values.astype(np.float64).tobytes(), "F64")
    assert len({s.kind for s in (full, half, brain, double)}) == 1
    # Elements that rounding makes equal have lost their order.
    assert max(distance(full, s) for s in (half, brain, double)) <= 4


def test_rows_appended_change_nothing():
    values = weights(1, 5000)
    longer = np.concatenate([values, weights(2, 700)])
    one, other = (make_sketch(v.tobytes(), "F32") for v in (values, longer))
    assert (one.bits, one.words, one.kind) == (other.bits, other.words, other.kind)


@pytest.mark.parametrize("shift", [0.0, 1.0], ids=["weights", "norms"])
def test_family_is_near_and_strangers_are_far(shift: float):
    """Norms lie around one: they share their signs with every other norm, but not their order."""
    base = shift + weights(1)
    tuned = [base + weights(i) * 0.003 for i in range(2, 12)]
    others = [shift + weights(i) for i in range(20, 40)]
    sketches = [make_sketch(to_bf16(v).tobytes(), "BF16") for v in [base, *tuned, *others]]
    related = find_related(sketches[0].bits, [s.bits for s in sketches])
    assert sorted(related) == list(range(11))
    assert related[0] == 0


@pytest.mark.parametrize(
    "values",
    [
        np.zeros(4096),
        np.ones(4096),
        np.where(np.arange(4096) % 97, 0.0, 1.0),
        np.arange(8.0),
    ],
    ids=["zeros", "ones", "sparse", "tiny"],
)
def test_tensors_that_say_nothing_are_of_no_kind(values: np.ndarray):
    assert make_sketch(values.astype(np.float32).tobytes(), "F32").kind is None


def test_chance_is_counted_by_what_sketches_can_tell():
    """Two tensors of mostly equal elements differ little without being related."""
    rng = np.random.default_rng(0)
    some = [(rng.random(4096) < 0.12).astype(np.float32) for _ in range(12)]
    sketches = [make_sketch(v.tobytes(), "F32") for v in some]
    assert all(s.kind is not None for s in sketches)
    for sketch in sketches:
        assert len(find_related(sketch.bits, [s.bits for s in sketches])) == 1


def test_kinds_tell_types_and_sizes_apart():
    raw = weights(1).tobytes()
    kinds = [make_sketch(raw, dtype).kind for dtype in ("F32", "I32", "U32", "U16", "I16", "U8")]
    kinds.append(make_sketch(raw * 2, "F32").kind)
    assert len(set(kinds)) == len(kinds)
    assert all(kind is not None and 0 <= kind < 512 for kind in kinds)


SOUND = make_sketch(weights(1).tobytes(), "F32")


@pytest.mark.parametrize(
    "change", [{"dtype": "F3"}, {"bits": b"x"}, {"words": b"x"}, {"size": 0}, {"dtype": "U8"}]
)
def test_sketches_from_outside_must_add_up(change: dict[str, Any]):
    parts = {"dtype": SOUND.dtype, "size": SOUND.size, "bits": SOUND.bits, "words": SOUND.words}
    with pytest.raises(InvalidInput):
        check_sketch(Sketch(**(parts | change)))


# The object beside a pack


DTYPES = ("F32", "BF16", "U8", "F64", "Q8_0")


def some_sketches() -> tuple[list[PackEntry], Sketches]:
    """Entries of a pack, one chunk twice and small ones among them, and their sketches."""
    found, entries = {}, []
    for size in (6000, 4096, 4095, 0):
        for dtype in DTYPES:
            digest = blake3(f"{dtype} {size}".encode()).digest()
            found[digest] = make_sketch(np.random.default_rng(size).bytes(size), dtype)
            entries.append(PackEntry(digest, 0, 1, size, 3, find_dtype(dtype).id))
    return [*entries, entries[0]], found


def test_sketches_of_a_pack_come_back():
    entries, found = some_sketches()
    data = pack_sketches(entries, found)
    assert parse_sketches(data, entries) == found
    assert predict_size(entries) == len(data)
    assert parse_sketches(pack_sketches([], {}), []) == {}


def test_a_sketch_that_is_lacking_says_nothing():
    entries, found = some_sketches()
    lost = entries[0].digest
    rest = {digest: sketch for digest, sketch in found.items() if digest != lost}
    parsed = parse_sketches(pack_sketches(entries, rest), entries)
    assert parsed.pop(lost).kind is None
    assert parsed == rest


def pack_first_version(entries: list[PackEntry], sketches: Sketches) -> bytes:
    """What 0.1.0 wrote: rows with digests, 256 words of one byte, and those of small chunks."""
    body = b""
    for digest, sketch in sketches.items():
        length = 256 if sketch.dtype in ("U8", "Q8_0") else 512
        words = (sketch.words + bytes(512))[: length if sketch.size else 0]
        row = (digest, find_dtype(sketch.dtype).id, 0, len(words), sketch.size, sketch.bits)
        body += struct.pack("<32sBBHQ32s", *row) + words
    checksum = xxhash.xxh3_64_intdigest(body)
    return struct.pack("<4sB3xIQ", b"\x89WVS", 1, len(sketches), checksum) + body


def test_the_first_version_is_read():
    entries, found = some_sketches()
    assert parse_sketches(pack_first_version(entries, found), entries) == found


def test_sketches_of_another_pack_are_refused():
    entries, found = some_sketches()
    with pytest.raises(Corrupt):
        parse_sketches(pack_sketches(entries, found), entries[1:-1])
    with pytest.raises(Corrupt):
        parse_sketches(pack_sketches(entries, found), [replace(e, dtype=255) for e in entries])


@pytest.mark.parametrize("pack", [pack_sketches, pack_first_version])
def test_every_damage_to_the_object_is_seen(pack: Callable[..., bytes]):
    entries, found = some_sketches()
    data = pack(entries, found)
    for length in range(len(data)):
        with pytest.raises(Corrupt):
            check_sketches(data[:length])
    for position in range(0, len(data), 3):
        changed = bytearray(data)
        changed[position] ^= 0x10
        # In the first version, the reserved bytes of the head say nothing.
        if position not in (5, 6, 7) or pack is pack_sketches:
            with pytest.raises(Corrupt):
                parse_sketches(bytes(changed), entries)
    with pytest.raises(Corrupt):
        parse_sketches(data + b"x", entries)


@pytest.mark.parametrize("dtype", ["BF16", "F32", "U8", "F64"])
def test_queries_near_a_power_of_two_know_both_kinds(dtype: str):
    rng = np.random.default_rng(4)
    width = find_dtype(dtype).item_bytes
    raw = rng.bytes(16_800 * width)
    below, above, far = (raw[: count * width] for count in (16_320, 16_440, 12_000))
    assert make_query(far, dtype) == make_sketch(far, dtype)
    (longer,) = make_query(below, dtype).others
    (shorter,) = make_query(above, dtype).others
    assert shorter.bits == make_sketch(below, dtype).bits
    assert shorter.kind == make_sketch(below, dtype).kind
    stored = make_sketch(above, dtype)
    assert longer.kind == stored.kind
    assert count_differences(longer.bits, [stored.bits])[0] <= 8
    for query in (longer, shorter):
        assert check_sketch(query) is query
    for raw_bytes in (b"", b"\1", raw[:width], raw[: 2 * width]):
        make_query(raw_bytes, dtype)
