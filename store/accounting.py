"""Where the bytes go: the catalogue's sums for reports.

A frame is *live* while a commit uses its chunk, or uses a delta whose base it is. All figures
are bytes unless they count something.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import CTE, Connection, case, distinct, func, select, union

from .catalogue import Catalogue
from .schema import chunks, commit_chunks, commits, files, packs, repos


@dataclass(frozen=True, slots=True)
class RepoSums:
    """One repo: commits, logical bytes of all of them, raw bytes of its distinct chunks, and
    frame bytes that it alone needs (`exclusive`) or shares with other repos (`shared`)."""

    name: str
    commits: int
    logical: int
    unique: int
    exclusive: int
    shared: int


@dataclass(frozen=True, slots=True)
class Sums:
    """The whole vault.

    `logical`: files of all commits. `distinct_files`: each distinct file once. `unique`: each
    used chunk once, raw; `unique_deltas`: the part of it that is stored as deltas; `used_frames`:
    the frames of those chunks. `live_frames`: those and the bases that no commit uses itself;
    `live_deltas`: the deltas among them. `packed_frames`: frames of all packs, live or not.
    `packs`: their objects, indexes included.
    """

    repos: int
    commits: int
    files: int
    chunks: int
    logical: int
    distinct_files: int
    unique: int
    unique_deltas: int
    used_frames: int
    live_frames: int
    live_deltas: int
    packed_frames: int
    packs: int


def sum_vault(catalogue: Catalogue) -> Sums:
    """Adds up the whole vault, in one transaction."""
    with catalogue.reading() as connection:
        return Sums(
            repos=_scalar(connection, select(func.count()).select_from(repos)),
            commits=_scalar(connection, select(func.count()).select_from(commits)),
            files=_scalar(connection, select(func.count()).select_from(files)),
            logical=_scalar(connection, select(func.sum(files.c.bytes))),
            distinct_files=_scalar(connection, _distinct_files()),
            packed_frames=_scalar(connection, select(func.sum(packs.c.frame_bytes))),
            packs=_scalar(connection, select(func.sum(packs.c.bytes))),
            **_used_sums(connection),
            **_live_sums(connection),
        )


def sum_repos(catalogue: Catalogue, name: str | None = None) -> list[RepoSums]:
    """Adds up each repo, or only the one called `name`, by name."""
    with catalogue.reading() as connection:
        logical = _logical_by_repo(connection)
        unique = _unique_by_repo(connection)
        owned = _owned_by_repo(connection)
        query = select(repos.c.id, repos.c.name).order_by(repos.c.name)
        rows = connection.execute(query if name is None else query.where(repos.c.name == name))
        return [
            RepoSums(
                row.name,
                *logical.get(row.id, (0, 0)),
                unique.get(row.id, 0),
                *owned.get(row.id, (0, 0)),
            )
            for row in rows
        ]


def _scalar(connection: Connection, query: Any) -> int:
    return int(connection.scalar(query) or 0)


def _distinct_files() -> Any:
    each = select(files.c.digest, func.max(files.c.bytes).label("bytes")).group_by(files.c.digest)
    return select(func.sum(each.subquery().c.bytes))


def _used_sums(connection: Connection) -> dict[str, int]:
    delta_raw = case((chunks.c.base.is_not(None), chunks.c.raw_bytes), else_=0)
    sums = (chunks.c.raw_bytes, delta_raw, chunks.c.frame_bytes)
    query = select(func.count(), *(func.sum(column) for column in sums))
    used = select(commit_chunks.c.chunk_id)
    row = connection.execute(query.where(chunks.c.id.in_(used))).one()
    count, raw, deltas, frames = (int(value or 0) for value in row)
    return {
        "chunks": count,
        "unique": raw,
        "unique_deltas": deltas,
        "used_frames": frames,
    }


def _live_sums(connection: Connection) -> dict[str, int]:
    used = select(commit_chunks.c.chunk_id)
    bases = select(chunks.c.base).where(chunks.c.id.in_(used), chunks.c.base.is_not(None))
    live = chunks.c.id.in_(used) | chunks.c.digest.in_(bases)
    delta_bytes = case((chunks.c.base.is_not(None), chunks.c.frame_bytes), else_=0)
    query = select(func.sum(chunks.c.frame_bytes), func.sum(delta_bytes)).where(live)
    frames, deltas = connection.execute(query).one()
    return {"live_frames": int(frames or 0), "live_deltas": int(deltas or 0)}


def _logical_by_repo(connection: Connection) -> dict[int, tuple[int, int]]:
    query = (
        select(commits.c.repo_id, func.count(distinct(commits.c.id)), func.sum(files.c.bytes))
        .outerjoin(files, files.c.commit_id == commits.c.id)
        .group_by(commits.c.repo_id)
    )
    return {repo: (int(n), int(size or 0)) for repo, n, size in connection.execute(query)}


def _unique_by_repo(connection: Connection) -> dict[int, int]:
    used = _used_by_repo()
    query = (
        select(used.c.repo_id, func.sum(chunks.c.raw_bytes))
        .join(chunks, chunks.c.id == used.c.chunk_id)
        .group_by(used.c.repo_id)
    )
    return {repo: int(size) for repo, size in connection.execute(query)}


def _owned_by_repo(connection: Connection) -> dict[int, tuple[int, int]]:
    """Frame bytes each repo alone needs, and those it shares; bases count as needed."""
    needed = _needed_by_repo()
    counts = select(needed.c.chunk_id, func.count().label("owners")).group_by(needed.c.chunk_id)
    owners = counts.cte("owners")
    alone = case((owners.c.owners == 1, chunks.c.frame_bytes), else_=0)
    query = (
        select(needed.c.repo_id, func.sum(alone), func.sum(chunks.c.frame_bytes - alone))
        .join(owners, owners.c.chunk_id == needed.c.chunk_id)
        .join(chunks, chunks.c.id == needed.c.chunk_id)
        .group_by(needed.c.repo_id)
    )
    return {repo: (int(own), int(shared)) for repo, own, shared in connection.execute(query)}


def _used_by_repo() -> CTE:
    query = select(commits.c.repo_id, commit_chunks.c.chunk_id).join(
        commit_chunks, commit_chunks.c.commit_id == commits.c.id
    )
    return query.distinct().cte("used")


def _needed_by_repo() -> CTE:
    used = _used_by_repo()
    delta, base = chunks.alias("delta"), chunks.alias("base")
    bases = (
        select(used.c.repo_id, base.c.id.label("chunk_id"))
        .join(delta, delta.c.id == used.c.chunk_id)
        .join(base, base.c.digest == delta.c.base)
    )
    return union(select(used.c.repo_id, used.c.chunk_id), bases).cte("needed")
