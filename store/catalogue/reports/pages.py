"""What pages of lists show: a page of repos, of commits, the frames of a page of tensors.

Every query takes the rows of one page through an index, however many there are.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Integer, func, literal, select, true

from ..edges import edge_columns, needed_by
from ..repo_facts import created_place
from ..repo_list import Order, Wanted, find_repos
from ..tables.database import Database
from ..tables.rows import CommitRow, batches, by_digest, commit_columns
from ..tables.schema import chunks, commit_chunks, commits, files, refs, repos
from ..visibility import EVERYTHING, Scope

MOST_COUNTED = 10_000
"""How far the repos of a list are counted."""


@dataclass(frozen=True, slots=True)
class RepoLine:
    """One repo of a page: its newest commit's files, their bytes, and the bytes of the frames
    that hold them, each once, without bases; None for whoever may not read all repos, on which
    frames depend. `cursor` is its place in the order."""

    cursor: str
    name: str
    branches: int
    files: int
    bytes: int
    frame_bytes: int | None
    updated: float


@dataclass(frozen=True, slots=True)
class FrameRow:
    """The frame of a chunk: codec id, its bytes and those of the chunk, digests of its inputs."""

    codec: int
    frame_bytes: int
    raw_bytes: int
    inputs: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class CodecRow:
    """All frames of a commit that one codec made, each once: how many, raw and frame bytes."""

    codec: int
    chunks: int
    raw_bytes: int
    frame_bytes: int


def list_page(
    catalogue: Database,
    *,
    order: Order,
    search: str = "",
    cursor: str | None = None,
    backwards: bool = False,
    limit: int,
    seen: Scope = EVERYTHING,
) -> list[RepoLine]:
    """Returns up to `limit` repos `seen` whose name holds `search`, in `order`: those after
    `cursor`, or with `backwards` the last ones before it. Raises ValueError for a cursor of another
    order, or of a commit that is gone."""
    wanted = Wanted(seen, words=(search,) if search else ())
    descending = (order == "updated") != backwards
    frames = seen.everything
    lines = list_lines(
        catalogue, wanted, order, limit, cursor, descending=descending, frames=frames
    )
    return lines[::-1] if backwards else lines


def list_lines(
    catalogue: Database,
    wanted: Wanted,
    order: Order,
    limit: int,
    cursor: str | None = None,
    *,
    descending: bool = False,
    frames: bool = False,
) -> list[RepoLine]:
    """Returns up to `limit` repos after `cursor`; with `frames` these are counted, too. Raises
    ValueError as list_page does."""
    with catalogue.reading() as connection:
        bound: Any = cursor
        if cursor is not None and order == "updated":
            bound = _commit_id(connection, cursor, wanted.seen)
        elif cursor is not None and order == "created":
            bound = created_place(connection, cursor, wanted.seen)
        found = find_repos(connection, wanted, order, limit, bound, descending=descending)
        return _lines(connection, found, order, frames=frames)


def count_repos(catalogue: Database, search: str = "", seen: Scope = EVERYTHING) -> int:
    """Returns how many repos `seen` have `search` in their name, MOST_COUNTED for any more."""
    named = repos.c.name.icontains(search, autoescape=True) if search else true()
    some = select(repos.c.id).where(named, seen.condition()).limit(MOST_COUNTED)
    query = select(func.count()).select_from(some.subquery("counted"))
    with catalogue.reading() as connection:
        return int(connection.scalar(query) or 0)


def list_history(catalogue: Database, repo: str, oid: str, limit: int) -> list[CommitRow]:
    """Returns up to `limit` commits: that of the id `oid` and those it came from, newest first."""
    parent = select(
        commits.c.repo_id, commits.c.oid, commits.c.parent, literal(0, Integer).label("depth")
    )
    parent = parent.join(repos).where(repos.c.name == repo, commits.c.oid == oid)
    chain = parent.cte("chain", recursive=True)
    above = commits.alias("above")
    chain = chain.union_all(
        select(above.c.repo_id, above.c.oid, above.c.parent, chain.c.depth + 1)
        .join(chain, (above.c.repo_id == chain.c.repo_id) & (above.c.oid == chain.c.parent))
        .where(chain.c.depth + 1 < limit)
    )
    query = (
        commit_columns()
        .join(chain, (chain.c.repo_id == commits.c.repo_id) & (chain.c.oid == commits.c.oid))
        .order_by(chain.c.depth)
    )
    with catalogue.reading() as connection:
        return [CommitRow(*row) for row in connection.execute(query)]


def frames_of(catalogue: Database, digests: Collection[bytes]) -> dict[bytes, FrameRow]:
    """Returns the frames of `digests`; unknown ones are left out."""
    inputs, _ = edge_columns()
    columns = select(
        chunks.c.digest, chunks.c.codec, chunks.c.frame_bytes, chunks.c.raw_bytes, inputs
    )
    with catalogue.reading() as connection:
        rows = by_digest(connection, columns, digests)
        return {digest: FrameRow(*rest) for digest, *rest in rows}


def first_commits_with(catalogue: Database, digests: Collection[bytes]) -> dict[bytes, CommitRow]:
    """Returns for each of `digests` the first commit that has it, of those that are still there;
    chunks that no commit has are left out."""
    first = func.min(commit_chunks.c.commit_id)
    query = (
        select(chunks.c.digest, first.label("commit_id"))
        .join(commit_chunks, commit_chunks.c.chunk_id == chunks.c.id)
        .group_by(chunks.c.digest)
    )
    with catalogue.reading() as connection:
        found = {row.digest: row.commit_id for row in by_digest(connection, query, digests)}
        rows = {
            commit_id: CommitRow(*row)
            for batch in batches(list(set(found.values())))
            for *row, commit_id in connection.execute(
                commit_columns(commits.c.id).where(commits.c.id.in_(batch))
            )
        }
    return {digest: rows[commit_id] for digest, commit_id in found.items()}


def codecs_of(catalogue: Database, repo: str, oid: str) -> list[CodecRow]:
    """Returns what each codec made of a commit, the most raw bytes first."""
    raw = func.sum(chunks.c.raw_bytes)
    query = (
        select(chunks.c.codec, func.count(), raw, func.sum(chunks.c.frame_bytes))
        .where(chunks.c.id.in_(_chunks_of(repo, oid)))
        .group_by(chunks.c.codec)
        .order_by(raw.desc())
    )
    with catalogue.reading() as connection:
        return [CodecRow(c, n, int(r), int(f)) for c, n, r, f in connection.execute(query)]


def base_bytes(catalogue: Database, repo: str, oid: str) -> int:
    """Returns the frame bytes of what a commit's frames need and it does not hold."""
    mine = _chunks_of(repo, oid)
    with catalogue.reading() as connection:
        held = set(connection.scalars(mine))
        needed = list(connection.scalars(needed_by(mine)))
        rows = by_digest(connection, select(chunks.c.id, chunks.c.frame_bytes), needed)
    return sum({row.id: row.frame_bytes for row in rows if row.id not in held}.values())


