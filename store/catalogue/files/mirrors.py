"""Repos that are copies of an upstream hub's: which, what that hub said, and what was fetched."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Table, delete, func, select, update

from ..tables.database import Database
from ..tables.mirror_schema import mirror_answers, mirror_files, mirrors
from ..tables.rows import batches


@dataclass(frozen=True, slots=True)
class MirrorRow:
    """A mirrored repo: the address of its upstream hub, whether it is `guarded` (private or gated
    there), when the upstream last said so, and when it was last used (Unix seconds)."""

    repo: str
    upstream: str
    guarded: bool
    checked: float
    used: float


@dataclass(frozen=True, slots=True)
class MirrorTotals:
    """A mirrored repo, how many files of it were fetched, and their bytes."""

    row: MirrorRow
    files: int
    bytes: int


@dataclass(frozen=True, slots=True)
class AnswerRow:
    """What an upstream answered to the question `name` about a repo, with its ETag, and when it
    last said so (Unix seconds)."""

    repo: str
    name: str
    etag: str | None
    checked: float
    body: str


@dataclass(frozen=True, slots=True)
class FetchedRow:
    """A file that was fetched: what the upstream names it with, its SHA-256, its bytes."""

    repo: str
    etag: str
    sha256: bytes
    bytes: int


def find_mirror(catalogue: Database, repo: str) -> MirrorRow | None:
    """Returns what is known of a mirrored repo; None where it is none."""
    query = _columns().where(mirrors.c.repo == repo)
    with catalogue.reading() as connection:
        row = connection.execute(query).one_or_none()
        return None if row is None else MirrorRow(*row)


def list_mirrors(catalogue: Database) -> list[MirrorTotals]:
    """Returns all mirrored repos, those used longest ago first."""
    counts = func.count(mirror_files.c.etag), func.coalesce(func.sum(mirror_files.c.bytes), 0)
    query = (
        _columns()
        .add_columns(*counts)
        .outerjoin(mirror_files, mirror_files.c.repo == mirrors.c.repo)
        .group_by(*(mirrors.c[name] for name in MirrorRow.__slots__))
        .order_by(mirrors.c.used, mirrors.c.repo)
    )
    with catalogue.reading() as connection:
        rows = [tuple(row) for row in connection.execute(query)]
        return [MirrorTotals(MirrorRow(*row[:5]), row[5], int(row[6])) for row in rows]


def guarded_repos(catalogue: Database) -> set[str]:
    """Returns the names of the mirrored repos that are private or gated at their upstream."""
    with catalogue.reading() as connection:
        return set(connection.scalars(select(mirrors.c.repo).where(mirrors.c.guarded)))


def mirrored_from(catalogue: Database, names: Collection[str]) -> dict[str, str]:
    """Returns the addresses of the hubs that those of these repos are copies of that are some, by
    the repos' names."""
    query = select(mirrors.c.repo, mirrors.c.upstream)
    with catalogue.reading() as connection:
        return {
            row.repo: row.upstream
            for batch in batches(list(names))
            for row in connection.execute(query.where(mirrors.c.repo.in_(batch)))
        }


def put_mirror(catalogue: Database, row: MirrorRow) -> None:
    """Puts down what is known of a mirrored repo in place of what was."""
    _put(catalogue, mirrors, asdict(row), {"repo": row.repo})


def touch_mirror(catalogue: Database, repo: str, used: float) -> None:
    """Puts down when a mirrored repo was used."""
    with catalogue.writing() as connection:
        connection.execute(update(mirrors).where(mirrors.c.repo == repo).values(used=used))


def forget_mirror(catalogue: Database, repo: str) -> None:
    """Forgets a mirrored repo with all that is known of it; what was stored of it stays."""
    with catalogue.writing() as connection:
        for table in (mirror_answers, mirror_files, mirrors):
            connection.execute(delete(table).where(table.c.repo == repo))


def find_answer(catalogue: Database, repo: str, name: str) -> AnswerRow | None:
    """Returns what an upstream answered last to a question; None if it never did."""
    columns = (mirror_answers.c[column] for column in AnswerRow.__slots__)
    mine = (mirror_answers.c.repo == repo) & (mirror_answers.c.name == name)
    with catalogue.reading() as connection:
        row = connection.execute(select(*columns).where(mine)).one_or_none()
        return None if row is None else AnswerRow(*row)


def put_answer(catalogue: Database, row: AnswerRow, most: int) -> None:
    """Puts down what an upstream answered. Of a repo's answers the `most` newest are kept."""
    _put(catalogue, mirror_answers, asdict(row), {"repo": row.repo, "name": row.name})
    mine = mirror_answers.c.repo == row.repo
    newest = mirror_answers.c.checked.desc(), mirror_answers.c.name
    older = select(mirror_answers.c.name).where(mine).order_by(*newest).offset(most).limit(1000)
    with catalogue.writing() as connection:
        names = list(connection.scalars(older))
        if names:
            connection.execute(delete(mirror_answers).where(mine, mirror_answers.c.name.in_(names)))


def add_fetched(catalogue: Database, row: FetchedRow) -> None:
    """Puts down that a file was fetched."""
    _put(catalogue, mirror_files, asdict(row), {"repo": row.repo, "etag": row.etag})


def fetched_files(catalogue: Database, repo: str, etag: str | None = None) -> dict[str, FetchedRow]:
    """Returns the files of a repo that were fetched, by what the upstream names them with; only the
    one of that `etag` if given."""
    columns = (mirror_files.c[column] for column in FetchedRow.__slots__)
    query = select(*columns).where(mirror_files.c.repo == repo)
    if etag is not None:
        query = query.where(mirror_files.c.etag == etag)
    with catalogue.reading() as connection:
        return {row.etag: FetchedRow(*row) for row in connection.execute(query)}


def _columns() -> Any:
    return select(*(mirrors.c[name] for name in MirrorRow.__slots__))


def _put(
    catalogue: Database, table: Table, values: Mapping[str, Any], identity: Mapping[str, Any]
) -> None:
    """Writes a row, in place of one of the same identity."""
    same = [table.c[name] == value for name, value in identity.items()]
    with catalogue.writing() as connection:
        if not catalogue.add_once(connection, table, [dict(values)]):
            connection.execute(update(table).where(*same).values(**values))
