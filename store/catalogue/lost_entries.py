"""What the journal must hold, as far as a catalogue knows."""

from __future__ import annotations

from collections.abc import Callable, Collection
from hashlib import sha256

from sqlalchemy import Connection, Select, exists, select, update

from .tables.database import Database
from .tables.journal_chain import heads_in
from .tables.rows import batches
from .tables.schema import journal, journal_edges, settings

# Stands for an entry in the table of edges: the objects that named others.
_REMEMBERED = "heads"


def find_heads(catalogue: Database) -> tuple[str, ...]:
    """Returns the keys of the entries that a new one has to name."""
    with catalogue.reading() as connection:
        return heads_in(connection)


def has_published(catalogue: Database, setting: str) -> bool:
    """Says whether the heads are those that `publish_heads` published last, or there are none."""
    with catalogue.reading() as connection:
        heads = _to_publish(connection)
        return not heads or connection.scalar(_setting(setting)) == _name(heads)


def publish_heads(
    catalogue: Database,
    setting: str,
    write: Callable[[tuple[str, ...]], object],
    *,
    wait: bool = True,
) -> None:
    """Calls `write` with the heads and notes them in the setting of that name. One call at a time:
    a later one never knows less. Without `wait` there is none where one is under way."""
    with catalogue.writing() as connection:
        catalogue.add_once(connection, settings, [{"name": setting, "value": ""}])
        held = connection.scalar(_setting(setting).with_for_update(skip_locked=not wait))
        if held is None:
            return
        heads = _to_publish(connection)
        write(heads)
        done = update(settings).where(settings.c.name == setting)
        connection.execute(done.values(value=_name(heads)))


def remember_named(catalogue: Database, keys: Collection[str]) -> None:
    """Notes entries that must be there, for a catalogue that is rebuilt: those of them that it
    does not come to know stay among what it publishes, until their loss is settled."""
    rows = [{"key": _REMEMBERED, "after": key} for key in keys]
    with catalogue.writing() as connection:
        catalogue.add_once(connection, journal_edges, rows)


def _to_publish(connection: Connection) -> tuple[str, ...]:
    known = exists().where(journal.c.key == journal_edges.c.after)
    query = select(journal_edges.c.after).where(journal_edges.c.key == _REMEMBERED, ~known)
    remembered = connection.scalars(query.order_by(journal_edges.c.after))
    return (*heads_in(connection), *remembered)


def _setting(name: str) -> Select[tuple[str]]:
    return select(settings.c.value).where(settings.c.name == name)


def _name(heads: tuple[str, ...]) -> str:
    return sha256("\n".join(heads).encode()).hexdigest()


def known_entries(catalogue: Database) -> dict[str, str | None]:
    """Returns the entries that were taken in and whose loss is not settled, with what each is
    about, None where that was not noted."""
    query = select(journal.c.key, journal.c.about).where(~journal.c.lost)
    with catalogue.reading() as connection:
        return {row.key: row.about for row in connection.execute(query)}


def settled_among(catalogue: Database, keys: Collection[str]) -> set[str]:
    """Returns those of `keys` that are settled as lost."""
    found: set[str] = set()
    with catalogue.reading() as connection:
        for batch in batches(list(keys)):
            query = select(journal.c.key).where(journal.c.key.in_(batch), journal.c.lost)
            found.update(connection.scalars(query))
    return found


def unknown_named(catalogue: Database) -> set[str]:
    """Returns the keys that entries name and that were never taken in."""
    known = exists().where(journal.c.key == journal_edges.c.after)
    query = select(journal_edges.c.after).where(~known).distinct()
    with catalogue.reading() as connection:
        return set(connection.scalars(query))
