"""Files that were uploaded for a repo and are kept for a while, whether a commit names them or not.

A collection takes nothing of them before they expire (store/catalogue/dependencies.py).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from ...errors import NotFound
from ..dependencies import hold_inputs, hold_store
from ..owners import queue_by_digest
from ..tables.database import Database, MakeEntry
from ..tables.rows import batches, by_digest
from ..tables.schema import chunks, loose_chunks, loose_files
from .hashes import HashRow, add_hashes


@dataclass(frozen=True, slots=True)
class LooseRow:
    """An uploaded file: its hashes, the repo it is for, its bytes, the digest of its recipe, the
    manifest that has but this file, and until when it is kept (Unix seconds)."""

    sha256: bytes
    repo: str
    digest: bytes
    recipe: bytes
    bytes: int
    manifest: str
    expires: float


@dataclass(frozen=True, slots=True)
class NewLoose:
    """An upload to record: its row, its SHA-1 as a git blob, and the chunks it needs."""

    row: LooseRow
    git_sha1: bytes
    digests: Collection[bytes]


def add_loose(catalogue: Database, new: Sequence[NewLoose], key: str | MakeEntry) -> None:
    """Records uploaded files, each of another content or for another repo, and what they need, as
    the journal entry `key` says; `key` may write one entry for each.

    The same file for the same repo is kept from then on for as long as its row says. Raises
    NotFound when a chunk, or a base of one, is gone.
    """
    with catalogue.writing() as connection:
        hold_store(connection)
        if not catalogue.take_entry(connection, key):
            return
        _add_uses(connection, new, _replace(connection, [each.row for each in new]))
        queue_by_digest(connection, {d for each in new for d in each.digests})
        told = [HashRow(each.row.digest, each.row.sha256, each.git_sha1) for each in new]
        add_hashes(connection, catalogue.add_once, told)
        catalogue.write_entry(connection, key)


def find_loose(catalogue: Database, sha256: Collection[bytes], now: float) -> list[LooseRow]:
    """Returns the uploads of these SHA-256 that have not expired, those of a batch of them longest
    kept first."""
    query = _columns().where(loose_files.c.expires > now).order_by(loose_files.c.expires.desc())
    with catalogue.reading() as connection:
        found = by_digest(connection, query, sha256, loose_files.c.sha256)
        return [LooseRow(*row) for row in found]


def expire_loose(catalogue: Database, now: float) -> int:
    """Gives up the uploads that have expired; returns how many there were."""
    with catalogue.writing() as connection:
        hold_store(connection, exclusive=True)
        gone = delete(loose_files).where(loose_files.c.expires <= now).returning(loose_files.c.id)
        return len(connection.execute(gone).all())


def drop_loose(catalogue: Database, repo: str) -> None:
    """Gives up the uploads for a repo at once."""
    with catalogue.writing() as connection:
        hold_store(connection, exclusive=True)
        connection.execute(delete(loose_files).where(loose_files.c.repo == repo))


def _columns() -> Any:
    return select(*(loose_files.c[name] for name in LooseRow.__slots__))


def _replace(connection: Connection, rows: Sequence[LooseRow]) -> dict[tuple[bytes, str], int]:
    """Puts uploads on record in place of earlier ones; returns their ids by SHA-256 and repo."""
    for repo in {row.repo for row in rows}:
        for batch in batches([row.sha256 for row in rows if row.repo == repo]):
            mine = loose_files.c.sha256.in_(batch) & (loose_files.c.repo == repo)
            connection.execute(delete(loose_files).where(mine))
    made = insert(loose_files).returning(loose_files.c.sha256, loose_files.c.repo, loose_files.c.id)
    values = [{name: getattr(row, name) for name in row.__slots__} for row in rows]
    return {(made_of, repo): made_id for made_of, repo, made_id in connection.execute(made, values)}


def _add_uses(
    connection: Connection, new: Sequence[NewLoose], made: dict[tuple[bytes, str], int]
) -> None:
    digests = {digest for each in new for digest in each.digests}
    query = select(chunks.c.digest, chunks.c.id)
    ids = {row.digest: row.id for row in by_digest(connection, query, digests)}
    if len(ids) != len(digests) or not hold_inputs(connection, digests):
        raise NotFound("a chunk of this upload has no frame in the catalogue")
    rows = [
        {"loose_id": made[each.row.sha256, each.row.repo], "chunk_id": ids[digest]}
        for each in new
        for digest in set(each.digests)
    ]
    for batch in batches(rows):
        connection.execute(insert(loose_chunks), batch)
