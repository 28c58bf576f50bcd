"""The rows of a commit: itself, its files, and the chunks that they need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, func, insert, select

from ..errors import NotFound
from .access.quotas import forget_usage
from .dependencies import hold_inputs, hold_store
from .owners import queue_new_owner
from .tables.database import Database
from .tables.rows import CommitRow, FileRow, batches, insert_rows
from .tables.schema import chunks, commit_chunks, commits, files, repos


def insert_commit(
    connection: Connection,
    repo_id: int | None,
    row: CommitRow,
    entries: Sequence[FileRow],
    uses: Mapping[bytes, int],
    *,
    partial: bool = False,
) -> int:
    """Writes a commit's rows unless they are there; returns its id.

    `uses` as in Catalogue.add_commit. Raises NotFound when a chunk of it, or a base of one, has no
    frame; with `partial` leaves out what is not there.
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
    _add_uses(connection, commit_id, uses, partial=partial)
    queue_new_owner(connection, commit_id)
    return commit_id


def complete_commit(
    catalogue: Database, row: CommitRow, entries: Sequence[FileRow], uses: Mapping[bytes, int]
) -> None:
    """Writes those rows of a commit that were left out when it was recorded in part. Raises
    NotFound when what they need is still not there."""
    same = select(commits.c.id).join(repos, repos.c.id == commits.c.repo_id)
    mine = same.where(repos.c.name == row.repo, commits.c.oid == row.oid)
    with catalogue.reading() as connection:
        whole = not _left_out(connection, connection.scalar(mine), entries, uses)
    if whole:
        return
    with catalogue.writing() as connection:
        hold_store(connection)
        # Whoever else completes it waits (PostgreSQL).
        commit_id = connection.scalar(mine.with_for_update(of=commits))
        if commit_id is None:
            raise NotFound("the commit was deleted meanwhile")
        forget_usage(connection, row.repo)
        left_files, left_uses = _left_out(connection, commit_id, entries, uses) or ([], {})
        _add_files(connection, commit_id, left_files)
        _add_uses(connection, commit_id, left_uses)
        queue_new_owner(connection, commit_id)


def commits_after(
    catalogue: Database, last: int | None, limit: int
) -> tuple[int, list[tuple[str, str]]]:
    """Returns repo and id of up to `limit` commits that were recorded after `last`, oldest first,
    and what to ask with the next time. For None there are none: from now on."""
    with catalogue.reading() as connection:
        if last is None:
            return connection.scalar(select(func.max(commits.c.id))) or 0, []
        found = select(commits.c.id, repos.c.name, commits.c.oid)
        found = found.join(repos, repos.c.id == commits.c.repo_id).where(commits.c.id > last)
        rows = connection.execute(found.order_by(commits.c.id).limit(limit)).all()
    return max((row.id for row in rows), default=last), [(row.name, row.oid) for row in rows]


def _left_out(
    connection: Connection,
    commit_id: int | None,
    entries: Sequence[FileRow],
    uses: Mapping[bytes, int],
) -> tuple[Sequence[FileRow], dict[bytes, int]] | None:
    """Returns the files and uses that a commit has no rows for, None where there are none."""
    used = select(chunks.c.digest).join(commit_chunks, commit_chunks.c.chunk_id == chunks.c.id)
    known = set(connection.scalars(used.where(commit_chunks.c.commit_id == commit_id)))
    any_file = select(files.c.id).where(files.c.commit_id == commit_id).limit(1)
    left_files = [] if connection.scalar(any_file) is not None else entries
    left_uses = {digest: use for digest, use in uses.items() if digest not in known}
    return (left_files, left_uses) if left_files or left_uses else None


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
    insert_rows(connection, files, rows)


def _add_uses(
    connection: Connection, commit_id: int, uses: Mapping[bytes, int], *, partial: bool = False
) -> None:
    for batch in batches(list(uses)):
        used = select(chunks.c.id, chunks.c.digest).where(chunks.c.digest.in_(batch))
        rows = [
            {"commit_id": commit_id, "chunk_id": row.id, "uses": uses[row.digest]}
            for row in connection.execute(used)
        ]
        whole = hold_inputs(connection, batch) and len(rows) == len(batch)
        if not whole and not partial:
            raise NotFound("a chunk that this commit needs has no frame in the catalogue")
        insert_rows(connection, commit_chunks, rows)
