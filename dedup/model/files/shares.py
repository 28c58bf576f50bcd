"""Which files of a revision share chunks, and whether all of a chunk is still theirs."""

from __future__ import annotations

from collections.abc import Iterable

from .entries import FileEntry
from .segments import Share, share_of


def find_remainders(entries: Iterable[FileEntry]) -> dict[bytes, list[Share]]:
    """Returns, for chunks that small files share and of which some files are gone, the distinct
    shares that are left, in their order."""
    shares: dict[bytes, set[Share]] = {}
    for entry in entries:
        share = share_of(entry.segments)
        if share is not None:
            shares.setdefault(share.chunks[0], set()).add(share)
    return {
        digest: sorted(left, key=lambda share: share.start)
        for digest, left in shares.items()
        if sum(share.size for share in left) < next(iter(left)).whole
    }
