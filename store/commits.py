"""The rows of a commit: itself, its files, and the chunks that they need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, insert, select

from .errors import NotFound
from .needs import hold_bases
from .rows import CommitRow, FileRow, batches
from .schema import chunks, commit_chunks, commits, files


def insert_commit(
    connection: Connection,
    repo_id: int | None,
    row: CommitRow,
    entries: Sequence[FileRow],
    uses: Mapping[bytes, int],
) -> int:
    """Writes a commit's rows unless they are there; returns its id.

    `uses` as in Catalogue.add_commit. Raises NotFound when a chunk of it, or a base of one, has no
    frame.
    """
    same = select(commits.c.id).where(commits.c.repo_id == repo_id, commits.c.oid == row.oid)
    present = connection.scalar(same)
    if present is not None:
        return present
    values = {
        "repo_id": repo_id,
        "oid": row.oid,
        "branch": row.branch,
        "parent": row.parent,
        "manifest": row.manifest,
        "base": row.base,
        "created": row.created,
        "title": row.title,
        "message": row.message,
        "author": row.author,
    }
    key = connection.execute(insert(commits).values(values)).inserted_primary_key
    assert key is not None
    commit_id = key[0]
    _add_files(connection, commit_id, entries)
    _add_uses(connection, commit_id, uses)
    return commit_id


def _add_files(connection: Connection, commit_id: int, entries: Sequence[FileRow]) -> None:
    rows = [
        {
            "commit_id": commit_id,
            "path": e.path,
            "bytes": e.bytes,
            "digest": e.digest,
            "recipe": e.recipe,
            "tensors": e.tensors,
            "format": e.format,
            "tensor_bytes": e.tensor_bytes,
            "inlined_bytes": e.inlined_bytes,
        }
        for e in entries
    ]
    if rows:
        connection.execute(insert(files), rows)


def _add_uses(connection: Connection, commit_id: int, uses: Mapping[bytes, int]) -> None:
    for batch in batches(list(uses)):
        used = select(chunks.c.id, chunks.c.digest).where(chunks.c.digest.in_(batch))
        rows = [
            {"commit_id": commit_id, "chunk_id": row.id, "uses": uses[row.digest]}
            for row in connection.execute(used)
        ]
        if len(rows) != len(batch) or not hold_bases(connection, batch):
            raise NotFound("a chunk that this commit needs has no frame in the catalogue")
        connection.execute(insert(commit_chunks), rows)
