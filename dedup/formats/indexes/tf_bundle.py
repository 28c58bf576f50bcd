"""Reads the index of a TensorFlow checkpoint, which says where tensors lie in the data beside it.

Layout: `PREFIX.index` is a sorted table of names, each with a BundleEntryProto: type, shape, shard,
offset and size; `PREFIX.data-00000-of-00001` are the tensors' bytes, one after the other. A
SavedModel keeps both in its folder `variables`. Sources: tensor_bundle.proto and types.proto of the
TensorFlow project; table_format.md of the LevelDB project.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass, field

from ...model.files.segments import ITEM_BYTES, Tensor, count_elements
from ..cutting.reader import Cursor, ReadableFile, Unreadable
from ..protobuf import BYTES, VARINT, read_key, read_varint
from ..source import make_tensor

_MAGIC = bytes.fromhex("57fb808b247547db")
_FOOTER_BYTES = 48
_MAX_NAME_BYTES = 4096
_MAX_SHARDS = 100_000

# Fields of a BundleEntryProto, and of a BundleHeaderProto, which belongs to the empty name.
_DTYPE, _SHAPE, _SHARD, _OFFSET, _SIZE, _SLICES = 1, 2, 3, 4, 5, 7
_SHARDS, _BIG_ENDIAN = 1, 2

_DTYPES = {
    1: "F32",
    2: "F64",
    3: "I32",
    4: "U8",
    5: "I16",
    6: "I8",
    9: "I64",
    10: "BOOL",
    14: "BF16",
    17: "U16",
    19: "F16",
    22: "U32",
    23: "U64",
    24: "F8_E5M2",
    25: "F8_E4M3",
}


@dataclass(slots=True)
class _Entry:
    """What was read of one message: its numbers by field, the shape, whether it is in slices."""

    numbers: dict[int, int] = field(default_factory=dict)
    shape: list[int] = field(default_factory=list)
    sliced: bool = False


def recognise(name: str, _head: bytes) -> bool:
    """Says whether a file of this name may be such an index."""
    return name.endswith(".index")


def list_external(name: str, file: ReadableFile, size: int) -> Iterator[tuple[str, int, Tensor]]:
    """Yields the tensors that the index `name` places: path of the data from its folder, first
    byte there, tensor. Raises Unreadable where it is no such index.

    Texts and tensors in slices are left out.
    """
    prefix = posixpath.basename(name).removesuffix(".index")
    cursor = Cursor(file, size)
    shards = 0
    for key, entry in _read_table(cursor):
        dtype = _DTYPES.get(entry.numbers.get(_DTYPE, 0))
        if not key:
            shards = entry.numbers.get(_SHARDS, 0)
            if entry.numbers.get(_BIG_ENDIAN) or not 0 < shards <= _MAX_SHARDS:
                raise Unreadable("not the index of a checkpoint in little-endian order")
        elif dtype is not None and not entry.sliced and shards:
            shard, offset = (entry.numbers.get(number, 0) for number in (_SHARD, _OFFSET))
            length = count_elements(entry.shape) * ITEM_BYTES[dtype]
            if length != entry.numbers.get(_SIZE, 0):
                raise Unreadable("a tensor without the size of its shape")
            tensor = make_tensor(key.decode("utf-8", "replace"), dtype, entry.shape, length)
            yield f"{prefix}.data-{shard:05}-of-{shards:05}", offset, tensor


def _read_table(cursor: Cursor) -> Iterator[tuple[bytes, _Entry]]:
    """Yields the names of a table and what it says of each."""
    cursor.position = max(0, cursor.size - len(_MAGIC))
    if cursor.take(len(_MAGIC)) != _MAGIC or cursor.size < _FOOTER_BYTES:
        raise Unreadable("not a table")
    cursor.position = cursor.size - _FOOTER_BYTES
    _read_handle(cursor)
    for _, place, _ in list(_list_rows(cursor, *_read_handle(cursor))):
        cursor.position = place
        for key, start, length in _list_rows(cursor, *_read_handle(cursor)):
            cursor.position = start
            yield key, _read_entry(cursor, start + length)


def _read_handle(cursor: Cursor) -> tuple[int, int]:
    """Returns first byte and length of a block."""
    return read_varint(cursor), read_varint(cursor)


def _list_rows(cursor: Cursor, start: int, size: int) -> Iterator[tuple[bytes, int, int]]:
    """Yields the rows of a block: key, first byte and length of the value."""
    if size < 4 or start + size >= cursor.size:
        raise Unreadable("a block outside of its table")
    cursor.position = start + size - 4
    restarts, compressed = cursor.take_int(4), cursor.take_int(1)
    end = start + size - 4 - 4 * restarts
    if compressed or end < start:
        raise Unreadable("a block that is compressed, or none")
    position, key = start, b""
    while position < end:
        cursor.position = position
        shared, added, length = (read_varint(cursor) for _ in range(3))
        if shared > len(key) or shared + added > _MAX_NAME_BYTES:
            raise Unreadable("a name that cannot be put together")
        key = key[:shared] + cursor.take(added)
        position = cursor.position + length
        if position > end:
            raise Unreadable("a value is longer than its block")
        yield key, cursor.position, length


def _read_entry(cursor: Cursor, end: int) -> _Entry:
    entry = _Entry()
    while cursor.position < end:
        number, wire, length = read_key(cursor)
        stop = cursor.position + length
        if stop > end:
            raise Unreadable("a field is longer than its message")
        if wire == VARINT:
            entry.numbers[number] = read_varint(cursor)
        elif number == _SHAPE and wire == BYTES:
            entry.shape = _read_shape(cursor, stop)
        entry.sliced |= number == _SLICES
        cursor.position = stop
    return entry


def _read_shape(cursor: Cursor, end: int) -> list[int]:
    """Reads a TensorShapeProto: a message for each dimension, with its size."""
    shape: list[int] = []
    while cursor.position < end:
        number, wire, length = read_key(cursor)
        stop = cursor.position + length
        if number != 2 or wire != BYTES or stop > end:
            raise Unreadable("a shape that is not known")
        shape.append(_read_entry(cursor, stop).numbers.get(1, 0))
        cursor.position = stop
    return shape
