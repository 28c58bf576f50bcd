"""Writes the journal: every entry comes to be here (ARCHITECTURE.md, "The journal").

The catalogue calls what these functions return inside the transaction that makes the change, as its
last step: the entry is durable before anybody sees the change, and is never written for what does
not happen.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence

from ....store.backend import Backend
from ....store.catalogue.tables.database import MakeEntry
from ...model.journal_entries import AnyEntry, key_time, pack_entry

# What keys can tell apart.
TICK_SECONDS = 1e-6


def follow(last: str | None) -> float:
    """Returns the time of an entry written now: later than that of the entry `last`, the newest one
    known, though its writer's clock may be ahead."""
    return max(time.time(), key_time(last) + TICK_SECONDS if last else 0.0)


def new_entry(
    backend: Backend,
    make: Callable[[float], AnyEntry],
    *,
    lost: Collection[str] = (),
    before: Callable[[], object] = lambda: None,
) -> MakeEntry:
    """Returns what writes the entry that `make` makes of its time.

    It names the newest entries known, and settles that others are `lost`. `before` stores what the
    entry refers to.
    """

    def write(last: str | None, heads: Sequence[str]) -> list[str]:
        key, data = pack_entry(make(follow(last)), heads, lost)
        before()
        backend.put(key, data)
        return [key]

    return write


def new_entries(
    backend: Backend, entries: Sequence[AnyEntry], before: Callable[[], object]
) -> MakeEntry:
    """As new_entry, of several, each of which names the one before it, as if they came one by one.
    Each has a later time than the one before."""

    def write(last: str | None, heads: Sequence[str]) -> list[str]:
        before()
        keys: list[str] = []
        for entry in entries:
            key, data = pack_entry(entry, keys[-1:] or heads)
            backend.put(key, data)
            keys.append(key)
        return keys

    return write
