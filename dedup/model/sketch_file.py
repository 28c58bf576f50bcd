"""The object beside each pack that keeps the sketches of its chunks (FORMAT.md, "Sketches of a
pack"): a catalogue is rebuilt from it without reading weights."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import xxhash

from ...codecs.dtypes import BY_ID, Dtype
from ...store.packs import PackEntry
from ..errors import Corrupt, InvalidInput
from .sketch import MIN_BYTES, SKETCH_BYTES, Sketch, blank_sketch, check_sketch, words_bytes

MAGIC = b"\x89WVS"
VERSION = 2
_FIRST_VERSION = 1
_HEAD = struct.Struct("<4sB3xI")
_CHECKSUM_BYTES = 8
_START = _HEAD.size + _CHECKSUM_BYTES
# Version 1: digest, dtype, bytes of words, raw bytes, bits.
_FIRST_ROW = struct.Struct(f"<32sBxHQ{SKETCH_BYTES}s")

Sketches = dict[bytes, Sketch]


def pack_sketches(entries: Sequence[PackEntry], sketches: Sketches) -> bytes:
    """Returns the object for a pack with these entries, whose chunks have these sketches; that of a
    chunk without one is all zeros, which says nothing."""
    rows = [
        sketches[digest].bits + sketches[digest].words
        if digest in sketches
        else bytes(_row_bytes(dtype, size))
        for digest, (dtype, size) in _list_sketched(entries).items()
    ]
    head, body = _HEAD.pack(MAGIC, VERSION, len(rows)), b"".join(rows)
    return head + _checksum(head, body) + body


def predict_size(entries: Sequence[PackEntry]) -> int:
    """Returns the bytes of the object beside a pack with these entries."""
    rows = _list_sketched(entries).values()
    return _START + sum(_row_bytes(dtype, size) for dtype, size in rows)


def check_sketches(data: bytes) -> None:
    """Raises Corrupt unless `data` is such an object as it was written."""
    _open(data)


def parse_sketches(data: bytes, entries: Sequence[PackEntry]) -> Sketches:
    """Returns the sketches of all chunks of the pack that has these entries. Raises Corrupt unless
    everything adds up."""
    version, count, body = _open(data)
    found = _parse_first(body, count) if version == _FIRST_VERSION else _parse(body, count, entries)
    blank = {e.digest: e for e in entries if e.raw_bytes < MIN_BYTES}
    return found | {d: blank_sketch(_dtype(e).name, e.raw_bytes) for d, e in blank.items()}


def _open(data: bytes) -> tuple[int, int, memoryview]:
    """Returns version, number of rows, and the rows."""
    if len(data) < _START:
        raise Corrupt("the sketches of a pack are cut short")
    magic, version, count = _HEAD.unpack_from(data)
    if magic != MAGIC or version not in (_FIRST_VERSION, VERSION):
        raise Corrupt("the sketches of a pack are damaged or too new")
    body = memoryview(data)[_START:]
    covered = b"" if version == _FIRST_VERSION else data[: _HEAD.size]
    if _checksum(covered, body) != data[_HEAD.size : _START]:
        raise Corrupt("the sketches of a pack are damaged")
    return version, count, body


def _checksum(head: bytes, body: bytes | memoryview) -> bytes:
    hasher = xxhash.xxh3_64(head)
    hasher.update(body)
    return hasher.intdigest().to_bytes(_CHECKSUM_BYTES, "little")


def _parse(body: memoryview, count: int, entries: Sequence[PackEntry]) -> Sketches:
    rows = _list_sketched(entries)
    expected = sum(_row_bytes(dtype, size) for dtype, size in rows.values())
    if (count, len(body)) != (len(rows), expected):
        raise Corrupt("the sketches of a pack are not of its chunks")
    found: Sketches = {}
    offset = 0
    for digest, (dtype, size) in rows.items():
        row = bytes(body[offset : offset + _row_bytes(dtype, size)])
        found[digest] = Sketch(dtype.name, size, row[:SKETCH_BYTES], row[SKETCH_BYTES:])
        offset += len(row)
    return found


def _parse_first(body: memoryview, count: int) -> Sketches:
    """Reads rows of version 1, which name their chunks, small ones among them, and have more words
    for some dtypes."""
    found: Sketches = {}
    offset = 0
    try:
        for _ in range(count):
            digest, dtype, length, size, bits = _FIRST_ROW.unpack_from(body, offset)
            start = offset + _FIRST_ROW.size
            words = bytes(body[start : start + length][: words_bytes(BY_ID[dtype], size)])
            found[digest] = check_sketch(Sketch(BY_ID[dtype].name, size, bits, words))
            offset = start + length
    except (struct.error, KeyError, InvalidInput) as error:
        raise Corrupt(f"the sketches of a pack are malformed: {error}") from error
    if offset != len(body):
        raise Corrupt("the sketches of a pack end too early or too late")
    return found


def _list_sketched(entries: Sequence[PackEntry]) -> dict[bytes, tuple[Dtype, int]]:
    """Returns dtype and raw bytes of each distinct chunk that has a sketch, in order."""
    large = (entry for entry in entries if entry.raw_bytes >= MIN_BYTES)
    return {entry.digest: (_dtype(entry), entry.raw_bytes) for entry in large}


def _dtype(entry: PackEntry) -> Dtype:
    if entry.dtype not in BY_ID:
        raise Corrupt(f"a chunk of the unknown dtype {entry.dtype}")
    return BY_ID[entry.dtype]


def _row_bytes(dtype: Dtype, size: int) -> int:
    return SKETCH_BYTES + words_bytes(dtype, size)
