"""The catalogue's side of scrubs and repairs: what to read next, what was found, what it means."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import delete, exists, func, insert, select

from .dependencies import hold_store, is_live, is_usable
from .edges import dependents_closure, is_input, lowest_first, much_needed, replaces
from .tables.database import Database
from .tables.rows import (
    CommitRow,
    Location,
    batches,
    commit_columns,
    location_columns,
    spare_columns,
)
from .tables.schema import chunks, commit_chunks, commits, damage, packs, settings, spares, verified

# A pack whose header or index is damaged has this place on record, where no frame can lie.
WHOLE_PACK = 0


@dataclass(frozen=True, slots=True)
class PackRow:
    """A pack as the catalogue knows it; `verified` is when all of it was last found right."""

    id: int
    name: str
    bytes: int
    verified: float | None


@dataclass(frozen=True, slots=True)
class Finding:
    """A damaged frame, or with `offset` WHOLE_PACK the rest of a pack. `in_use`: it is the frame
    that the chunk is read from."""

    pack: str
    offset: int
    digest: bytes
    reason: str
    in_use: bool


def packs_by_age(catalogue: Database) -> list[PackRow]:
    """Returns all packs, those never verified or longest ago first; among equals, those that hold
    what other frames need first."""
    holds = exists().where(chunks.c.pack_id == packs.c.id, is_input())
    columns = select(packs.c.id, packs.c.name, packs.c.bytes, verified.c.at)
    query = columns.outerjoin(verified, verified.c.pack_id == packs.c.id).order_by(
        func.coalesce(verified.c.at, 0), ~holds, packs.c.id
    )
    with catalogue.reading() as connection:
        return [PackRow(*row) for row in connection.execute(query)]


def frames_in(catalogue: Database, pack_id: int) -> list[Location]:
    """Returns where all frames of a pack lie, spare ones too, in order of offset."""
    used = location_columns().where(chunks.c.pack_id == pack_id)
    spare = spare_columns().where(spares.c.pack_id == pack_id)
    with catalogue.reading() as connection:
        rows = [*connection.execute(used), *connection.execute(spare)]
    return sorted((Location(*row) for row in rows), key=lambda place: place.offset)


def record_scrub(
    catalogue: Database, pack_id: int, found: Sequence[tuple[int, bytes, str]], at: float | None
) -> None:
    """Replaces what is on record about a pack: damaged places as offset, digest and reason, and
    when all of it was found right (None: not all of it)."""
    rows = [
        {"pack_id": pack_id, "offset": o, "digest": d, "reason": r[:300], "found": at or 0.0}
        for o, d, r in found
    ]
    with catalogue.writing() as connection:
        hold_store(connection)
        connection.execute(delete(damage).where(damage.c.pack_id == pack_id))
        connection.execute(delete(verified).where(verified.c.pack_id == pack_id))
        # A collection may have taken the pack meanwhile.
        if connection.scalar(select(packs.c.id).where(packs.c.id == pack_id)) is None:
            return
        if rows:
            connection.execute(insert(damage), rows)
        if at is not None and not rows:
            connection.execute(insert(verified).values(pack_id=pack_id, at=at))


def list_findings(catalogue: Database) -> list[Finding]:
    """Returns everything on record as damaged, by pack and place."""
    used = exists().where(chunks.c.pack_id == damage.c.pack_id, chunks.c.offset == damage.c.offset)
    query = (
        select(packs.c.name, damage.c.offset, damage.c.digest, damage.c.reason, used)
        .join(packs, packs.c.id == damage.c.pack_id)
        .order_by(packs.c.name, damage.c.offset)
    )
    with catalogue.reading() as connection:
        return [Finding(*row[:4], bool(row[4])) for row in connection.execute(query)]


def forget_finding(catalogue: Database, finding: Finding) -> None:
    """Takes a damaged place off the record; a spare frame there goes too."""
    with catalogue.writing() as connection:
        hold_store(connection)
        pack = select(packs.c.id).where(packs.c.name == finding.pack).scalar_subquery()
        for table in (damage, spares):
            place = (table.c.pack_id == pack) & (table.c.offset == finding.offset)
            connection.execute(delete(table).where(place))


def forget_spares(catalogue: Database, pack: str) -> None:
    """Gives up the spare frames in a pack of all chunks whose frame in use is not on record as
    damaged, so that nothing keeps the pack for their sake."""
    bad = exists().where(damage.c.pack_id == chunks.c.pack_id, damage.c.offset == chunks.c.offset)
    whole = select(chunks.c.id).where(chunks.c.id == spares.c.chunk_id, ~bad)
    with catalogue.writing() as connection:
        hold_store(connection, exclusive=True)
        mine = spares.c.pack_id == select(packs.c.id).where(packs.c.name == pack).scalar_subquery()
        connection.execute(delete(spares).where(mine, whole.exists()))


def clear_finding(catalogue: Database, finding: Finding) -> None:
    """Takes a place off the record that turned out to be right."""
    with catalogue.writing() as connection:
        pack = select(packs.c.id).where(packs.c.name == finding.pack).scalar_subquery()
        place = (damage.c.pack_id == pack) & (damage.c.offset == finding.offset)
        connection.execute(delete(damage).where(place))


def copies_of(catalogue: Database, digest: bytes) -> list[Location]:
    """Returns the spare frames of a chunk that are not on record as damaged, those that stand
    alone first."""
    bad = exists().where(damage.c.pack_id == spares.c.pack_id, damage.c.offset == spares.c.offset)
    query = spare_columns().where(chunks.c.digest == digest, ~bad).order_by(*lowest_first(spares))
    with catalogue.reading() as connection:
        return [Location(*row) for row in connection.execute(query)]


def bases_without_copy(catalogue: Database, least_deltas: int) -> list[Location]:
    """Returns the live chunks that at least so many others need and that have no second frame to
    take the place of their first."""
    many = much_needed(least_deltas)
    bad = exists().where(damage.c.pack_id == spares.c.pack_id, damage.c.offset == spares.c.offset)
    copy = exists().where(spares.c.chunk_id == chunks.c.id, replaces(spares), ~bad)
    query = location_columns().where(chunks.c.digest.in_(many), ~copy, is_live(), is_usable())
    with catalogue.reading() as connection:
        return [Location(*row) for row in connection.execute(query.order_by(chunks.c.id))]


def needing(catalogue: Database, digests: Collection[bytes]) -> dict[bytes, set[bytes]]:
    """Returns for each chunk what cannot be read without it: itself and all that need it."""
    with catalogue.reading() as connection:
        return dependents_closure(connection, digests)


def commits_using(catalogue: Database, digests: Collection[bytes]) -> list[CommitRow]:
    """Returns the commits that use any of these chunks, by repo, oldest first."""
    found: dict[str, CommitRow] = {}
    with catalogue.reading() as connection:
        for batch in batches(list(digests)):
            ids = (
                select(commit_chunks.c.commit_id)
                .join(chunks, chunks.c.id == commit_chunks.c.chunk_id)
                .where(chunks.c.digest.in_(batch))
            )
            for row in connection.execute(commit_columns().where(commits.c.id.in_(ids))):
                found[row.oid + row.name] = CommitRow(*row)
    return sorted(found.values(), key=lambda row: (row.repo, row.created))


def get_setting(catalogue: Database, name: str) -> str | None:
    """Returns a fact about the catalogue itself."""
    with catalogue.reading() as connection:
        return connection.scalar(select(settings.c.value).where(settings.c.name == name))


def default_setting(catalogue: Database, name: str, value: str) -> str:
    """Returns a fact about the catalogue itself; `value` becomes it where there is none."""
    with catalogue.writing() as connection:
        catalogue.add_once(connection, settings, [{"name": name, "value": value}])
        query = select(settings.c.value).where(settings.c.name == name)
        return str(connection.scalar(query))


def set_setting(catalogue: Database, name: str, value: str | None) -> None:
    """Records a fact about the catalogue itself; None forgets it."""
    with catalogue.writing() as connection:
        connection.execute(delete(settings).where(settings.c.name == name))
        if value is not None:
            connection.execute(insert(settings).values(name=name, value=value))
