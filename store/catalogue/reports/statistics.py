"""Sums for reports that the database adds up itself; bytes unless they count something."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, case, func, select, text, union
from sqlalchemy.exc import DBAPIError

from ..edges import needed_among, needed_by
from ..tables.database import Database
from ..tables.schema import (
    chunks,
    commit_chunks,
    commits,
    days,
    files,
    loose_chunks,
    repos,
    tombstones,
    uncoded,
)
from ..visibility import EVERYTHING, Scope


@dataclass(frozen=True, slots=True)
class RepoSums:
    """One repo: commits, logical bytes of all of them, raw bytes of its distinct chunks, and
    bytes that it alone needs (`exclusive`) or that others need too (`shared`): of frames, or raw
    ones where not every repo is looked at."""

    commits: int
    logical: int
    unique: int
    exclusive: int
    shared: int


@dataclass(frozen=True, slots=True)
class FileSums:
    """The files of all commits: how many, their bytes, and `by_format` the same by the number of
    the format; then, of each distinct file once, all bytes, those of tensors, and those that
    manifests keep."""

    files: int
    logical: int
    by_format: dict[int, int]
    distinct: int
    tensors: int
    inlined: int


@dataclass(frozen=True, slots=True)
class DistinctFile:
    """A file by its digest: bytes, how often commits have it, and a path of it in a manifest."""

    digest: bytes
    bytes: int
    uses: int
    manifest: str
    path: str


@dataclass(frozen=True, slots=True)
class DayRow:
    """What the vault came to on a day, `YYYY-MM-DD`; `at` in Unix seconds."""

    day: str
    at: float
    repos: int
    commits: int
    logical: int
    unique: int
    frames: int
    stored: int


def sum_repo(catalogue: Database, name: str, seen: Scope = EVERYTHING) -> RepoSums:
    """Adds up one repo of those `seen`, as if there were no others.

    How a chunk is coded depends on all repos. So for a scope that is not everything the bytes are
    raw ones, which depend on the repo alone."""
    mine = select(repos.c.id).where(repos.c.name == name).scalar_subquery()
    own = select(commits.c.id).where(commits.c.repo_id == mine)
    used = select(commit_chunks.c.chunk_id).where(commit_chunks.c.commit_id.in_(own)).distinct()
    size = select(func.sum(files.c.bytes)).where(files.c.commit_id.in_(own))
    raw = select(func.sum(chunks.c.raw_bytes)).where(chunks.c.id.in_(used))
    with catalogue.reading() as connection:
        if seen.everything:
            owned = _owned(connection, mine, used)
        else:
            owned = _owned_raw(connection, mine, used, seen)
        return RepoSums(
            _scalar(connection, select(func.count()).select_from(own.subquery())),
            _scalar(connection, size),
            _scalar(connection, raw),
            *owned,
        )


def sum_files(connection: Connection) -> FileSums:
    """Adds up the files of all commits."""
    by_format = select(files.c.format, func.count(), func.sum(files.c.bytes))
    first = select(func.min(files.c.id)).group_by(files.c.digest)
    columns = (files.c.bytes, files.c.tensor_bytes, files.c.inlined_bytes)
    once = select(*map(func.sum, columns)).where(files.c.id.in_(first))
    rows = connection.execute(by_format.group_by(files.c.format)).all()
    distinct_sums = (int(value or 0) for value in connection.execute(once).one())
    sizes = {number: int(size) for number, _, size in rows}
    return FileSums(sum(row[1] for row in rows), sum(sizes.values()), sizes, *distinct_sums)


def list_distinct_files(connection: Connection) -> list[DistinctFile]:
    """Returns the files of all commits, equal ones once, by digest."""
    each = select(files.c.digest, func.count().label("uses"), func.min(files.c.id).label("id"))
    first = each.group_by(files.c.digest).subquery()
    query = (
        select(files.c.digest, files.c.bytes, first.c.uses, commits.c.manifest, files.c.path)
        .join(first, first.c.id == files.c.id)
        .join(commits, commits.c.id == files.c.commit_id)
        .order_by(files.c.digest)
    )
    return [DistinctFile(*row) for row in connection.execute(query)]


def database_bytes(catalogue: Database) -> int | None:
    """Returns how much space the database takes, None where it does not say."""
    pages = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
    server = "SELECT pg_database_size(current_database())"
    on_server = catalogue.engine.dialect.name == "postgresql"
    try:
        with catalogue.engine.connect() as connection:
            return int(connection.scalar(text(server if on_server else pages)))
    except DBAPIError:
        # On a shared server it may be nobody's business.
        return None


def count_waiting(catalogue: Database) -> dict[str, int]:
    """Returns how many objects wait for the end of their grace, and chunks to be coded."""
    tables = {"garbage": tombstones, "uncoded": uncoded}
    with catalogue.reading() as connection:
        return {
            name: _scalar(connection, select(func.count()).select_from(table))
            for name, table in tables.items()
        }


def list_days(catalogue: Database) -> list[DayRow]:
    """Returns the days on record, oldest first."""
    with catalogue.reading() as connection:
        return [DayRow(*row) for row in connection.execute(select(days).order_by(days.c.day))]


def last_day(catalogue: Database) -> DayRow | None:
    """Returns the newest day on record."""
    with catalogue.reading() as connection:
        row = connection.execute(select(days).order_by(days.c.day.desc()).limit(1)).first()
    return DayRow(*row) if row else None


def record_day(catalogue: Database, row: DayRow) -> None:
    """Puts a day on record, in the place of what was recorded of it earlier."""
    with catalogue.writing() as connection:
        connection.execute(days.delete().where(days.c.day == row.day, days.c.at <= row.at))
        values = {name: getattr(row, name) for name in DayRow.__slots__}
        catalogue.add_once(connection, days, [values])


def _scalar(connection: Connection, query: Any) -> int:
    return int(connection.scalar(query) or 0)


def _owned(connection: Connection, repo: Any, used: Any) -> tuple[int, int]:
    """Frame bytes that a repo alone needs, and those it shares; inputs count as needed."""
    inputs = select(chunks.c.id).where(chunks.c.digest.in_(needed_by(used)))
    needed = union(used, inputs).subquery()
    shared = _others_need(repo)
    sums = (case((shared, 0), else_=chunks.c.frame_bytes), case((shared, chunks.c.frame_bytes)))
    query = select(*map(func.sum, sums)).where(chunks.c.id.in_(select(needed)))
    exclusive, other = tuple(connection.execute(query).one())
    return int(exclusive or 0), int(other or 0)


def _owned_raw(connection: Connection, repo: Any, used: Any, seen: Scope) -> tuple[int, int]:
    """Raw bytes of chunks that no other repo seen has, and of those that one has."""
    elsewhere = (
        select(commit_chunks.c.chunk_id)
        .join(commits, commits.c.id == commit_chunks.c.commit_id)
        .join(repos, repos.c.id == commits.c.repo_id)
        .where(commit_chunks.c.chunk_id == chunks.c.id, repos.c.id != repo, seen.condition())
        .correlate(chunks)
        .exists()
    )
    sums = (case((elsewhere, 0), else_=chunks.c.raw_bytes), case((elsewhere, chunks.c.raw_bytes)))
    query = select(*map(func.sum, sums)).where(chunks.c.id.in_(used))
    exclusive, other = tuple(connection.execute(query).one())
    return int(exclusive or 0), int(other or 0)


def _others_need(repo: Any) -> Any:
    """The condition that a commit of another repo, or an upload, reaches a chunk."""
    others = (
        select(commit_chunks.c.chunk_id)
        .join(commits, commits.c.id == commit_chunks.c.commit_id)
        .where(commits.c.repo_id != repo)
    )
    uploads = select(loose_chunks.c.chunk_id)
    committed = needed_among(others, commit_chunks.c.chunk_id)
    return committed | needed_among(uploads, loose_chunks.c.chunk_id)
