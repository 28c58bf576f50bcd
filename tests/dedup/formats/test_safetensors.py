"""Taking safetensors files apart: whatever is in them is covered exactly, or refused by name."""

import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import safetensors_bytes
from safetensors import deserialize
from safetensors.numpy import save

from weightvault.dedup.errors import InvalidFile
from weightvault.dedup.formats.safetensors import segment
from weightvault.dedup.model.files.segments import Opaque, Segment, Tensor


def take_apart(data: bytes) -> list[Segment]:
    return segment(io.BytesIO(data), len(data))


def with_header(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(begin: int, end: int, dtype: str = "U8", shape: list[int] | None = None):
    return {"dtype": dtype, "shape": shape or [end - begin], "data_offsets": [begin, end]}


def test_finds_what_the_reference_library_wrote():
    arrays = {
        "b": np.arange(6, dtype=np.float32).reshape(2, 3),
        "a": np.arange(5, dtype=np.int64),
        "empty": np.zeros((0, 4), np.float16),
        "scalar": np.array(7, np.uint8),
    }
    data = save(arrays)
    segments = take_apart(data)
    found = {}
    offset = 0
    for part in segments:
        if isinstance(part, Tensor):
            found[part.name] = (part.dtype, part.shape, data[offset : offset + part.size])
        offset += part.size
    assert offset == len(data)
    assert found == {
        "a": ("I64", (5,), arrays["a"].tobytes()),
        "b": ("F32", (2, 3), arrays["b"].tobytes()),
        "empty": ("F16", (0, 4), b""),
        "scalar": ("U8", (), b"\x07"),
    }


@given(
    sizes=st.lists(st.integers(0, 40), max_size=6),
    gaps=st.lists(st.integers(0, 3), min_size=7, max_size=7),
    order=st.randoms(use_true_random=False),
)
@settings(deadline=None)
def test_any_layout_is_covered_exactly(sizes: list[int], gaps: list[int], order):
    position = gaps[-1]
    header = {}
    for i, size in enumerate(sizes):
        header[f"t{i}"] = entry(position, position + size)
        position += size + gaps[i]
    names = list(header)
    order.shuffle(names)
    data = with_header({n: header[n] for n in names}, bytes(position))
    segments = take_apart(data)
    assert sum(s.size for s in segments) == len(data)
    assert {s.name: s.size for s in segments if isinstance(s, Tensor)} == {
        f"t{i}": size for i, size in enumerate(sizes)
    }


def test_bytes_after_the_last_tensor_are_kept():
    segments = take_apart(with_header({"a": entry(0, 4)}, bytes(4) + b"tail"))
    assert segments[-1] == Opaque(4)


def test_unknown_dtype_is_kept_as_plain_bytes():
    data = with_header({"a": entry(0, 3, dtype="F4", shape=[6])}, b"abc")
    tensor = take_apart(data)[1]
    assert isinstance(tensor, Tensor)
    assert (tensor.dtype, tensor.coding_dtype) == ("F4", "U8")


# Bits of an element, by the names of the reference library.
DTYPES = {"BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8}
DTYPES |= {"F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16}
DTYPES |= {"F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "C64": 64, "F64": 64}
DTYPES |= {"I64": 64, "U64": 64}


def test_every_dtype_of_the_reference_library_is_taken():
    """In an order of its own in the header, and as that library reads it."""
    header, data = {}, b""
    for i, (dtype, bits) in enumerate(DTYPES.items()):
        raw = bytes([i]) * (3 * bits)
        header[dtype] = entry(len(data), len(data) + len(raw), dtype, [3, 8])
        data += raw
    file = with_header(dict(sorted(header.items(), key=lambda item: item[0][::-1])), data)
    theirs = {name: (fact["dtype"], fact["data"]) for name, fact in deserialize(file)}
    ours, offset = {}, 0
    for part in take_apart(file):
        if isinstance(part, Tensor):
            assert part.shape == (3, 8)
            ours[part.name] = (part.dtype, file[offset : offset + part.size])
        offset += part.size
    assert ours == theirs


GOOD = safetensors_bytes({"a": ("U8", (4,), b"abcd"), "b": ("BF16", (2,), b"efgh")})

BAD = {
    "nothing": (b"", "too few"),
    "length only": (GOOD[:8], "cut short"),
    "header cut": (GOOD[:40], "cut short"),
    "data cut": (GOOD[:-1], "lies at"),
    "header length 2^63": ((1 << 63).to_bytes(8, "little") + GOOD[8:], "header length"),
    "header length 2^64-1": (b"\xff" * 8 + GOOD[8:], "header length"),
    "not JSON": (with_header(b"{nope"), "not JSON"),
    "deep JSON": (with_header(b"[" * 200_000), "not JSON"),
    "not UTF-8": (with_header(b'{"\xff": 1}'), "not JSON"),
    "not an object": (with_header([1]), "not a JSON object"),
    "named twice": (
        with_header(b'{"a": %s, "a": %s}' % ((json.dumps(entry(0, 1)).encode(),) * 2), b"x"),
        "twice",
    ),
    "overlap": (with_header({"a": entry(0, 4), "b": entry(3, 6)}, bytes(6)), "overlaps"),
    "inside another": (with_header({"a": entry(0, 6), "b": entry(2, 3)}, bytes(6)), "overlaps"),
    "past the end": (with_header({"a": entry(0, 9)}, bytes(4)), "lies at"),
    "end before begin": (with_header({"a": entry(4, 2, shape=[2])}, bytes(4)), "lies at"),
    "negative": (with_header({"a": entry(-1, 2, shape=[3])}, bytes(4)), "natural"),
    "fraction": (with_header({"a": {**entry(0, 1), "shape": [1.0]}}, b"x"), "natural"),
    "true": (with_header({"a": {**entry(0, 1), "shape": [True]}}, b"x"), "natural"),
    "wrong size": (with_header({"a": entry(0, 4, "F32", [2])}, bytes(4)), "takes 8 bytes"),
    "huge shape": (with_header({"a": entry(0, 4, "F32", [1 << 62] * 60)}, bytes(4)), "takes"),
    "too many dimensions": (with_header({"a": entry(0, 1, shape=[1] * 65)}, b"x"), "proper"),
    "no dtype": (with_header({"a": {"shape": [], "data_offsets": [0, 1]}}, b"x"), "lacks"),
    "no object": (with_header({"a": 5}, b"x"), "lacks"),
    "three offsets": (with_header({"a": {**entry(0, 1), "data_offsets": [0, 1, 2]}}), "lacks"),
}


@pytest.mark.parametrize("case", BAD)
def test_broken_file_is_refused_by_reason(case: str):
    data, reason = BAD[case]
    with pytest.raises(InvalidFile, match=reason):
        take_apart(data)


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_random_bytes_are_covered_or_refused(data: bytes):
    try:
        segments = take_apart(data)
    except InvalidFile:
        return
    assert sum(s.size for s in segments) == len(data)


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
@settings(deadline=None)
def test_changed_byte_is_covered_or_refused(position: int, value: int):
    data = bytearray(GOOD)
    data[position] = value
    try:
        segments = take_apart(bytes(data))
    except InvalidFile:
        return
    assert sum(s.size for s in segments) == len(data)
