"""Finds the chunks of datasets that are stored in chunks, without filters.

A chunk holds a box of elements, always a whole one: at the edges it is padded. The chunks of old
files are the leaves of a tree (IV.A.2.i, III.A.1); of new ones the dataset that is one chunk is
taken, and the kinds of indexes that others have are not.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from ..cutting.reader import Cursor, Unreadable
from .headers import Message

_CHUNKED = 2
_MAX_RANK = 32
_NOWHERE = (1 << 64) - 1
_SINGLE_CHUNK = 1
# Magic, type, level, number of children.
_TREE = struct.Struct("<4sBBH16x")
_TREE_OF_CHUNKS = 1
# As many chunks are a hundred gigabytes in chunks of a megabyte.
_MAX_NODES = 20_000
_READS_PER_CHUNK = 4


def list_chunks(cursor: Cursor, layout: Message) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Yields the first byte of each chunk of a dataset without filters, and the elements that it
    has in each dimension; nothing of a dataset that is not in chunks. Raises Unreadable."""
    cursor.position = layout.start
    version, kind = cursor.take_int(1), cursor.take_int(1)
    if kind != _CHUNKED or version not in (3, 4):
        return
    flags = cursor.take_int(1) if version == 4 else 0
    # The last dimension is the bytes of an element.
    rank = cursor.take_int(1)
    if not 2 <= rank <= _MAX_RANK + 1:
        raise Unreadable(f"chunks of {rank} dimensions")
    if version == 3:
        tree = cursor.take_int(8)
        box = tuple(cursor.take_int(4) for _ in range(rank - 1))
        if tree != _NOWHERE:
            yield from ((start, box) for start in _list_leaves(cursor, tree, rank))
        return
    width = cursor.take_int(1)
    box = tuple(cursor.take_int(width) for _ in range(rank))[:-1]
    if cursor.take_int(1) == _SINGLE_CHUNK and not flags:
        start = cursor.take_int(8)
        if start != _NOWHERE:
            yield start, box


def _list_leaves(cursor: Cursor, tree: int, rank: int) -> Iterator[int]:
    """Yields the addresses of the chunks below a tree."""
    # Bytes of the chunk, filters that were not used, and its place, in front of each child.
    child = struct.Struct(f"<4xI{8 * rank}xQ")
    waiting, seen = [tree], set[int]()
    while waiting:
        address = waiting.pop()
        if address in seen or len(seen) > _MAX_NODES:
            raise Unreadable("a tree of chunks with a circle in it, or too many")
        seen.add(address)
        cursor.position = address
        magic, kind, level, used = _TREE.unpack(cursor.take(_TREE.size))
        if magic != b"TREE" or kind != _TREE_OF_CHUNKS:
            raise Unreadable("no tree of chunks")
        # Many datasets may name one tree, and each child makes a tensor.
        cursor.work.spend(_READS_PER_CHUNK * used)
        children = [at for _, at in child.iter_unpack(cursor.take(child.size * used))]
        if level:
            waiting.extend(children)
        else:
            yield from children
