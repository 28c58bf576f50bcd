"""All that reports add up, read from the catalogue in one transaction: every chunk, every commit,
and which needs which."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from sqlalchemy import Connection, func, select

from .columns import Integers, read_lists, read_table
from .schema import chunks, commit_chunks, commits, files, loose_chunks, loose_files, refs, repos


@dataclass(frozen=True, slots=True)
class CommitLine:
    """A commit: `branches` point to it, `files` it has, of `logical` bytes."""

    id: int
    repo: str
    oid: str
    created: float
    files: int
    logical: int
    branches: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Chunks:
    """Every chunk that has a frame, (n,) each, by ascending id. `base` is the position of a delta's
    base, -1 for none; `dtype` is -1 where it is not known; `pack` is the id of the pack."""

    id: Integers
    pack: Integers
    frame_bytes: Integers
    raw_bytes: Integers
    codec: Integers
    dtype: Integers
    base: Integers

    def __len__(self) -> int:
        return len(self.id)


@dataclass(frozen=True, slots=True, eq=False)
class Ledger:
    """`commits` by repo and age. References, (m,) each: `commit` and `chunk` are positions, `uses`
    is as in commit_chunks. `loose`: positions of the chunks that uploads have, each once."""

    chunks: Chunks
    commits: list[CommitLine]
    commit: Integers
    chunk: Integers
    uses: Integers
    loose: Integers


def read_ledger(connection: Connection) -> Ledger:
    """Reads it; takes some 200 bytes of memory a chunk and 100 a reference."""
    table = _read_chunks(connection)
    lines = _read_commits(connection)
    owners, ids, uses = _read_uses(connection, {c.id: i for i, c in enumerate(lines)})
    chunk = np.searchsorted(table.id, ids)
    return Ledger(table, lines, owners, chunk, uses, read_loose(connection, table.id))


def read_loose(
    connection: Connection, ids: Integers, *, without: Collection[str] = (), now: float = 0.0
) -> Integers:
    """Returns the positions among `ids` of chunks that uploads have, each once, but for uploads to
    the repos `without` and those that have expired by `now`."""
    query = select(loose_chunks.c.chunk_id).join(loose_files).distinct()
    kept = query.where(loose_files.c.expires > now, loose_files.c.repo.not_in(without))
    return np.searchsorted(ids, np.fromiter(connection.scalars(kept), np.int64))


def _read_chunks(connection: Connection) -> Chunks:
    c = chunks.c
    facts = (c.id, c.pack_id, c.frame_bytes, c.raw_bytes, c.codec, func.coalesce(c.dtype, -1))
    columns = read_table(connection, c.id, facts)
    order = np.argsort(columns[0], kind="stable")
    id_, pack, frame_bytes, raw_bytes, codec, dtype = (column[order] for column in columns)
    base = _read_bases(connection, id_)
    return Chunks(id_, pack, frame_bytes, raw_bytes, codec, dtype, base)


def _read_bases(connection: Connection, ids: Integers) -> Integers:
    """Positions of the bases, for chunks by ascending id. Both queries only read indexes."""
    base = np.full(len(ids), -1, np.int64)
    distinct = select(chunks.c.base).where(chunks.c.base.is_not(None)).distinct()
    query = select(chunks.c.digest, chunks.c.id).where(chunks.c.digest.in_(distinct))
    place = {row.digest: row.id for row in connection.execute(query)}
    on_bases = chunks.c.base.is_not(None)
    for digest, (deltas,) in read_lists(connection, chunks.c.base, [chunks.c.id], on_bases):
        # A base without a frame is for `check` to report.
        if digest in place:
            base[np.searchsorted(ids, deltas)] = np.searchsorted(ids, place[digest])
    return base


def _read_commits(connection: Connection) -> list[CommitLine]:
    each = select(files.c.commit_id, func.count(), func.sum(files.c.bytes))
    sums = {
        commit: (count, int(size))
        for commit, count, size in connection.execute(each.group_by(files.c.commit_id))
    }
    branches: dict[int, list[str]] = {}
    named = select(refs.c.commit_id, refs.c.name).order_by(refs.c.name)
    for commit, name in connection.execute(named):
        branches.setdefault(commit, []).append(name)
    query = select(commits.c.id, repos.c.name, commits.c.oid, commits.c.created).join(repos)
    rows = connection.execute(query).all()
    # Sorted here: how databases sort names depends on where they were set up.
    return [
        CommitLine(
            *(row.id, row.name, row.oid, row.created),
            *sums.get(row.id, (0, 0)),
            tuple(branches.get(row.id, ())),
        )
        for row in sorted(rows, key=lambda row: (row.name, row.created, row.oid))
    ]


def _read_uses(
    connection: Connection, positions: dict[int, int]
) -> tuple[Integers, Integers, Integers]:
    owners, ids, uses = [np.empty(0, np.int64)], [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    columns = (commit_chunks.c.chunk_id, commit_chunks.c.uses)
    for commit, (chunk, use) in read_lists(connection, commit_chunks.c.commit_id, columns):
        owners.append(np.full(len(chunk), positions[commit]))
        ids.append(chunk)
        uses.append(use)
    return np.concatenate(owners), np.concatenate(ids), np.concatenate(uses)
