"""Takes HDF5 files (Keras, PyTables) apart where datasets are contiguous, or in chunks as they are.

Groups are walked as old files have them (symbol tables) and as small new ones do (link messages);
what lies behind filters or in dense groups stays opaque. The reader is our own: the library is
C of decades, whose answer to a hostile file is now and then a crash. Source: The HDF Group, "HDF5
File Format Specification Version 3.0", by the sections named below.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from ...model.files.segments import ITEM_BYTES, Segment, count_elements
from ..cutting.reader import Cursor, ReadableFile, Unreadable
from ..source import cover, make_tensor
from .chunked import list_chunks
from .headers import Message, read_messages

_MAGIC = b"\x89HDF\r\n\x1a\n"
# A large model has some 10,000 datasets; each takes about 0.1 ms.
_MAX_OBJECTS = 20_000
_MAX_NAME_BYTES = 1024
_MAX_DEPTH = 32
_NOWHERE = (1 << 64) - 1

_DATASPACE, _DATATYPE, _LINK, _LAYOUT, _SYMBOL_TABLE = 0x01, 0x03, 0x06, 0x08, 0x11
# What is cut smaller is better off as it lies.
_LEAST_CHUNK_BYTES = 1 << 10
_FILTERS, _CONTIGUOUS = 0x0B, 1

# Where the tree and the names of a group lie (IV.A.2.r).
_ADDRESSES = struct.Struct("<2Q")
# Magic, bytes of names, where they start (III.D).
_HEAP = struct.Struct("<4s4xQ8xQ")
# Magic, number of objects (III.C).
_NODE = struct.Struct("<4s2xH")
# Magic, type, level, number of children (III.A.1).
_TREE = struct.Struct("<4sBBH16x")
# An object in a group: where its name lies in the heap, and its header (III.C).
_SYMBOL = struct.Struct("<QQ24x")
# A key of a tree, and the child behind it (III.A.1).
_CHILD = struct.Struct("<8xQ")
# Class and version, the lowest bits that tell more, bytes of an element (IV.A.2.d).
_DATATYPE_HEAD = struct.Struct("<BB2xI")


@dataclass(frozen=True, slots=True)
class _Object:
    """A group or dataset that is still to be looked at: its path and header's address."""

    name: str
    address: int
    depth: int


def recognise(_name: str, head: bytes) -> bool:
    """Says whether a file that starts with `head` is an HDF5 file."""
    return head.startswith(_MAGIC)


def segment(file: ReadableFile, size: int) -> list[Segment]:
    """Returns the segments of an HDF5 file of `size` bytes; raises Unreadable where its groups
    cannot be walked."""
    cursor = Cursor(file, size)
    waiting = [_Object("", _read_superblock(cursor), 0)]
    seen: set[int] = set()
    placed: list[tuple[int, list[Segment]]] = []
    while waiting:
        found = waiting.pop()
        # Several links may lead to one object, and groups in a circle.
        if found.address in seen:
            continue
        seen.add(found.address)
        if len(seen) > _MAX_OBJECTS or found.depth > _MAX_DEPTH:
            raise Unreadable("more groups and datasets than a model has")
        try:
            messages = read_messages(cursor, found.address)
            placed.extend(_read_dataset(cursor, found.name, messages))
            waiting.extend(_list_links(cursor, found, messages))
        except Unreadable:
            # What one object keeps to itself says nothing against the others.
            continue
    return cover(file, size, placed)


def _read_superblock(cursor: Cursor) -> int:
    """Returns the address of the root group's header (II.A)."""
    cursor.position = len(_MAGIC)
    version = cursor.take_int(1)
    if version in (0, 1):
        cursor.position = 13
        widths = cursor.take_int(1), cursor.take_int(1)
        cursor.position = 24 if version == 0 else 28
        base = cursor.take_int(8)
        cursor.skip(32)
    elif version in (2, 3):
        widths = cursor.take_int(1), cursor.take_int(1)
        cursor.skip(1)
        base = cursor.take_int(8)
        cursor.skip(16)
    else:
        raise Unreadable(f"a superblock of version {version}")
    if widths != (8, 8) or base:
        raise Unreadable("addresses that are not of 8 bytes from the start of the file")
    return cursor.take_int(8)


def _list_links(cursor: Cursor, group: _Object, messages: list[Message]) -> Iterator[_Object]:
    for message in messages:
        if message.kind == _LINK:
            link = _read_link(cursor, message)
            links = iter([link] if link else [])
        elif message.kind == _SYMBOL_TABLE:
            links = _read_symbols(cursor, message)
        else:
            continue
        for name, address in links:
            path = f"{group.name}/{name}" if group.name else name
            yield _Object(path[:_MAX_NAME_BYTES], address, group.depth + 1)


def _read_link(cursor: Cursor, message: Message) -> tuple[str, int] | None:
    """Returns name and address of a hard link (IV.A.2.g)."""
    cursor.position = message.start
    _, flags = cursor.take_int(1), cursor.take_int(1)
    if flags & 8 and cursor.take_int(1) != 0:
        return None
    cursor.skip((8 if flags & 4 else 0) + (1 if flags & 16 else 0))
    length = cursor.take_int(1 << (flags & 3))
    if length > _MAX_NAME_BYTES:
        raise Unreadable("a link with a name of more than 1 KiB")
    return cursor.take(length).decode("utf-8", "replace"), cursor.take_int(8)


