"""Which repos rest on which: who came first with a base, and who uses it now.

Everything is told within a scope, as if there were no repos but those. What a chunk is coded
against depends on all repos: for a scope that is not everything a chunk stands on itself alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select

from ..edges import dependent_ids, has_inputs, is_input, root_of
from ..tables.database import Database
from ..tables.rows import batches
from ..tables.schema import chunks, commit_chunks, commits, repos, sketches
from ..visibility import Scope


@dataclass(frozen=True, slots=True)
class CentreRow:
    """A chunk of a commit by what it comes from: the digest of the first input of a derived one,
    else of a standalone chunk, its own where it is one; and its raw bytes."""

    centre: bytes
    raw_bytes: int


@dataclass(frozen=True, slots=True)
class UserRow:
    """A repo whose newest commit uses some of the centres asked for, with the raw bytes of the
    chunks that do."""

    repo: str
    raw_bytes: int


@dataclass(frozen=True, slots=True)
class SizeRow:
    """Raw and frame bytes of the newest commit of a repo, each chunk once."""

    raw_bytes: int
    frame_bytes: int


def centres_of(catalogue: Database, repo: str, seen: Scope) -> list[CentreRow]:
    """Returns the chunks with a telling sketch of a repo's newest commit."""
    joins, centre = [], chunks.c.digest
    if seen.everything:
        joins, root, source = root_of()
        centre = func.coalesce(source, root)
    query = (
        select(centre, chunks.c.raw_bytes)
        .select_from(repos)
        .join(commit_chunks, commit_chunks.c.commit_id == repos.c.newest)
        .join(chunks, chunks.c.id == commit_chunks.c.chunk_id)
        .join(sketches, sketches.c.chunk_id == chunks.c.id)
        .where(repos.c.name == repo, sketches.c.kind.is_not(None))
    )
    for table, condition in joins:
        query = query.outerjoin(table, condition)
    with catalogue.reading() as connection:
        return [CentreRow(*row) for row in connection.execute(query)]


def computed_from(catalogue: Database, repo: str, limit: int) -> list[CentreRow]:
    """Returns up to `limit` deltas of a repo's newest commit that others are computed from, by
    digest."""
    query = (
        select(chunks.c.digest, chunks.c.raw_bytes)
        .select_from(repos)
        .join(commit_chunks, commit_chunks.c.commit_id == repos.c.newest)
        .join(chunks, chunks.c.id == commit_chunks.c.chunk_id)
        .where(repos.c.name == repo, has_inputs(), is_input())
        .order_by(chunks.c.digest)
        .limit(limit)
    )
    with catalogue.reading() as connection:
        return [CentreRow(*row) for row in connection.execute(query)]


def first_repos(catalogue: Database, digests: Collection[bytes], seen: Scope) -> dict[bytes, str]:
    """Returns which repo's commit, of those still there, was the first to hold each chunk; those
    that no commit holds are left out."""
    first = (
        select(chunks.c.digest, func.min(commit_chunks.c.commit_id).label("commit_id"))
        .join(commit_chunks, commit_chunks.c.chunk_id == chunks.c.id)
        .join(commits, commits.c.id == commit_chunks.c.commit_id)
        .join(repos, repos.c.id == commits.c.repo_id)
        .where(chunks.c.digest.in_(digests), seen.condition())
        .group_by(chunks.c.digest)
        .subquery("first_use")
    )
    query = (
        select(first.c.digest, repos.c.name)
        .join(commits, commits.c.id == first.c.commit_id)
        .join(repos, repos.c.id == commits.c.repo_id)
    )
    with catalogue.reading() as connection:
        return {row.digest: row.name for row in connection.execute(query)}


def users_of(catalogue: Database, centres: Collection[bytes], seen: Scope) -> list[UserRow]:
    """Returns the repos whose newest commits hold or need `centres`, most bytes first."""
    with catalogue.reading() as connection:
        ids = set(connection.scalars(select(chunks.c.id).where(chunks.c.digest.in_(centres))))
        if seen.everything:
            ids |= dependent_ids(connection, centres)
        sums = _sum_uses(connection, sorted(ids))
        query = (
            select(repos.c.id, repos.c.name, commits.c.id.label("commit_id"))
            .join(commits, commits.c.repo_id == repos.c.id)
            .where(commits.c.id == repos.c.newest, seen.condition())
        )
        rows = [
            row
            for batch in batches(list(sums))
            for row in connection.execute(query.where(commits.c.id.in_(batch)))
        ]
    rows.sort(key=lambda row: (-sums[row.commit_id], row.id))
    return [UserRow(row.name, sums[row.commit_id]) for row in rows]


def _sum_uses(connection: Connection, chunk_ids: list[int]) -> Counter[int]:
    """Returns the raw bytes of these chunks, by the ids of the commits that have them."""
    raw = func.sum(chunks.c.raw_bytes)
    query = select(commit_chunks.c.commit_id, raw).group_by(commit_chunks.c.commit_id)
    query = query.join(chunks, chunks.c.id == commit_chunks.c.chunk_id)
    sums: Counter[int] = Counter()
    for batch in batches(chunk_ids):
        for commit_id, size in connection.execute(query.where(commit_chunks.c.chunk_id.in_(batch))):
            sums[commit_id] += int(size)
    return sums


def declared_base(catalogue: Database, repo: str, seen: Scope) -> str | None:
    """Returns the repo that the newest commit of a repo names as its base, if it is one seen."""
    of_newest = (
        select(commits.c.base)
        .join(repos, repos.c.id == commits.c.repo_id)
        .where(repos.c.name == repo, commits.c.id == repos.c.newest)
        .scalar_subquery()
    )
    return _seen_repo(catalogue, of_newest, seen)


def has_repo(catalogue: Database, repo: str, seen: Scope) -> bool:
    """Tells whether there is a repo of that name among those seen."""
    return _seen_repo(catalogue, repo, seen) is not None


def _seen_repo(catalogue: Database, name: Any, seen: Scope) -> str | None:
    query = select(repos.c.name).where(repos.c.name == name, seen.condition())
    with catalogue.reading() as connection:
        return connection.scalar(query)


def declaring(catalogue: Database, base: str, seen: Scope) -> list[str]:
    """Returns the repos seen whose newest commits name `base` as theirs, by name."""
    query = (
        select(repos.c.name)
        .join(commits, commits.c.repo_id == repos.c.id)
        .where(commits.c.base == base, commits.c.id == repos.c.newest, seen.condition())
        .order_by(repos.c.name)
    )
    with catalogue.reading() as connection:
        return list(connection.scalars(query))


def sizes_of(catalogue: Database, names: Collection[str]) -> dict[str, SizeRow]:
    """Returns the sizes of the newest commits of repos."""
    sums = (func.sum(chunks.c.raw_bytes), func.sum(chunks.c.frame_bytes))
    query = (
        select(repos.c.name, *sums)
        .select_from(repos)
        .join(commit_chunks, commit_chunks.c.commit_id == repos.c.newest)
        .join(chunks, chunks.c.id == commit_chunks.c.chunk_id)
        .group_by(repos.c.name)
    )
    with catalogue.reading() as connection:
        return {
            name: SizeRow(int(raw), int(frames))
            for name, raw, frames in _by_name(connection, query, names)
        }


def _by_name(connection: Any, query: Any, names: Collection[str]) -> Iterator[Any]:
    for batch in batches(list(names)):
        yield from connection.execute(query.where(repos.c.name.in_(batch)))
