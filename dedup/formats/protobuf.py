"""Reads protobuf messages field by field, through a cursor; what is in a field is for the caller.

Source: "Encoding", the protobuf documentation.
"""

from __future__ import annotations

from .cutting.reader import Cursor, Unreadable

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


def read_key(cursor: Cursor) -> tuple[int, int, int]:
    """Returns number and wire type of a field, and the bytes it takes from here on."""
    key = read_varint(cursor)
    number, wire = key >> 3, key & 7
    if wire == VARINT:
        start = cursor.position
        read_varint(cursor)
        length, cursor.position = cursor.position - start, start
    elif wire in (FIXED32, FIXED64):
        length = 4 if wire == FIXED32 else 8
    elif wire == BYTES:
        length = read_varint(cursor)
    else:
        raise Unreadable(f"a field of wire type {wire}")
    return number, wire, length


def read_varint(cursor: Cursor) -> int:
    """Returns the number that comes next."""
    value = 0
    for shift in range(0, 70, 7):
        byte = cursor.take(1)[0]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value
    raise Unreadable("a number of more than 10 bytes")
