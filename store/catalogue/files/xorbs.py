"""What Xet clients uploaded, and where it is to be found (ARCHITECTURE.md, "Xet").

All of it belongs to an *owner*, a namespace of repos, and to the owner's present *generation*.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, delete, exists, func, or_, select, update

from ..tables.database import Database
from ..tables.rows import batches, by_digest
from ..tables.schema import commits, files, hashes, loose_files, repos
from ..tables.xet_schema import xet_files, xet_generations, xet_marks, xet_places, xet_xorbs


@dataclass(frozen=True, slots=True)
class Generation:
    """What one owner uploaded since clients were last made to forget; `name` is 32 hexadecimal
    digits."""

    id: int
    name: str
    owner: str


@dataclass(frozen=True, slots=True)
class XorbRow:
    """A xorb: its hash, raw bytes, number of chunks, whether it is an object of its own, and the
    bytes that it was sent as."""

    id: int
    hash: bytes
    bytes: int
    chunks: int
    kept: bool
    sent: int


@dataclass(frozen=True, slots=True)
class PlaceRow:
    """The chunks [first, stop) of a xorb are the bytes from `offset` on of the file `sha256`."""

    first: int
    stop: int
    offset: int
    sha256: bytes


@dataclass(frozen=True, slots=True)
class FileUse:
    """The chunks [first, stop) of the xorb `xorb_id` are at `offset` of the file recorded."""

    xorb_id: int
    first: int
    stop: int
    offset: int


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file to record: what the protocol calls it, its SHA-256, its bytes, what it is made of."""

    hash: bytes
    sha256: bytes
    bytes: int
    uses: Sequence[FileUse]


# Generations


def open_generation(
    catalogue: Database, owner: str, prefixes: Sequence[str], now: float
) -> Generation:
    """Returns the owner's generation; a new one where there is none, or where something that a
    client may still count on can no longer be read from the owner's repos, the names of which
    begin with one of `prefixes`."""
    found = _generation(catalogue, xet_generations.c.owner == owner)
    if found is not None and not _has_losses(catalogue, found, prefixes, now):
        return found
    if found is not None:
        end_generation(catalogue, found, now)
    with catalogue.writing() as connection:
        row = {"name": uuid4().hex, "owner": owner, "namespace": owner}
        catalogue.add_once(connection, xet_generations, [row])
    made = _generation(catalogue, xet_generations.c.owner == owner)
    assert made is not None
    return made


def find_generation(catalogue: Database, name: str) -> Generation | None:
    """Returns the generation of that name, some owner's present one or one that has ended."""
    return _generation(catalogue, xet_generations.c.name == name)


def end_generation(catalogue: Database, generation: Generation, now: float) -> None:
    """Ends a generation: whoever asks for an address from now on sends everything again. What is
    under way to it, for any repo of the owner, still finds what was sent, until a collection
    forgets it (`forget_ended`)."""
    with catalogue.writing() as connection:
        present = xet_generations.c.owner.is_not(None)
        ended = update(xet_generations).where(xet_generations.c.id == generation.id, present)
        connection.execute(ended.values(owner=None, ended=now))


# Xorbs and files


def find_xorbs(
    catalogue: Database, generation: Generation, wanted: Collection[bytes]
) -> dict[bytes, XorbRow]:
    """Returns the xorbs of those hashes; unknown ones are left out."""
    with catalogue.reading() as connection:
        return {
            row.hash: XorbRow(*row)
            for batch in batches(list(wanted))
            for row in connection.execute(
                _xorbs().where(
                    xet_xorbs.c.generation_id == generation.id, xet_xorbs.c.hash.in_(batch)
                )
            )
        }


def add_xorb(
    catalogue: Database,
    generation: Generation,
    digest: bytes,
    size: int,
    count: int,
    sent: int,
    now: float,
) -> None:
    """Records a xorb whose `count` chunks, of `size` bytes that came as `sent`, have just been
    stored."""
    same = (xet_xorbs.c.generation_id == generation.id) & (xet_xorbs.c.hash == digest)
    values = {
        "generation_id": generation.id,
        "hash": digest,
        "bytes": size,
        "chunks": count,
        "kept": True,
        "used": now,
        "sent": sent,
    }
    with catalogue.writing() as connection:
        catalogue.add_once(connection, xet_xorbs, [values])
        connection.execute(update(xet_xorbs).where(same).values(kept=True, used=now))


def find_files(
    catalogue: Database, generation: Generation, wanted: Collection[bytes]
) -> dict[bytes, bytes]:
    """Returns the SHA-256 of those of the files `wanted`, as the protocol calls them, that were
    uploaded."""
    query = select(xet_files.c.hash, xet_files.c.sha256)
    mine = query.where(xet_files.c.generation_id == generation.id)
    with catalogue.reading() as connection:
        found = by_digest(connection, mine, wanted, xet_files.c.hash)
        return {row.hash: row.sha256 for row in found}


