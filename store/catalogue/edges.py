"""What frames need: every condition and look-up on levels and inputs (ARCHITECTURE.md, "Edges").

An *edge* leads from the frame in use of a chunk to each of its inputs, which are chunks. Each input
has a frame of a lower level, so a path has at most DERIVED edges: from a derived frame down a chain
of deltas. Queries follow them by recursive common table expressions, which end whatever the rows
say: each adds a chunk once. *Dependents* of a chunk are those whose frames need it, at the other
ends.

Conditions and selects take a row of `chunks`, or where they say so of `spares`, by default the
table itself. Functions with a connection run queries, in batches.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Connection,
    FromClause,
    Select,
    case,
    delete,
    exists,
    func,
    insert,
    literal_column,
    select,
)

from ..packs import DERIVED, STANDALONE
from .tables.rows import batches, by_digest
from .tables.schema import chunk_inputs, chunks


@dataclass(frozen=True, slots=True)
class Dependent:
    """A chunk whose frame in use, of some level, has the chunk `input` as an input."""

    input: bytes
    chunk_id: int
    digest: bytes
    level: int


# Levels, of rows of `chunks` or `spares`


def is_standalone(frames: Any = chunks) -> Any:
    """The condition that a frame needs nothing. A constant, so that the index of these is used."""
    return frames.c.level == literal_column(str(STANDALONE))


def has_inputs(frames: Any = chunks) -> Any:
    """The condition that a frame is a delta or derived."""
    return frames.c.level > STANDALONE


def is_derived(frames: Any = chunks) -> Any:
    """The condition that a frame is derived. A constant, so that the index of these few is used."""
    return frames.c.level == literal_column(str(DERIVED))


def replaces(spare: Any, chunk: Any = chunks) -> Any:
    """The condition that a spare frame can stand in for the one in use, whatever needs that."""
    return spare.c.level <= chunk.c.level


def lowest_first(frames: Any = chunks) -> tuple[Any, Any]:
    """The order in which one of several frames of a chunk is chosen: standalone ones first, as
    anything may need them, then the smallest."""
    return frames.c.level, frames.c.frame_bytes


def edge_columns(frames: Any = chunks) -> tuple[Any, Any]:
    """The columns `inputs` and `level`."""
    return frames.c.inputs, frames.c.level


# Look-ups within a query


def join_inputs() -> tuple[FromClause, Any]:
    """Returns `chunks` joined to each of their inputs, and the row of the input, as in `chunks`."""
    edge, source = chunk_inputs.alias(), chunks.alias("its_input")
    pairs = chunks.join(edge, edge.c.chunk_id == chunks.c.id)
    return pairs.join(source, source.c.digest == edge.c.input), source


def reaching(uses: Select[*tuple[Any, ...]], chunk_id: Any, rows: Any = chunks) -> Any:
    """Returns `uses`, rows with a `chunk_id`, for those that have a row of `chunks`, or what needs
    it, directly or not."""
    edge, dependent = chunk_inputs.alias(), chunks.alias()
    start = select(rows.c.id.label("id"), rows.c.digest.label("digest")).correlate(rows)
    above = start.cte("above", recursive=True, nesting=True)
    step = select(dependent.c.id, dependent.c.digest)
    step = step.join(edge, edge.c.chunk_id == dependent.c.id)
    above = above.union(step.join(above, above.c.digest == edge.c.input))
    return uses.where(chunk_id == above.c.id).correlate(rows)


def needed_among(uses: Select[*tuple[Any, ...]], chunk_id: Any, rows: Any = chunks) -> Any:
    """The condition that one of `uses`, rows with a `chunk_id`, has a row of `chunks`, or has what
    needs it."""
    edge = chunk_inputs.alias()
    has = uses.where(chunk_id == rows.c.id)
    # Of a base with thousands of deltas the first will do.
    near = uses.where(edge.c.chunk_id == chunk_id, edge.c.input == rows.c.digest)
    far = is_input(rows) & _any_of(reaching(uses, chunk_id, rows), rows)
    return _any_of(has, rows) | _any_of(near, rows) | far


def _any_of(uses: Select[*tuple[Any, ...]], rows: Any) -> Any:
    """As exists(), by a value: for this no planner reads all of `uses` once instead of looking
    something up for each row."""
    return uses.limit(1).correlate(rows).scalar_subquery().is_not(None)


def inputs_of(mine: Select[*tuple[Any, ...]]) -> tuple[Any, Any]:
    """Selects the digests of the inputs of the chunks `mine`, a select of ids; and its column."""
    edge = chunk_inputs.alias()
    return select(edge.c.input).where(edge.c.chunk_id.in_(mine)), edge.c.input


def needed_by(mine: Select[*tuple[Any, ...]]) -> Any:
    """Selects the digests of all that the chunks `mine`, a select of ids, need."""
    edge, source = chunk_inputs.alias(), chunks.alias()
    direct, column = inputs_of(mine)
    under = direct.with_only_columns(column.label("input")).cte(
        "under", recursive=True, nesting=True
    )
    step = select(edge.c.input).join(source, source.c.id == edge.c.chunk_id)
    under = under.union(step.join(under, under.c.input == source.c.digest))
    return select(under.c.input)


def dependent_of(digests: Any, *, deltas: bool = False) -> Any:
    """The condition that a row of `chunks` has one of `digests`, a list or a select, as an input;
    with `deltas` as its base."""
    edge = chunk_inputs.alias()
    ids = select(edge.c.chunk_id).where(edge.c.input.in_(digests))
    condition = chunks.c.id.in_(ids)
    return condition & ~is_derived() if deltas else condition


def inputs_among(digests: Any) -> Any:
    """Selects those of `digests`, a list, that some frame in use needs, once for each."""
    return select(chunk_inputs.c.input).where(chunk_inputs.c.input.in_(digests))


def dependents_of(digests: Any) -> Any:
    """Selects the ids of the chunks that need one of `digests`, a list or a select, directly or
    not."""
    edge, further, source = chunk_inputs.alias(), chunk_inputs.alias(), chunks.alias()
    direct = select(edge.c.chunk_id.label("id")).where(edge.c.input.in_(digests))
    above = direct.cte("above", recursive=True, nesting=True)
    step = select(further.c.chunk_id).join(source, source.c.digest == further.c.input)
    above = above.union(step.join(above, above.c.id == source.c.id))
    return select(above.c.id)


def is_input(rows: Any = chunks) -> Any:
    """The condition that some frame in use needs a row of `chunks`."""
    return exists().where(chunk_inputs.c.input == rows.c.digest)


def is_overtaken(rows: Any = chunks) -> Any:
    """The condition that the level of a row of `chunks` is not below that of all its dependents."""
    edge, dependent = chunk_inputs.alias(), chunks.alias()
    query = select(edge.c.chunk_id).join(dependent, dependent.c.id == edge.c.chunk_id)
    found = query.where(edge.c.input == rows.c.digest, dependent.c.level <= rows.c.level)
    return has_inputs(rows) & found.correlate(rows).exists()


def is_complete(rows: Any = chunks, spoiled: Any = None) -> Any:
    """The condition that all a row of `chunks` needs has frames of levels that allow it. With
    `spoiled`, a function that makes the condition that a frame cannot be read, that neither it
    nor any of these is."""
    under = _walk_inputs(rows)
    wrong = under.c.id.is_(None) | (under.c.level >= under.c.most)
    if spoiled is not None:
        wrong |= spoiled(under)
    lacking = select(under.c.id).where(wrong).exists()
    condition = is_standalone(rows) | ~lacking
    return condition & ~spoiled(rows) if spoiled is not None else condition


def _walk_inputs(rows: Any, *, first: bool = False) -> Any:
    """Returns a row of `chunks` and all that it needs, as rows of their ids (null for what has no
    frame), digests, levels and places, with the level that each must be below; with `first` only
    the first input of each."""
    columns = ("id", "digest", "level", "pack_id", "offset")
    edge, source = chunk_inputs.alias(), chunks.alias()
    limit = literal_column(str(DERIVED + 1)).label("most")
    start = select(*(rows.c[name].label(name) for name in columns), limit).correlate(rows)
    under = start.cte("under", recursive=True, nesting=True)
    step = select(*(source.c[name] for name in columns), under.c.level)
    pairs = under.join(edge, edge.c.chunk_id == under.c.id)
    step = step.select_from(pairs.outerjoin(source, source.c.digest == edge.c.input))
    return under.union(step.where(edge.c.position == 0) if first else step)


def root_of() -> tuple[Any, Any, Any]:
    """Returns what to outer join to `chunks` as pairs of table and condition, the digest of the
    standalone chunk that each rests on first of all (its own where it is one), and that of the
    first input of a derived one (null of any other)."""
    edge = chunk_inputs.alias()
    joins = [(edge, is_derived() & (edge.c.chunk_id == chunks.c.id) & (edge.c.position == 0))]
    under = _walk_inputs(chunks, first=True)
    lowest = select(under.c.digest).where(is_standalone(under)).limit(1).scalar_subquery()
    root = case((is_standalone(), chunks.c.digest), else_=func.coalesce(lowest, chunks.c.digest))
    return joins, root, edge.c.input


def much_needed(least: int) -> Any:
    """Selects the digests of chunks that at least so many others need, directly or not."""
    edge, further, source = chunk_inputs.alias(), chunk_inputs.alias(), chunks.alias()
    pairs = select(edge.c.input, edge.c.chunk_id).cte("under", recursive=True, nesting=True)
    step = select(further.c.input, pairs.c.chunk_id)
    step = step.join(source, source.c.id == further.c.chunk_id)
    pairs = pairs.union(step.join(pairs, pairs.c.input == source.c.digest))
    return select(pairs.c.input).group_by(pairs.c.input).having(func.count() >= least)


def inputs_by_dependents() -> tuple[Any, Any]:
    """Returns the columns of all edges: the input's digest, the dependent's id."""
    return chunk_inputs.c.input, chunk_inputs.c.chunk_id


# Look-ups of their own


def read_dependents(connection: Connection, digests: Collection[bytes]) -> Iterator[Dependent]:
    """Yields the direct dependents of each of `digests`."""
    edge = chunk_inputs
    columns = select(edge.c.input, chunks.c.id, chunks.c.digest, chunks.c.level)
    query = columns.join(chunks, chunks.c.id == edge.c.chunk_id)
    for row in by_digest(connection, query, digests, edge.c.input):
        yield Dependent(*row)


def dependent_ids(connection: Connection, digests: Collection[bytes]) -> set[int]:
    """Returns the ids of the chunks that need one of `digests`, directly or not; level by level,
    as a planner expects a walk in one query to reach most of the table."""
    edges = select(chunk_inputs.c.chunk_id)
    found: set[int] = set()
    new = set(digests)
    while new:
        rows = by_digest(connection, edges, new, chunk_inputs.c.input)
        ids = {row.chunk_id for row in rows} - found
        found |= ids
        named = (select(chunks.c.digest).where(chunks.c.id.in_(b)) for b in batches(sorted(ids)))
        new = {digest for query in named for digest in connection.scalars(query)}
    return found


def count_dependents(connection: Connection, digests: Collection[bytes]) -> dict[bytes, int]:
    """Returns how many chunks have each of `digests` as an input; not those that none has."""
    edge = chunk_inputs
    query = select(edge.c.input, func.count()).group_by(edge.c.input)
    return dict(map(tuple, by_digest(connection, query, digests, edge.c.input)))


def dependents_closure(
    connection: Connection, digests: Collection[bytes]
) -> dict[bytes, set[bytes]]:
    """Returns for each chunk all that cannot be read without it, itself included."""
    above: dict[bytes, set[bytes]] = {}
    new = set(digests)
    while new:
        above |= {digest: set() for digest in new}
        for edge in read_dependents(connection, new):
            above[edge.input].add(edge.digest)
        new = {digest for key in new for digest in above[key]} - above.keys()
    return {digest: _closure(digest, above) for digest in digests}


def _closure(digest: bytes, above: Mapping[bytes, set[bytes]]) -> set[bytes]:
    found: set[bytes] = set()
    new = {digest}
    while new:
        found |= new
        new = set().union(*(above[d] for d in new)) - found
    return found


def inputs_closure(connection: Connection, digests: Collection[bytes]) -> set[bytes]:
    """Returns all that the frames in use of `digests` need."""
    query = select(chunks.c.inputs).where(has_inputs())
    found: set[bytes] = set()
    new = set(digests)
    while new:
        new = {d for row in by_digest(connection, query, new) for d in row.inputs} - found
        found |= new
    return found


def levels_of(connection: Connection, digests: Collection[bytes]) -> dict[bytes, int]:
    """Returns the levels of the frames in use of those of `digests` that have one."""
    query = select(chunks.c.digest, chunks.c.level)
    return {row.digest: row.level for row in by_digest(connection, query, digests)}


def least_dependent_level(connection: Connection, digest: bytes) -> int:
    """Returns the lowest level among the dependents of a chunk, one above all where it has none."""
    return min((d.level for d in read_dependents(connection, [digest])), default=DERIVED + 1)


# Writing


def add_inputs(connection: Connection, inputs: Mapping[int, Sequence[bytes]]) -> None:
    """Records the edges of new frames in use, by the ids of their chunks."""
    rows = [
        {"chunk_id": chunk_id, "position": position, "input": digest}
        for chunk_id in sorted(inputs)
        for position, digest in enumerate(inputs[chunk_id])
    ]
    for batch in batches(rows):
        connection.execute(insert(chunk_inputs), batch)


def replace_inputs(
    connection: Connection, chunk_id: int, old: Sequence[bytes], new: Sequence[bytes]
) -> None:
    """Records the edges of a chunk whose frame in use is another one now."""
    if old:
        connection.execute(delete(chunk_inputs).where(chunk_inputs.c.chunk_id == chunk_id))
    add_inputs(connection, {chunk_id: new})