def _commit_id(connection: Connection, cursor: str, seen: Scope) -> int:
    """Returns the id of the commit that a cursor names. The cursor does not hold it: it tells how
    many commits others made."""
    repo, _, oid = cursor.rpartition("@")
    query = select(commits.c.id).join(repos).where(repos.c.name == repo, commits.c.oid == oid)
    found = connection.scalar(query.where(seen.condition()))
    if found is None:
        raise ValueError(f"{cursor} is no place in a list")
    return found


def _chunks_of(repo: str, oid: str) -> Any:
    return (
        select(commit_chunks.c.chunk_id)
        .join(commits, commits.c.id == commit_chunks.c.commit_id)
        .join(repos, repos.c.id == commits.c.repo_id)
        .where(repos.c.name == repo, commits.c.oid == oid)
    )


def _lines(
    connection: Connection, found: Collection[Any], order: Order, *, frames: bool
) -> list[RepoLine]:
    """Adds to rows (repo id, name, commit id) what the page shows: a query for each column."""
    repo_ids, commit_ids = [row.id for row in found], [row.commit_id for row in found]
    branches = _pairs(
        connection,
        select(refs.c.repo_id, func.count())
        .where(refs.c.repo_id.in_(repo_ids))
        .group_by(refs.c.repo_id),
    )
    columns = (commits.c.id, commits.c.created, commits.c.oid)
    made = _pairs(connection, select(*columns).where(commits.c.id.in_(commit_ids)))
    totals = _pairs(
        connection,
        select(files.c.commit_id, func.count(), func.sum(files.c.bytes))
        .where(files.c.commit_id.in_(commit_ids))
        .group_by(files.c.commit_id),
    )
    stored = _pairs(
        connection,
        select(commit_chunks.c.commit_id, func.sum(chunks.c.frame_bytes))
        .join(chunks, chunks.c.id == commit_chunks.c.chunk_id)
        .where(commit_chunks.c.commit_id.in_(commit_ids if frames else ()))
        .group_by(commit_chunks.c.commit_id),
    )
    return [
        RepoLine(
            cursor=f"{row.name}@{made[row.commit_id][1]}" if order == "updated" else row.name,
            name=row.name,
            branches=branches[row.id][0],
            files=totals.get(row.commit_id, (0, 0))[0],
            bytes=int(totals.get(row.commit_id, (0, 0))[1]),
            frame_bytes=int(stored.get(row.commit_id, (0,))[0]) if frames else None,
            updated=made[row.commit_id][0],
        )
        for row in found
    ]


def _pairs(connection: Connection, query: Any) -> dict[Any, tuple[Any, ...]]:
    return {key: tuple(values) for key, *values in connection.execute(query)}
