"""The catalogue's rows as the rest of weightvault sees them, and the selects that fetch them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, Table, UniqueConstraint, insert, select

from ...packs import DERIVED, STANDALONE
from .schema import chunks, commits, packs, repos, spares

# Digests per statement: SQLite allows 32,766 variables, and longer statements gain nothing.
_BATCH = 1000


@dataclass(frozen=True, slots=True)
class Location:
    """Where a chunk's frame lies: pack name, first byte and length in it; what it holds, and the
    inputs and the level of the frame."""

    digest: bytes
    pack: str
    offset: int
    frame_bytes: int
    raw_bytes: int
    inputs: tuple[bytes, ...] = ()
    level: int = STANDALONE

    @property
    def base(self) -> bytes | None:
        """The digest of a delta's base, None for any other frame."""
        return self.inputs[0] if STANDALONE < self.level < DERIVED else None


@dataclass(frozen=True, slots=True)
class CommitRow:
    """A commit as the catalogue keeps it; `oid` is its id of 40 hexadecimal digits. Who made it
    may have given a title, a longer message and a name."""

    oid: str
    repo: str
    branch: str
    parent: str | None
    manifest: str
    base: str | None
    created: float
    title: str | None = None
    message: str | None = None
    author: str | None = None


@dataclass(frozen=True, slots=True)
class FileRow:
    """A file of a commit: path, bytes, digest, digest of its recipe, number of tensors; for
    reports the number of its format, and which of its bytes are tensors' or in the manifest."""

    path: str
    bytes: int
    digest: bytes
    recipe: bytes
    tensors: int
    format: int = 0
    tensor_bytes: int = 0
    inlined_bytes: int = 0


@dataclass(frozen=True, slots=True)
class RepoRow:
    """One repo of a listing, with the files and bytes of its newest commit."""

    name: str
    branches: tuple[str, ...]
    files: int
    bytes: int
    updated: float


@dataclass(frozen=True, slots=True)
class SketchRow:
    """What is known of a chunk's content (FORMAT.md, "Sketch"). `kind` is below 512; chunks of
    another kind are never related, and one of none (None) to nothing. `dtype` is its id."""

    digest: bytes
    kind: int | None
    dtype: int
    raw_bytes: int
    bits: bytes
    words: bytes


def location_columns() -> Any:
    """Selects what a Location holds, of the frames in use."""
    return select(
        chunks.c.digest,
        packs.c.name,
        chunks.c.offset,
        chunks.c.frame_bytes,
        chunks.c.raw_bytes,
        chunks.c.inputs,
        chunks.c.level,
    ).join(packs)


def spare_columns() -> Any:
    """Selects what a Location holds, of the spare frames."""
    columns = (spares.c.offset, spares.c.frame_bytes, chunks.c.raw_bytes)
    return (
        select(chunks.c.digest, packs.c.name, *columns, spares.c.inputs, spares.c.level)
        .select_from(spares)
        .join(chunks, chunks.c.id == spares.c.chunk_id)
        .join(packs, packs.c.id == spares.c.pack_id)
    )


def commit_columns(*extra: Any) -> Any:
    """Selects what a CommitRow holds, then `extra`."""
    return select(
        commits.c.oid,
        repos.c.name,
        commits.c.branch,
        commits.c.parent,
        commits.c.manifest,
        commits.c.base,
        commits.c.created,
        commits.c.title,
        commits.c.message,
        commits.c.author,
        *extra,
    ).join(repos, commits.c.repo_id == repos.c.id)


def hold_rows(query: Select[*tuple[Any, ...]]) -> Select[*tuple[Any, ...]]:
    """Returns the query of rows that whoever else changes or holds them waits for until the
    transaction ends (PostgreSQL). Who only refers to them by a foreign key does not wait: two that
    hold rows and refer to each other's would do so for ever."""
    return query.with_for_update(key_share=True)


def identity_of(table: Table) -> list[str]:
    """Returns the columns in which no two rows of a table that somebody writes are alike."""
    unique = [c for c in table.constraints if isinstance(c, UniqueConstraint)]
    keys = sorted([column.name for column in key.columns] for key in unique)
    return keys[0] if keys else [column.name for column in table.primary_key]


def by_digest(
    connection: Connection,
    query: Any,
    digests: Collection[bytes],
    column: Any = chunks.c.digest,
) -> list[Any]:
    """Runs `query` for those rows whose `column` is among `digests`, a batch at a time."""
    rows: list[Any] = []
    for batch in batches(list(digests)):
        rows += connection.execute(query.where(column.in_(batch))).all()
    return rows


def insert_rows(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Inserts rows that all have the same columns, of types that the drivers take as they are: to
    go through each value, as SQLAlchemy does, takes longer than to store it."""
    if not rows:
        return
    compiled = insert(table).compile(dialect=connection.dialect, column_keys=list(rows[0]))
    if compiled.positional:
        names = list(compiled.positiontup or ())
        connection.exec_driver_sql(str(compiled), [tuple(row[n] for n in names) for row in rows])
    else:
        connection.exec_driver_sql(str(compiled), [dict(row) for row in rows])


def batches(items: list[Any]) -> Iterator[list[Any]]:
    """Yields the items in lists short enough for one statement."""
    for start in range(0, len(items), _BATCH):
        yield items[start : start + _BATCH]
