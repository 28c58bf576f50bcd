"""Takes PyTorch checkpoints from before version 1.6 apart: pickles, then storages one by one.

Layout: five pickles (a magic number, the protocol's version, facts about the machine, the value
with its storages by key, the list of keys), then for each key the number of elements, 8 bytes, and
the elements. Source: what `torch.save(..., _use_new_zipfile_serialization=False)` writes.
"""

from __future__ import annotations

import io
from typing import Any

from ...model.files.segments import ITEM_BYTES, Segment
from ..cutting.reader import Cursor, ReadableFile, Unreadable, read_at, work_of
from ..source import cover
from .pickles import MAX_PICKLE_BYTES, get_item, list_items, read_value
from .storages import segment_storage, storage_dtype
from .torch_zip import group_views

# The pickled number 0x1950A86A20F9469CFC6C behind the two bytes that state the pickle's protocol.
_MAGIC = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
_COUNT_BYTES = 8
_FEW_BYTES = 1 << 20


def recognise(_name: str, head: bytes) -> bool:
    """Says whether a file that starts with `head` is such a checkpoint."""
    return head[:1] == b"\x80" and head[2:].startswith(_MAGIC)


def segment(file: ReadableFile, size: int) -> list[Segment]:
    """Returns the segments of such a checkpoint of `size` bytes; raises Unreadable where its
    pickles or storages cannot be followed."""
    (machine, value, keys), start = _read_pickles(file, size)
    if get_item(machine, "little_endian") is not True:
        raise Unreadable("the checkpoint was not written on a little-endian machine")
    return cover(file, size, _place_storages(Cursor(file, size, start), value, keys))


def _read_pickles(file: ReadableFile, size: int) -> tuple[list[Any], int]:
    """Returns what the last three of the five pickles leave, and where they end."""
    # Those of nearly all checkpoints end within the first.
    for most in (_FEW_BYTES, MAX_PICKLE_BYTES):
        data = io.BytesIO(read_at(file, 0, min(size, most)))
        try:
            return [read_value(data, work_of(file)) for _ in range(5)][2:], data.tell()
        except Unreadable:
            if size <= most:
                raise
    raise Unreadable(f"pickles of more than {MAX_PICKLE_BYTES} bytes")


def _place_storages(cursor: Cursor, value: Any, keys: Any) -> list[tuple[int, list[Segment]]]:
    views = {storage.key: (storage, named) for storage, named in group_views(value).items()}
    placed: list[tuple[int, list[Segment]]] = []
    for key in list_items(keys):
        if not isinstance(key, str) or key not in views:
            # Without its type the length of a storage is unknown, and so is what follows.
            break
        storage, named = views[key]
        dtype = storage_dtype(storage, named)
        if dtype not in ITEM_BYTES:
            break
        if cursor.size - cursor.position < _COUNT_BYTES:
            break
        size = cursor.take_int(_COUNT_BYTES) * ITEM_BYTES[dtype]
        start = cursor.position
        if size > cursor.size - start:
            break
        cursor.skip(size)
        placed.append((start, segment_storage(storage, named, size, dtype)))
    return placed
