"""Packs whose deltas rest on chunks that have become deltas since they were made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ...store.packs import STANDALONE, PackEntry
from ..errors import BaseMissing
from ..reading.scratch import scratch_folder
from .pack_check import LowestLevels, check_name, read_entries
from .pack_writing import depths_of, write_deeper


@contextmanager
def fit_depths(
    path: Path, name: str, lowest_levels: LowestLevels, scratch: Path | None
) -> Iterator[tuple[Path, str]]:
    """Within, there is the pack in the file `path` with the depths that its deltas have now, which
    may be another file of another name. Nothing about it has been verified yet.

    Whoever made a delta need not know which frame its base has by now: families are re-encoded
    beside pushes. Raises BaseMissing where a chain would be too long, and InvalidFrame.
    """
    entries = read_entries(path)
    levels = lowest_levels(levels_needed(entries))
    depths = depths_of(entries, levels)
    # Deltas in the same pack keep the levels that they say.
    own = {entry.digest for entry in entries}
    for entry in entries:
        base = entry.base_digest
        if base is None or base in own or entry.digest in depths:
            continue
        if levels.get(base, STANDALONE) >= entry.level:
            found = f"the base {base.hex()} of a delta has been re-encoded"
            raise BaseMissing(f"{found}: its chain would be too long", "push again")
    if not depths:
        yield path, name
        return
    check_name(path, name)
    with scratch_folder("deeper-", scratch) as folder:
        deeper = folder / "pack"
        yield deeper, write_deeper(path, deeper, entries, depths)


def levels_needed(entries: Sequence[PackEntry]) -> dict[bytes, int]:
    """Returns for each input of `entries` the level that its frame must be below."""
    found: dict[bytes, int] = {}
    for entry in entries:
        for digest in entry.inputs:
            found[digest] = min(entry.level, found.get(digest, entry.level))
    return found
