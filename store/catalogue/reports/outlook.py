"""What the catalogue says of frames and manifests, for predictions of what a collection does."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, select

from ...packs import DELTA, DERIVED, PackEntry
from ..edges import edge_columns, replaces
from ..tables.rows import batches
from ..tables.schema import chunks, commits, loose_files, packs, repos, spares

_FRAME = (
    *(chunks.c.id, chunks.c.digest, chunks.c.offset, chunks.c.frame_bytes),
    *(chunks.c.raw_bytes, chunks.c.codec, chunks.c.dtype, *edge_columns()),
)


def other_manifests(
    connection: Connection, without: Collection[str], now: float, gone: Collection[int] = ()
) -> set[str]:
    """Returns the names of the manifests that commits and uploads of repos other than `without`
    have, but for uploads that have expired by `now`, and commits whose ids are `gone`."""
    of_commits = select(commits.c.id, commits.c.manifest).join(repos)
    rows = connection.execute(of_commits.where(repos.c.name.not_in(without)))
    kept = loose_files.c.repo.not_in(without), loose_files.c.expires > now
    of_uploads = select(loose_files.c.manifest).where(*kept).distinct()
    found = {row.manifest for row in rows if row.id not in gone}
    return found | set(connection.scalars(of_uploads))


def replacing_spares(connection: Connection) -> list[tuple[int, int]]:
    """Returns the spare frames that can take the place of the ones in use, as ids of their pack and
    chunk."""
    query = select(spares.c.pack_id, spares.c.chunk_id)
    query = query.join(chunks, chunks.c.id == spares.c.chunk_id).where(replaces(spares))
    return [(row.pack_id, row.chunk_id) for row in connection.execute(query)]


def frames_in_use(connection: Connection, pack_id: int) -> list[tuple[int, PackEntry]]:
    """Returns the frames of a pack that are in use, by place, with the ids of their chunks."""
    query = select(*_FRAME).where(chunks.c.pack_id == pack_id).order_by(chunks.c.offset)
    return [(row.id, _entry(row)) for row in connection.execute(query)]


def frames_of(connection: Connection, chunk_ids: Collection[int]) -> list[PackEntry]:
    """Returns the frames in use of chunks, by chunk id."""
    query = select(*_FRAME).order_by(chunks.c.id)
    return [
        _entry(row)
        for batch in batches(sorted(chunk_ids))
        for row in connection.execute(query.where(chunks.c.id.in_(batch)))
    ]


def find_twin(connection: Connection, size: int, digests: list[bytes]) -> str | None:
    """Returns the name of a pack of `size` bytes that holds frames of just these chunks in this
    order. One that is there already is not written again."""
    for pack in connection.execute(select(packs.c.id, packs.c.name).where(packs.c.bytes == size)):
        used = select(chunks.c.offset, chunks.c.digest).where(chunks.c.pack_id == pack.id)
        spare = (
            select(spares.c.offset, chunks.c.digest)
            .join(chunks, chunks.c.id == spares.c.chunk_id)
            .where(spares.c.pack_id == pack.id)
        )
        rows = [tuple(row) for query in (used, spare) for row in connection.execute(query)]
        if [digest for _, digest in sorted(rows)] == digests:
            return pack.name
    return None


def _entry(row: Any) -> PackEntry:
    # Catalogues from before dtypes were kept do not know all.
    dtype = -1 if row.dtype is None else row.dtype
    facts = (row.digest, row.offset, row.frame_bytes, row.raw_bytes, row.codec)
    depth = row.level if DELTA < row.level < DERIVED else DELTA
    return PackEntry(*facts, dtype, row.inputs, row.level == DERIVED, depth)
