"""Files that were uploaded for a repo and are kept for a while, whether a commit names them or not.

A collection takes nothing of them before they expire (store/catalogue/dependencies.py).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from ...errors import NotFound
from ..dependencies import hold_bases, hold_store
from ..owners import queue_by_digest
from ..tables.database import Database
from ..tables.rows import batches
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


def add_loose(
    catalogue: Database,
    row: LooseRow,
    git_sha1: bytes,
    digests: Collection[bytes],
    key: str,
    publish: Callable[[], Any] = lambda: None,
) -> None:
    """Records an uploaded file and what it needs, as the journal entry `key` says.

    `publish` stores manifest and entry, inside the transaction (Catalogue.add_commit). The same
    file for the same repo is kept from then on for as long as `row` says. Raises NotFound when a
    chunk, or a base of one, is gone.
    """
    mine = (loose_files.c.sha256 == row.sha256) & (loose_files.c.repo == row.repo)
    with catalogue.writing() as connection:
        hold_store(connection)
        if not catalogue.take_entry(connection, key):
            return
        connection.execute(delete(loose_files).where(mine))
        values = {name: getattr(row, name) for name in row.__slots__}
        made = connection.execute(insert(loose_files).values(values)).inserted_primary_key
        assert made is not None
        _add_uses(connection, made[0], digests)
        queue_by_digest(connection, digests)
        hashes = HashRow(row.digest, row.sha256, git_sha1)
        add_hashes(connection, catalogue.add_once, [hashes])
        publish()


def find_loose(catalogue: Database, sha256: bytes, now: float) -> list[LooseRow]:
    """Returns the uploads of that SHA-256 that have not expired, the longest kept first."""
    query = (
        _columns()
        .where(loose_files.c.sha256 == sha256, loose_files.c.expires > now)
        .order_by(loose_files.c.expires.desc())
    )
    with catalogue.reading() as connection:
        return [LooseRow(*row) for row in connection.execute(query)]


def expire_loose(catalogue: Database, now: float) -> int:
    """Gives up the uploads that have expired; returns how many there were."""
    with catalogue.writing() as connection:
        hold_store(connection, alone=True)
        gone = delete(loose_files).where(loose_files.c.expires <= now).returning(loose_files.c.id)
        return len(connection.execute(gone).all())


def _columns() -> Any:
    return select(*(loose_files.c[name] for name in LooseRow.__slots__))


def _add_uses(connection: Connection, loose_id: int, digests: Collection[bytes]) -> None:
    for batch in batches(list(digests)):
        used = select(chunks.c.id).where(chunks.c.digest.in_(batch))
        rows = [{"loose_id": loose_id, "chunk_id": i} for i in connection.scalars(used)]
        if len(rows) != len(batch) or not hold_bases(connection, batch):
            raise NotFound("a chunk of this upload has no frame in the catalogue")
        connection.execute(insert(loose_chunks), rows)
