"""Finds revisions that have something in common with another, whatever its tensors look like.

Each look-up is among the repos of `scopes` alone, of all of them at once: what others have is not
looked at, so that it crowds nothing out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Integer, LargeBinary, bindparam, select

from ..edges import dependent_of
from ..tables.database import Database
from ..tables.schema import chunks, commit_chunks, commits, repos
from ..visibility import Scope
from .near import QUERIES_KEPT
from .sketches import name_revisions

# Rows looked at for one chunk.
_MOST_ROWS = 64


def find_sharing(
    catalogue: Database, digests: Collection[bytes], scopes: Sequence[Scope], most: int
) -> list[tuple[str, str]]:
    """Returns revisions that have the most of these chunks, as repo and commit id; of each chunk
    only its `most` newest commits are looked at, and so many revisions are returned."""
    votes: Counter[int] = Counter()
    with catalogue.reading() as connection:
        query = _newest_with(tuple(scopes))
        for digest in digests:
            votes.update(connection.scalars(query, {"digest": digest, "most": most}))
        ranked = [commit for commit, _ in votes.most_common(most)]
        named = name_revisions(connection, ranked)
    return [named[commit] for commit in ranked if commit in named]


def find_relatives(
    catalogue: Database, bases: Collection[bytes], scopes: Sequence[Scope], most: int
) -> list[tuple[str, str]]:
    """Returns revisions that have the most of these chunks or of deltas on them, as repo and commit
    id; of each chunk only so many are looked at, and at most `most` revisions are returned."""
    votes: Counter[int] = Counter()
    with catalogue.reading() as connection:
        for digest in bases:
            for query in _commits_around(tuple(scopes)):
                votes.update(connection.scalars(query, {"digest": digest}))
        ranked = [commit for commit, _ in votes.most_common(most)]
        named = name_revisions(connection, ranked)
    return [named[commit] for commit in ranked if commit in named]


@lru_cache(QUERIES_KEPT)
def _newest_with(scopes: tuple[Scope, ...]) -> Any:
    query = _commits_with(chunks.c.digest == bindparam("digest"), scopes)
    return query.order_by(commit_chunks.c.commit_id.desc()).limit(bindparam("most", type_=Integer))


@lru_cache(QUERIES_KEPT)
def _commits_around(scopes: tuple[Scope, ...]) -> tuple[Any, Any]:
    """Those with a chunk, and those with deltas on it."""
    digest = bindparam("digest", type_=LargeBinary)
    conditions = chunks.c.digest == digest, dependent_of([digest], deltas=True)
    one, other = (_commits_with(each, scopes).limit(_MOST_ROWS) for each in conditions)
    return one, other


def _commits_with(condition: Any, scopes: Sequence[Scope]) -> Any:
    """Selects the ids of commits that have chunks of which the condition holds."""
    found = (
        select(commit_chunks.c.commit_id)
        .join(chunks, chunks.c.id == commit_chunks.c.chunk_id)
        .where(condition)
    )
    if not scopes:
        return found
    return (
        found.join(commits, commits.c.id == commit_chunks.c.commit_id)
        .join(repos, repos.c.id == commits.c.repo_id)
        .where(*(scope.condition() for scope in scopes))
    )


def find_built_on(
    catalogue: Database, bases: Collection[str], scopes: Sequence[Scope], most: int
) -> list[tuple[str, str]]:
    """Returns the newest revisions that name one of these repos as their base, as repo and commit
    id."""
    query = (
        select(repos.c.name, commits.c.oid)
        .join(repos, repos.c.id == commits.c.repo_id)
        .where(commits.c.base.in_(list(bases)), *(scope.condition() for scope in scopes))
        .order_by(commits.c.id.desc())
        .limit(most)
    )
    with catalogue.reading() as connection:
        return [(row.name, row.oid) for row in connection.execute(query)]