def _read_symbols(cursor: Cursor, message: Message) -> Iterator[tuple[str, int]]:
    """Yields name and address of each object in a symbol table (III.A.1, III.B, III.C, III.D)."""
    cursor.position = message.start
    tree, heap = _ADDRESSES.unpack(cursor.take(_ADDRESSES.size))
    cursor.position = heap
    magic, names_size, names = _HEAP.unpack(cursor.take(_HEAP.size))
    if magic != b"HEAP":
        raise Unreadable("no heap for the names of a group")
    for node in _list_nodes(cursor, tree):
        cursor.position = node
        magic, count = _NODE.unpack(cursor.take(_NODE.size))
        if magic != b"SNOD":
            raise Unreadable("no symbol table node")
        entries = cursor.take(_SYMBOL.size * count)
        for offset, address in _SYMBOL.iter_unpack(entries):
            if offset >= names_size:
                raise Unreadable("a name outside of its heap")
            yield _read_name(cursor, names + offset), address


def _list_nodes(cursor: Cursor, tree: int) -> Iterator[int]:
    """Yields the addresses of the symbol table nodes below a tree."""
    waiting = [tree]
    seen: set[int] = set()
    while waiting:
        address = waiting.pop()
        if address in seen or len(seen) > _MAX_OBJECTS:
            raise Unreadable("a tree with a circle in it")
        seen.add(address)
        cursor.position = address
        magic, kind, level, used = _TREE.unpack(cursor.take(_TREE.size))
        if magic != b"TREE" or kind != 0:
            raise Unreadable("no tree of a group")
        children = [child for (child,) in _CHILD.iter_unpack(cursor.take(_CHILD.size * used))]
        if level:
            waiting.extend(children)
        else:
            yield from children


def _read_name(cursor: Cursor, address: int) -> str:
    cursor.position = address
    name = cursor.take(min(_MAX_NAME_BYTES, max(0, cursor.size - address)))
    return name.partition(b"\0")[0].decode("utf-8", "replace")


def _read_dataset(
    cursor: Cursor, name: str, messages: list[Message]
) -> Iterator[tuple[int, list[Segment]]]:
    """Yields first byte and tensor of a contiguous dataset of plain numbers, or of each chunk of
    one; nothing of others."""
    found = {message.kind: message for message in messages}
    if not {_DATASPACE, _DATATYPE, _LAYOUT} <= found.keys():
        return
    dtype = _read_dtype(cursor, found[_DATATYPE])
    shape = _read_shape(cursor, found[_DATASPACE])
    start = _read_start(cursor, found[_LAYOUT])
    if dtype is None or shape is None:
        return
    if start is not None:
        yield start, [make_tensor(name, dtype, shape, count_elements(shape) * ITEM_BYTES[dtype])]
    elif _FILTERS not in found:
        for number, (at, box) in enumerate(list_chunks(cursor, found[_LAYOUT])):
            size = count_elements(box) * ITEM_BYTES[dtype]
            if size < _LEAST_CHUNK_BYTES:
                break
            named = name if list(box) == shape else f"{name} chunk {number}"
            yield at, [make_tensor(named, dtype, box, size)]


def _read_shape(cursor: Cursor, message: Message) -> list[int] | None:
    """Returns the dimensions of a dataspace (IV.A.2.b)."""
    cursor.position = message.start
    version, rank = cursor.take_int(1), cursor.take_int(1)
    if version not in (1, 2) or rank > 64:
        return None
    cursor.skip(6 if version == 1 else 2)
    return [cursor.take_int(8) for _ in range(rank)]


def _read_dtype(cursor: Cursor, message: Message) -> str | None:
    """Returns our name of a datatype (IV.A.2.d), None for all but little-endian numbers."""
    cursor.position = message.start
    kind, bits, size = _DATATYPE_HEAD.unpack(cursor.take(_DATATYPE_HEAD.size))
    if bits & 1:
        return None
    if kind & 15 == 0:
        name = f"{'I' if bits & 8 else 'U'}{8 * size}"
        return name if name in ITEM_BYTES else None
    if kind & 15 == 1 and not bits & 64:
        cursor.skip(4)
        cursor.skip(1)
        exponent_bits = cursor.take_int(1)
        return {(2, 5): "F16", (2, 8): "BF16", (4, 8): "F32", (8, 11): "F64"}.get(
            (size, exponent_bits)
        )
    return None


def _read_start(cursor: Cursor, message: Message) -> int | None:
    """Returns where a contiguous dataset starts (IV.A.2.i), None for others."""
    cursor.position = message.start
    version = cursor.take_int(1)
    if version in (1, 2):
        cursor.skip(1)
    kind = cursor.take_int(1)
    if version not in (1, 2, 3, 4) or kind != _CONTIGUOUS:
        return None
    if version in (1, 2):
        cursor.skip(5)
    start = cursor.take_int(8)
    return start if start != _NOWHERE else None
