"""Finds the tensors of a PyTorch checkpoint among the members of its zip archive.

Layout: `NAME/data.pkl`, a pickle that refers to storages by key, `NAME/data/KEY` for each, and
perhaps `NAME/byteorder`. TorchScript adds `NAME/constants.pkl` and `NAME/constants/KEY`; exported
programs have neither, but what `torch_export` reads.
Source: PyTorch, "Serialization semantics", and what `torch.save` and `torch.jit.save` write.
"""

from __future__ import annotations

import io
import zlib
from collections import defaultdict
from collections.abc import Iterable, Sequence

from ...model.files.segments import Segment
from ..cutting.reader import ReadableFile, Unreadable, read_at, work_of
from ..source import Member
from .pickles import MAX_PICKLE_BYTES, Storage, View, list_views, read_value
from .storages import segment_storage, storage_dtype
from .torch_export import CONFIGS, read_config

_PICKLES = {"data.pkl": "data/", "constants.pkl": "constants/"}
# Reading or inflating this many bytes takes as long as a read of a few.
_BYTES_PER_READ = 256


def find_storages(file: ReadableFile, members: Sequence[Member]) -> dict[str, list[Segment]]:
    """Returns the segments of each member that is a storage, by name; none where the archive is
    no checkpoint or its pickle cannot be followed."""
    by_name = {member.name: member for member in members}
    found: dict[str, list[Segment]] = {}
    for name, member in by_name.items():
        folder, _, base = name.rpartition("/")
        folder = f"{folder}/" if folder else ""
        try:
            if base in _PICKLES:
                found |= _segment_storages(file, by_name, folder, member)
            elif base in CONFIGS:
                found |= _segment_exported(file, by_name, folder, member)
        except Unreadable:
            continue
    return found


def _segment_exported(
    file: ReadableFile, by_name: dict[str, Member], folder: str, member: Member
) -> dict[str, list[Segment]]:
    # The order of bytes is said for the whole archive, at its top.
    order = by_name.get(member.name.partition("/")[0] + "/byteorder")
    if order is not None and _read_member(file, order) == b"big":
        return {}
    weights = read_config(_read_member(file, member))
    return _place_storages(by_name, folder, group_named(weights))


def _segment_storages(
    file: ReadableFile, by_name: dict[str, Member], folder: str, member: Member
) -> dict[str, list[Segment]]:
    order = by_name.get(folder + "byteorder")
    if order is not None and _read_member(file, order) == b"big":
        return {}
    data = folder + _PICKLES[member.name.rpartition("/")[2]]
    pickle = io.BytesIO(_read_member(file, member))
    return _place_storages(by_name, data, group_views(read_value(pickle, work_of(file))))


def _place_storages(
    by_name: dict[str, Member], data: str, views: dict[Storage, list[tuple[str, View]]]
) -> dict[str, list[Segment]]:
    """Returns the segments of the members of a folder that are storages."""
    found: dict[str, list[Segment]] = {}
    for storage, tensors in views.items():
        place = by_name.get(data + storage.key)
        if place is not None and place.plain is None:
            dtype = storage_dtype(storage, tensors)
            found[place.name] = segment_storage(storage, tensors, place.size, dtype)
    return found


def _read_member(file: ReadableFile, member: Member) -> bytes:
    """Returns the bytes of a member, inflated; raises Unreadable where they are too many."""
    size = member.size if member.plain is None else member.plain
    if max(size, member.size) > MAX_PICKLE_BYTES:
        raise Unreadable(f"a pickle of {size} bytes")
    work_of(file).spend((size + member.size) // _BYTES_PER_READ)
    data = read_at(file, member.start, member.size)
    if member.plain is None:
        return data
    try:
        # No more than was promised, whatever the stream holds.
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, member.plain + 1)
    except zlib.error as error:
        raise Unreadable(f"member {member.name!r} does not inflate: {error}") from error


def group_views(root: object) -> dict[Storage, list[tuple[str, View]]]:
    """Returns the tensors below a pickle's value by the storage they look at."""
    return group_named(list_views(root))


def group_named(named: Iterable[tuple[str, View]]) -> dict[Storage, list[tuple[str, View]]]:
    """Returns tensors with their names by the storage they look at."""
    views: dict[Storage, list[tuple[str, View]]] = defaultdict(list)
    for name, view in named:
        views[view.storage].append((name, view))
    return views
