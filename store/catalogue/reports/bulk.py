"""All that reports add up, read from the catalogue in one transaction: every chunk, every commit,
and which needs which."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, func, select

from ..tables.schema import (
    chunks,
    commit_chunks,
    commits,
    files,
    loose_chunks,
    loose_files,
    refs,
    repos,
)
from .columns import Integers, read_lists, read_table
from .needs import Needs, Positions, make_needs, read_edges

_DTYPES = 512


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
    """Every chunk that has a frame, (n,) each, by ascending id. `needs` is what their frames need;
    `dtype` is -1 where it is not known; `pack` is the id of the pack."""

    id: Integers
    pack: Integers
    frame_bytes: Integers
    raw_bytes: Integers
    codec: NDArray[np.int16]
    dtype: NDArray[np.int16]
    needs: Needs

    def find(self, ids: Integers) -> Positions:
        """Returns the positions of chunks, all of which there are, by their ids."""
        return find_positions(self.id, ids)

    def __len__(self) -> int:
        return len(self.id)


@dataclass(frozen=True, slots=True, eq=False)
class Ledger:
    """`commits` by repo and age. References, (m,) each: `commit` and `chunk` are positions, `uses`
    is as in commit_chunks. `loose`: positions of the chunks that uploads have, each once."""

    chunks: Chunks
    commits: list[CommitLine]
    commit: Positions
    chunk: Positions
    uses: NDArray[np.int32]
    loose: Positions


def read_ledger(connection: Connection) -> Ledger:
    """Reads it; takes 40 bytes of memory a chunk and 12 a reference, twice that on the way."""
    table = _read_chunks(connection)
    lines = _read_commits(connection)
    commit, chunk, uses = _read_uses(connection, lines, table)
    return Ledger(table, lines, commit, chunk, uses, read_loose(connection, table.id))


def read_loose(
    connection: Connection, ids: Integers, *, without: Collection[str] = (), now: float = 0.0
) -> Positions:
    """Returns the positions among `ids` of chunks that uploads have, each once, but for uploads to
    the repos `without` and those that have expired by `now`."""
    query = select(loose_chunks.c.chunk_id).join(loose_files).distinct()
    kept = query.where(loose_files.c.expires > now, loose_files.c.repo.not_in(without))
    return find_positions(ids, np.fromiter(connection.scalars(kept), np.int64))


def find_positions(ids: Integers, wanted: Integers) -> Positions:
    """Returns where each of `wanted` stands among the ascending `ids`."""
    if ids.size and ids[-1] < 4 * ids.size:
        # Ids that were counted up leave few gaps: looking them up is quicker than searching.
        place = np.empty(ids[-1] + 1, np.int32)
        place[ids] = np.arange(ids.size, dtype=np.int32)
        return place[wanted]
    return np.searchsorted(ids, wanted).astype(np.int32)


def _read_chunks(connection: Connection) -> Chunks:
    c = chunks.c
    # Codec and dtype, -1 for none, in one number: each column takes its time.
    facts = c.codec * _DTYPES + func.coalesce(c.dtype, -1) + 1
    columns = read_table(connection, c.id, (c.id, c.pack_id, c.frame_bytes, c.raw_bytes, facts))
    if np.any(columns[0][1:] < columns[0][:-1]):
        order = np.argsort(columns[0], kind="stable")
        columns = [column[order] for column in columns]
    id_, pack, frame_bytes, raw_bytes, fact = columns
    codec, dtype = (fact // _DTYPES).astype(np.int16), (fact % _DTYPES - 1).astype(np.int16)
    dependent, source = (find_positions(id_, ids) for ids in read_edges(connection))
    needs = make_needs(len(id_), dependent, source)
    return Chunks(id_, pack, frame_bytes, raw_bytes, codec, dtype, needs)


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
    connection: Connection, lines: list[CommitLine], table: Chunks
) -> tuple[Positions, Positions, NDArray[np.int32]]:
    position = {line.id: i for i, line in enumerate(lines)}
    ids, uses = [np.empty(0, np.int64)], [np.empty(0, np.int32)]
    owners, counts = [], []
    columns = (commit_chunks.c.chunk_id, commit_chunks.c.uses)
    for id_, (chunk, use) in read_lists(connection, commit_chunks.c.commit_id, columns):
        owners.append(position[id_])
        counts.append(len(chunk))
        ids.append(chunk)
        uses.append(use.astype(np.int32))
    every = np.concatenate(ids)
    del ids
    commit = np.repeat(np.array(owners, np.int32), counts)
    return commit, table.find(every), np.concatenate(uses)
