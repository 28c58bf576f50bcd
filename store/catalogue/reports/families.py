"""What the newest commits of all repos share, as rows to find families in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import select

from ..edges import has_inputs, is_derived, root_of
from ..tables.database import Database
from ..tables.schema import chunks, commit_chunks, commits, repos, sketches

_ROWS_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True)
class SharedRow:
    """A chunk of a repo's newest commit: its digest, that of the standalone chunk it rests on (its
    own where it is one), of a derived one that of its first input, raw and frame bytes, the bits of
    its own sketch and of that of the chunk it rests on, where it is a delta."""

    repo: str
    digest: bytes
    root: bytes
    source: bytes | None
    raw_bytes: int
    frame_bytes: int
    bits: bytes
    root_bits: bytes | None


def read_shared(catalogue: Database) -> Iterator[SharedRow]:
    """Yields the chunks that have a telling sketch of the newest commit of each repo, by repo in
    the order they were made."""
    joins, root, source = root_of()
    base, base_sketch = chunks.alias("base"), sketches.alias("base_sketch")
    query = (
        select(
            repos.c.name,
            chunks.c.digest,
            root,
            source,
            chunks.c.raw_bytes,
            chunks.c.frame_bytes,
            sketches.c.bits,
            base_sketch.c.bits,
        )
        .select_from(repos)
        .join(commits, commits.c.id == repos.c.newest)
        .join(commit_chunks, commit_chunks.c.commit_id == commits.c.id)
        .join(chunks, chunks.c.id == commit_chunks.c.chunk_id)
        .join(sketches, sketches.c.chunk_id == chunks.c.id)
        .where(sketches.c.kind.is_not(None))
        .order_by(repos.c.id, chunks.c.id)
    )
    for table, condition in joins:
        query = query.outerjoin(table, condition)
    query = query.outerjoin(base, (base.c.digest == root) & has_inputs() & ~is_derived())
    query = query.outerjoin(base_sketch, base_sketch.c.chunk_id == base.c.id)
    with catalogue.reading() as connection:
        streamed = connection.execution_options(yield_per=_ROWS_AT_ONCE).execute(query)
        for row in streamed:
            yield SharedRow(*row)
