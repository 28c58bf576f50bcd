"""The object beside each pack that keeps the sketches of its chunks (FORMAT.md, "Sketches of a
pack"): a catalogue is rebuilt from it without reading weights."""

from __future__ import annotations

import struct
from collections.abc import Iterable

import xxhash

from ..codecs.dtypes import BY_ID, find_dtype
from .errors import Corrupt, InvalidInput
from .sketch import SKETCH_BYTES, Sketch, check_sketch, words_bytes

MAGIC = b"\x89WVS"
VERSION = 1
_HEAD = struct.Struct("<4sB3xIQ")
_ROW = struct.Struct(f"<32sBBHQ{SKETCH_BYTES}s")

Sketches = dict[bytes, Sketch]


def sketches_key(pack: str) -> str:
    """Where the sketches of the pack called `pack` lie in the object store."""
    return f"sketches/{pack[:2]}/{pack}"


def pack_sketches(sketches: Iterable[tuple[bytes, Sketch]]) -> bytes:
    """Returns the object for chunks given as digest and sketch."""
    rows = [_pack_row(digest, sketch) for digest, sketch in sketches]
    body = b"".join(rows)
    return _HEAD.pack(MAGIC, VERSION, len(rows), xxhash.xxh3_64_intdigest(body)) + body


def predict_size(chunks: Iterable[tuple[int, int]]) -> int:
    """Returns the bytes of such an object for chunks given as dtype id and raw bytes."""
    return _HEAD.size + sum(_ROW.size + words_bytes(BY_ID[d], size) for d, size in chunks)


def parse_sketches(data: bytes) -> Sketches:
    """Reads such an object; raises Corrupt unless all of it adds up."""
    if len(data) < _HEAD.size:
        raise Corrupt("the sketches of a pack are cut short")
    magic, version, count, checksum = _HEAD.unpack_from(data)
    body = memoryview(data)[_HEAD.size :]
    if magic != MAGIC or version != VERSION or xxhash.xxh3_64_intdigest(body) != checksum:
        raise Corrupt("the sketches of a pack are damaged or too new")
    found: Sketches = {}
    offset = 0
    try:
        for _ in range(count):
            digest, sketch, offset = _parse_row(body, offset)
            found[digest] = sketch
    except (struct.error, KeyError, InvalidInput) as error:
        raise Corrupt(f"the sketches of a pack are malformed: {error}") from error
    if offset != len(body):
        raise Corrupt("the sketches of a pack end too late")
    return found


def _pack_row(digest: bytes, sketch: Sketch) -> bytes:
    dtype = find_dtype(sketch.dtype).id
    fixed = _ROW.pack(digest, dtype, 0, len(sketch.words), sketch.size, sketch.bits)
    return fixed + sketch.words


def _parse_row(body: memoryview, offset: int) -> tuple[bytes, Sketch, int]:
    digest, dtype, _, words_bytes, size, bits = _ROW.unpack_from(body, offset)
    start = offset + _ROW.size
    words = bytes(body[start : start + words_bytes])
    sketch = check_sketch(Sketch(BY_ID[dtype].name, size, bits, words))
    return digest, sketch, start + words_bytes
