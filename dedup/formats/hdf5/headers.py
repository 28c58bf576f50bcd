"""Reads the object headers of HDF5 files: lists of messages, perhaps in several pieces.

Source: The HDF Group, "HDF5 File Format Specification Version 3.0", IV.A.1.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from ..cutting.reader import Cursor, Unreadable

# Attributes can make headers long, a dataset has about ten messages.
_MAX_MESSAGES = 2_000
_MAX_PIECES = 64
_CONTINUATION = 0x10
_CHECKSUM_BYTES = 4

# Version and length of a header of version 1.
_OLD_PREFIX = struct.Struct("<B7xI4x")
# Type and length of a message; flags, and perhaps the order it was made in, follow.
_OLD_HEAD = struct.Struct("<HH4x")
_NEW_HEADS = {0: struct.Struct("<BHx"), 2: struct.Struct("<BH3x")}


@dataclass(frozen=True, slots=True)
class Message:
    """One message of an object header: its type, first byte and length."""

    kind: int
    start: int
    size: int


def read_messages(cursor: Cursor, address: int) -> list[Message]:
    """Returns the messages of the object header at `address`, those of its continuations too.

    Raises Unreadable where there is none, or more than a model has.
    """
    cursor.position = address
    if cursor.take(4) == b"OHDR":
        start, stop, order_bytes = _read_new_prefix(cursor)
    else:
        cursor.position = address
        start, stop, order_bytes = _read_old_prefix(cursor)
    messages: list[Message] = []
    pieces = [(start, stop)]
    for piece in pieces:
        for message in _read_piece(cursor, *piece, order_bytes):
            messages.append(message)
            if message.kind == _CONTINUATION:
                pieces.append(_follow(cursor, message, order_bytes))
            if len(messages) > _MAX_MESSAGES or len(pieces) > _MAX_PIECES:
                raise Unreadable("an object header without end")
    return messages


def _read_old_prefix(cursor: Cursor) -> tuple[int, int, int | None]:
    """Returns start and end of the messages of a header of version 1."""
    version, size = _OLD_PREFIX.unpack(cursor.take(_OLD_PREFIX.size))
    if version != 1:
        raise Unreadable("no object header")
    return cursor.position, cursor.position + size, None


def _read_new_prefix(cursor: Cursor) -> tuple[int, int, int | None]:
    """Returns start and end of the messages of a header of version 2, and how many bytes each
    has for the order it was made in."""
    if cursor.take_int(1) != 2:
        raise Unreadable("an object header of an unknown version")
    flags = cursor.take_int(1)
    cursor.skip((16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0))
    size = cursor.take_int(1 << (flags & 3))
    return cursor.position, cursor.position + size, 2 if flags & 4 else 0


def _read_piece(
    cursor: Cursor, start: int, stop: int, order_bytes: int | None
) -> Iterator[Message]:
    """Yields the messages in [start, stop); `order_bytes` is None for version 1."""
    head = _OLD_HEAD if order_bytes is None else _NEW_HEADS[order_bytes]
    position = start
    # What is left over in version 2 is a gap too short for a message.
    while position + head.size <= stop:
        cursor.position = position
        kind, size = head.unpack(cursor.take(head.size))
        if cursor.position + size > stop:
            raise Unreadable("a message is longer than its header")
        yield Message(kind, cursor.position, size)
        position += head.size + size


def _follow(cursor: Cursor, message: Message, order_bytes: int | None) -> tuple[int, int]:
    """Returns start and end of the messages of a continuation."""
    cursor.position = message.start
    start, size = cursor.take_int(8), cursor.take_int(8)
    if order_bytes is None:
        return start, start + size
    cursor.position = start
    if cursor.take(4) != b"OCHK" or size < 4 + _CHECKSUM_BYTES:
        raise Unreadable("no continuation of an object header")
    return start + 4, start + size - _CHECKSUM_BYTES
