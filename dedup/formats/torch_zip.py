"""Finds the tensors of a PyTorch checkpoint among the members of its zip archive.

Layout: `NAME/data.pkl`, a pickle that refers to storages by key, `NAME/data/KEY` for each, and
perhaps `NAME/byteorder`. Source: PyTorch, "Serialization semantics", and what `torch.save` writes.
"""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Sequence

from ..segments import Segment
from .pickles import MAX_PICKLE_BYTES, Storage, View, list_views, read_value
from .source import Member, ReadableFile, Unreadable, read_at
from .storages import segment_storage, storage_dtype

_PICKLE = "data.pkl"


def find_storages(file: ReadableFile, members: Sequence[Member]) -> dict[str, list[Segment]]:
    """Returns the segments of each member that is a storage, by name; none where the archive is
    no checkpoint or its pickle cannot be followed."""
    by_name = {member.name: member for member in members}
    found: dict[str, list[Segment]] = {}
    for name, member in by_name.items():
        if name == _PICKLE or name.endswith("/" + _PICKLE):
            folder = name.removesuffix(_PICKLE)
            try:
                found |= _segment_storages(file, by_name, folder, member)
            except Unreadable:
                continue
    return found


def _segment_storages(
    file: ReadableFile, by_name: dict[str, Member], folder: str, member: Member
) -> dict[str, list[Segment]]:
    if _is_big_endian(file, by_name.get(folder + "byteorder")):
        return {}
    if member.size > MAX_PICKLE_BYTES:
        raise Unreadable(f"a pickle of {member.size} bytes")
    data = read_at(file, member.start, member.size)
    views = group_views(read_value(io.BytesIO(data)))
    found: dict[str, list[Segment]] = {}
    for storage, tensors in views.items():
        place = by_name.get(f"{folder}data/{storage.key}")
        if place is not None:
            dtype = storage_dtype(storage, tensors)
            found[place.name] = segment_storage(storage, tensors, place.size, dtype)
    return found


def group_views(root: object) -> dict[Storage, list[tuple[str, View]]]:
    """Returns the tensors below a pickle's value by the storage they look at."""
    views: dict[Storage, list[tuple[str, View]]] = defaultdict(list)
    for name, view in list_views(root):
        views[view.storage].append((name, view))
    return views


def _is_big_endian(file: ReadableFile, member: Member | None) -> bool:
    return member is not None and member.size == 3 and read_at(file, member.start, 3) == b"big"
