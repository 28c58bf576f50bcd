"""How journal entries hang together: each names the newest ones that its writer knew.

Several writers may be at work at once, so what they write is no line but a graph without circles.
Its heads are entries that no other one names. A new entry names all of them, so that every entry is
named by a later one as soon as there is one; where one is gone, those that name it tell.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Table, exists, select, update

from .entry_keys import EntryKey
from .schema import journal, journal_edges

_AddOnce = Callable[[Connection, Table, list[dict[str, Any]]], int]

MOST_HEADS = 16
# Heads are as new as the last entries of all writers at work: nobody looks further back. Finding
# them costs as many look-ups, whatever the length of the journal.
_WINDOW = 256


def heads_in(connection: Connection) -> tuple[str, ...]:
    """Returns the keys of the heads, newest first, MOST_HEADS at most."""
    newest = (
        select(journal.c.key)
        .where(~journal.c.lost)
        .order_by(journal.c.key.desc())
        .limit(_WINDOW)
        .subquery()
    )
    named = exists().where(journal_edges.c.after == newest.c.key)
    query = select(newest.c.key).where(~named).order_by(newest.c.key.desc()).limit(MOST_HEADS)
    return tuple(connection.scalars(query))


def note_entry(connection: Connection, add_once: _AddOnce, key: str) -> bool:
    """Notes an entry and what its key tells of it; says whether it was new."""
    entry = key if isinstance(key, EntryKey) else EntryKey(key)
    name = str.__str__(entry)
    if not add_once(connection, journal, [{"key": name, "about": entry.about or None}]):
        return False
    add_once(connection, journal_edges, [{"key": name, "after": each} for each in entry.after])
    if entry.lost:
        # Some of them may never have been known here.
        add_once(connection, journal, [{"key": each, "lost": True} for each in entry.lost])
        gone = update(journal).where(journal.c.key.in_(entry.lost))
        connection.execute(gone.values(lost=True))
    return True