def add_files(
    catalogue: Database, generation: Generation, new: Sequence[NewFile], now: float
) -> None:
    """Records files that have been stored, and that xorbs can be read from them from now on."""
    mine = {"generation_id": generation.id}
    values = [mine | {"hash": f.hash, "sha256": f.sha256, "bytes": f.bytes} for f in new]
    query = select(xet_files.c.hash, xet_files.c.id)
    query = query.where(xet_files.c.generation_id == generation.id)
    with catalogue.writing() as connection:
        for batch in batches(values):
            catalogue.add_once(connection, xet_files, batch)
        found = by_digest(connection, query, [file.hash for file in new], xet_files.c.hash)
        ids = {row.hash: row.id for row in found}
        rows = [
            {
                "xorb_id": use.xorb_id,
                "first": use.first,
                "file_id": ids[file.hash],
                "offset": use.offset,
                "stop": use.stop,
            }
            for file in new
            for use in file.uses
        ]
        for batch in batches(rows):
            catalogue.add_once(connection, xet_places, batch)
        _touch(connection, {use.xorb_id for file in new for use in file.uses}, now)


def use_xorbs(catalogue: Database, ids: Collection[int], now: float) -> None:
    """Records that a client counts on these xorbs now."""
    with catalogue.writing() as connection:
        _touch(connection, ids, now)


def places_of(catalogue: Database, xorb_id: int, chunk: int) -> list[PlaceRow]:
    """Returns where a chunk of a xorb, and those that follow it there, are found in files."""
    query = (
        select(xet_places.c.first, xet_places.c.stop, xet_places.c.offset, xet_files.c.sha256)
        .join(xet_files, xet_files.c.id == xet_places.c.file_id)
        .where(
            xet_places.c.xorb_id == xorb_id,
            xet_places.c.first <= chunk,
            xet_places.c.stop > chunk,
        )
        .order_by(xet_places.c.stop.desc())
    )
    with catalogue.reading() as connection:
        return [PlaceRow(*row) for row in connection.execute(query)]


def release_covered(
    catalogue: Database,
    generation: Generation,
    ids: Collection[int],
    prefixes: Sequence[str],
    now: float,
) -> list[XorbRow]:
    """Marks those of the xorbs as no longer kept that can be read whole from files that are there;
    returns them, their objects being garbage now. `prefixes`: as open_generation."""
    present = _present_files(generation, prefixes, now)
    with catalogue.writing() as connection:
        released = []
        for batch in batches(list(ids)):
            kept = xet_xorbs.c.id.in_(batch) & xet_xorbs.c.kept
            rows = {row.id: XorbRow(*row) for row in connection.execute(_xorbs().where(kept))}
            query = select(xet_places).where(
                xet_places.c.xorb_id.in_(rows), xet_places.c.file_id.in_(present)
            )
            found = connection.execute(query.order_by(xet_places.c.xorb_id, xet_places.c.first))
            for xorb_id, places in groupby(found, lambda place: place.xorb_id):
                if _covers(((p.first, p.stop) for p in places), rows[xorb_id].chunks):
                    released.append(rows[xorb_id])
        for row in released:
            gone = update(xet_xorbs).where(xet_xorbs.c.id == row.id).values(kept=False)
            connection.execute(gone)
        return released


# Chunks to ask by


def add_marks(catalogue: Database, marks: Collection[tuple[int, bytes]]) -> None:
    """Records chunks by which a client may ask for xorbs, each with the id of one."""
    with catalogue.writing() as connection:
        rows = [{"hash": mark, "xorb_id": xorb_id} for xorb_id, mark in set(marks)]
        for batch in batches(rows):
            catalogue.add_once(connection, xet_marks, batch)


def find_marked(catalogue: Database, generation: Generation, mark: bytes) -> XorbRow | None:
    """Returns the xorb last used that has that chunk, if clients may ask by it."""
    query = (
        _xorbs()
        .join(xet_marks, xet_marks.c.xorb_id == xet_xorbs.c.id)
        .where(xet_marks.c.hash == mark, xet_xorbs.c.generation_id == generation.id)
        .order_by(xet_xorbs.c.used.desc())
        .limit(1)
    )
    with catalogue.reading() as connection:
        row = connection.execute(query).first()
        return None if row is None else XorbRow(*row)


# Collection


def forget_xorbs(catalogue: Database, unused_since: float, unnamed_since: float) -> None:
    """Forgets the xorbs that were last used earlier than `unused_since`, those that no file was
    made of if earlier than `unnamed_since`, and the files that are of no use any more."""
    named = exists().where(xet_places.c.xorb_id == xet_xorbs.c.id)
    unused = xet_xorbs.c.used < unused_since
    unnamed = (xet_xorbs.c.used < unnamed_since) & ~named
    useful = exists().where(xet_places.c.file_id == xet_files.c.id)
    with catalogue.writing() as connection:
        gone = delete(xet_xorbs).where(unused | unnamed).returning(xet_xorbs.c.id)
        if connection.execute(gone).all():
            connection.execute(delete(xet_files).where(~useful))


