"""Takes GGUF files apart: metadata, its long arrays, and each tensor, quantised or not.

Layout: magic, version, counts, typed metadata by key, a description of each tensor, and their data
at offsets from an aligned place. Source: "GGUF", docs/gguf.md of the ggml project, versions 2 and
3, little-endian.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from ..model.files.segments import GROUPS, ITEM_BYTES, Opaque, Segment, count_elements
from .cutting.reader import Cursor, ReadableFile, Unreadable
from .source import cover, make_tensor

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_DEFAULT_ALIGNMENT = 32
# A vocabulary of 256,000 tokens and as many merges takes 12 MB; the largest models have 2,000
# tensors. At most 1.5 s to walk through.
_MAX_HEADER_BYTES = 64 * 1024 * 1024
_MAX_TENSORS = 100_000
_MAX_DEPTH = 4
# Shorter arrays stay in the metadata around them.
_LEAST_ARRAY_BYTES = 512

_STRING, _ARRAY = 8, 9
_VALUE_DTYPES = {
    0: "U8",
    1: "I8",
    2: "U16",
    3: "I16",
    4: "U32",
    5: "I32",
    6: "F32",
    7: "BOOL",
    10: "U64",
    11: "I64",
    12: "F64",
}

TYPE_NAMES = {
    0: "F32",
    1: "F16",
    2: "Q4_0",
    3: "Q4_1",
    6: "Q5_0",
    7: "Q5_1",
    8: "Q8_0",
    10: "Q2_K",
    11: "Q3_K",
    12: "Q4_K",
    13: "Q5_K",
    14: "Q6_K",
    15: "Q8_K",
    16: "IQ2_XXS",
    17: "IQ2_XS",
    18: "IQ3_XXS",
    19: "IQ1_S",
    20: "IQ4_NL",
    21: "IQ3_S",
    22: "IQ2_S",
    23: "IQ4_XS",
    24: "I8",
    25: "I16",
    26: "I32",
    27: "I64",
    28: "F64",
    29: "IQ1_M",
    30: "BF16",
    34: "TQ1_0",
    35: "TQ2_0",
    39: "MXFP4",
    40: "NVFP4",
    41: "Q1_0",
}
"""Tensor types by number, as ggml.h names them; those it has given up are missing."""

_LENGTH = struct.Struct("<Q")


@dataclass(slots=True)
class _Metadata:
    """What the metadata says that matters here: the alignment, and where its long arrays lie."""

    alignment: int = _DEFAULT_ALIGNMENT
    arrays: list[tuple[int, list[Segment]]] = field(default_factory=list)


def recognise(_name: str, head: bytes) -> bool:
    """Says whether a file that starts with `head` is a GGUF file."""
    return head.startswith(_MAGIC)


def segment(file: ReadableFile, size: int) -> list[Segment]:
    """Returns the segments of a GGUF file of `size` bytes; raises Unreadable where its header
    breaks the format.

    Long numeric arrays of the metadata become tensors named by their key. A tensor of an unknown
    type, or one that lies outside of the file, is opaque.
    """
    cursor = Cursor(file, min(size, _MAX_HEADER_BYTES))
    cursor.skip(len(_MAGIC))
    if cursor.take_int(4) not in _VERSIONS:
        raise Unreadable("not a version of GGUF that is known")
    n_tensors, n_values = cursor.take_int(8), cursor.take_int(8)
    if n_tensors > _MAX_TENSORS:
        raise Unreadable(f"a header that announces {n_tensors} tensors")
    metadata = _Metadata()
    for _ in range(n_values):
        _read_value(cursor, metadata)
    infos = [_read_info(cursor) for _ in range(n_tensors)]
    data_start = -(-cursor.position // metadata.alignment) * metadata.alignment
    placed = [(data_start + offset, [tensor]) for offset, tensor in infos if tensor]
    return cover(file, size, [*metadata.arrays, *placed])


def _read_text(cursor: Cursor) -> str:
    return cursor.take(cursor.take_int(8)).decode("utf-8", "replace")


def _read_value(cursor: Cursor, metadata: _Metadata) -> None:
    key = _read_text(cursor)
    kind = cursor.take_int(4)
    if key == "general.alignment" and kind == 4:
        metadata.alignment = cursor.take_int(4)
        if metadata.alignment == 0:
            raise Unreadable("an alignment of 0")
    elif kind == _ARRAY:
        _read_array(cursor, metadata, key, 1)
    elif kind == _STRING:
        cursor.skip(cursor.take_int(8))
    else:
        cursor.skip(_value_bytes(kind))


def _read_array(cursor: Cursor, metadata: _Metadata, key: str, depth: int) -> None:
    kind, count = cursor.take_int(4), cursor.take_int(8)
    start = cursor.position
    if kind == _ARRAY:
        if depth == _MAX_DEPTH:
            raise Unreadable("arrays in arrays in arrays")
        for _ in range(count):
            _read_array(cursor, metadata, key, depth + 1)
    elif kind == _STRING:
        _skip_strings(cursor, count)
        _keep_array(metadata, start, cursor.position - start, None)
    else:
        size = count * _value_bytes(kind)
        cursor.skip(size)
        tensor = make_tensor(key, _VALUE_DTYPES[kind], (count,), size)
        _keep_array(metadata, start, size, tensor)


def _keep_array(metadata: _Metadata, start: int, size: int, tensor: Segment | None) -> None:
    if size >= _LEAST_ARRAY_BYTES:
        metadata.arrays.append((start, [tensor or Opaque(size)]))


def _skip_strings(cursor: Cursor, count: int) -> None:
    # Vocabularies have hundreds of thousands: this loop is all that segmentation takes.
    read_length = _LENGTH.unpack_from
    while count:
        buffer = cursor.peek()
        at, last = 0, len(buffer) - _LENGTH.size
        while at <= last and count:
            at += _LENGTH.size + read_length(buffer, at)[0]
            count -= 1
        cursor.skip(at or _LENGTH.size)


def _value_bytes(kind: int) -> int:
    if kind not in _VALUE_DTYPES:
        raise Unreadable(f"metadata of unknown type {kind}")
    return ITEM_BYTES[_VALUE_DTYPES[kind]]


def _read_info(cursor: Cursor) -> tuple[int, Segment | None]:
    """Returns a tensor's offset in the data and the tensor; None for one that is kept opaque."""
    name = _read_text(cursor)
    n_dimensions = cursor.take_int(4)
    if n_dimensions > 64:
        raise Unreadable(f"tensor {name!r} has {n_dimensions} dimensions")
    # The fastest dimension comes first.
    shape = [cursor.take_int(8) for _ in range(n_dimensions)][::-1]
    dtype, offset = TYPE_NAMES.get(cursor.take_int(4)), cursor.take_int(8)
    if dtype is None:
        return offset, None
    elements, group_bytes = GROUPS.get(dtype) or (1, ITEM_BYTES[dtype])
    if not shape or shape[-1] % elements:
        return offset, None
    return offset, make_tensor(name, dtype, shape, count_elements(shape) // elements * group_bytes)
