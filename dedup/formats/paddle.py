"""Takes apart the parameters of a PaddlePaddle model (`.pdiparams`): tensors one after the other.

Each has version 0 (4 bytes), the number of its levels of detail (8) and for each of these its
length (8) and content, version 0 again (4), the length of a description (4), that, and the data.
The description is a protobuf message of the dtype (field 1) and the dimensions (field 2). Names are
in the model beside it. Source: SerializeToStream in lod_tensor.cc and tensor_util.cc, and VarType
in framework.proto, of the PaddlePaddle project.
"""

from __future__ import annotations

from ..model.files.segments import ITEM_BYTES, Segment, count_elements
from .cutting.reader import Cursor, ReadableFile, Unreadable
from .protobuf import BYTES, VARINT, read_key, read_varint
from .source import MAX_DIMENSIONS, cover, make_tensor

_VERSIONS = bytes(16)
_MAX_DESCRIPTION_BYTES = 1024
_MAX_LEVELS = 16
_DTYPE, _DIMENSIONS = 1, 2
_DTYPES = {
    0: "BOOL",
    1: "I16",
    2: "I32",
    3: "I64",
    4: "F16",
    5: "F32",
    6: "F64",
    20: "U8",
    21: "I8",
    22: "BF16",
    32: "F8_E4M3",
    33: "F8_E5M2",
}


def recognise(_name: str, head: bytes) -> bool:
    """Says whether a file may begin with a tensor without levels of detail."""
    length = int.from_bytes(head[16:20], "little")
    # The description starts with the dtype.
    described = 2 <= length <= _MAX_DESCRIPTION_BYTES and head[20:21] == b"\x08"
    return head.startswith(_VERSIONS) and described


def segment(file: ReadableFile, size: int) -> list[Segment]:
    """Returns the segments of a file of `size` bytes; raises Unreadable where it is none."""
    cursor = Cursor(file, size)
    placed: list[tuple[int, list[Segment]]] = []
    while cursor.position < size:
        _skip_levels(cursor)
        dtype, shape = _read_description(cursor)
        length = count_elements(shape) * ITEM_BYTES[dtype]
        start = cursor.position
        cursor.skip(length)
        if length:
            placed.append((start, [make_tensor("", dtype, shape, length)]))
    return cover(file, size, placed)


def _skip_levels(cursor: Cursor) -> None:
    if cursor.take_int(4):
        raise Unreadable("a tensor of another version")
    levels = cursor.take_int(8)
    if levels > _MAX_LEVELS:
        raise Unreadable(f"a tensor of {levels} levels of detail")
    for _ in range(levels):
        cursor.skip(cursor.take_int(8))
    if cursor.take_int(4):
        raise Unreadable("a tensor of another version")


def _read_description(cursor: Cursor) -> tuple[str, list[int]]:
    """Returns dtype and dimensions of the tensor whose data come next."""
    length = cursor.take_int(4)
    if length > _MAX_DESCRIPTION_BYTES:
        raise Unreadable(f"a description of {length} bytes")
    end = cursor.position + length
    number = -1
    shape: list[int] = []
    while cursor.position < end:
        field, wire, taken = read_key(cursor)
        stop = cursor.position + taken
        if stop > end or len(shape) > MAX_DIMENSIONS:
            raise Unreadable("no description of a tensor")
        if field == _DTYPE and wire == VARINT:
            number = read_varint(cursor)
        elif field == _DIMENSIONS and wire in (VARINT, BYTES):
            while cursor.position < stop and len(shape) <= MAX_DIMENSIONS:
                shape.append(read_varint(cursor))
        cursor.position = stop
    if cursor.position != end or number not in _DTYPES:
        raise Unreadable("no description of a tensor")
    return _DTYPES[number], shape