def forget_ended(catalogue: Database, ended_since: float) -> None:
    """Forgets what was sent to generations that ended earlier than `ended_since`; its objects are
    garbage then."""
    over = select(xet_generations.c.id).where(xet_generations.c.ended < ended_since)
    with catalogue.writing() as connection:
        for table in (xet_xorbs, xet_files):
            connection.execute(delete(table).where(table.c.generation_id.in_(over)))


def list_generations(catalogue: Database) -> dict[str, bool]:
    """Returns the names of all generations, and whether each is still some owner's present one."""
    with catalogue.reading() as connection:
        rows = connection.execute(select(xet_generations.c.name, xet_generations.c.owner))
        return {row.name: row.owner is not None for row in rows}


def forget_generations(catalogue: Database, names: Collection[str]) -> None:
    """Removes generations that have ended and that no object is left of."""
    ended = xet_generations.c.owner.is_(None)
    with catalogue.writing() as connection:
        for batch in batches(list(names)):
            gone = delete(xet_generations).where(ended, xet_generations.c.name.in_(batch))
            connection.execute(gone)


def list_xorbs(catalogue: Database) -> Iterator[tuple[str, bytes, bool]]:
    """Yields the generation's name, the hash and `kept` of every xorb."""
    query = select(xet_generations.c.name, xet_xorbs.c.hash, xet_xorbs.c.kept).join(
        xet_generations, xet_generations.c.id == xet_xorbs.c.generation_id
    )
    with catalogue.reading() as connection:
        for row in connection.execute(query):
            yield row.name, row.hash, row.kept


def _generation(catalogue: Database, condition: Any) -> Generation | None:
    # What ended before it was noted whose it was has nothing left.
    condition &= xet_generations.c.namespace.is_not(None)
    with catalogue.reading() as connection:
        row = connection.execute(select(xet_generations).where(condition)).first()
        return None if row is None else Generation(row.id, row.name, row.namespace)


def _xorbs() -> Any:
    *columns, sent = (xet_xorbs.c[name] for name in XorbRow.__slots__)
    return select(*columns, func.coalesce(sent, xet_xorbs.c.bytes).label("sent"))


def _touch(connection: Connection, ids: Collection[int], now: float) -> None:
    for batch in batches(list(ids)):
        connection.execute(update(xet_xorbs).where(xet_xorbs.c.id.in_(batch)).values(used=now))


def _has_losses(
    catalogue: Database, generation: Generation, prefixes: Sequence[str], now: float
) -> bool:
    """Says whether some xorb is neither kept nor to be read whole from files that are there."""
    present = _present_files(generation, prefixes, now)
    query = (
        select(xet_xorbs.c.id, xet_xorbs.c.chunks, xet_places.c.first, xet_places.c.stop)
        .select_from(xet_xorbs)
        .outerjoin(
            xet_places,
            (xet_places.c.xorb_id == xet_xorbs.c.id) & xet_places.c.file_id.in_(present),
        )
        .where(xet_xorbs.c.generation_id == generation.id, ~xet_xorbs.c.kept)
        .order_by(xet_xorbs.c.id, xet_places.c.first)
    )
    with catalogue.reading() as connection:
        for (_, chunks), found in groupby(connection.execute(query), lambda r: (r.id, r.chunks)):
            places = ((r.first, r.stop) for r in found if r.first is not None)
            if not _covers(places, chunks):
                return True
    return False


def _present_files(generation: Generation, prefixes: Sequence[str], now: float) -> Any:
    """The ids of the generation's files that a repo of its owner has, in a commit or loose."""
    in_commit = (
        exists()
        .where(hashes.c.sha256 == xet_files.c.sha256)
        .where(files.c.digest == hashes.c.digest)
        .where(commits.c.id == files.c.commit_id)
        .where(repos.c.id == commits.c.repo_id)
        .where(_begins(repos.c.name, prefixes))
    )
    loose = exists().where(
        loose_files.c.sha256 == xet_files.c.sha256,
        loose_files.c.expires > now,
        _begins(loose_files.c.repo, prefixes),
    )
    mine = xet_files.c.generation_id == generation.id
    return select(xet_files.c.id).where(mine, or_(in_commit, loose))


def _begins(name: Any, prefixes: Sequence[str]) -> Any:
    # Not LIKE, which is blind to case in SQLite.
    return or_(*(func.substr(name, 1, len(prefix)) == prefix for prefix in prefixes))


def _covers(places: Iterable[tuple[int, int]], chunks: int) -> bool:
    """Says whether ranges, in order of their start, leave no gap in [0, chunks)."""
    end = 0
    for first, stop in places:
        if first > end:
            break
        end = max(end, stop)
    return end >= chunks
