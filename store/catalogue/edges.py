"""What frames need: every condition and look-up on levels and inputs (ARCHITECTURE.md, "Edges").

An *edge* leads from the frame in use of a chunk to each of its inputs, which are chunks. Each input
has a frame of a lower level, so a path has at most two edges: from a derived frame over a delta to
a base. *Dependents* of a chunk are those whose frames need it, at the other ends.

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
    LargeBinary,
    Select,
    case,
    delete,
    exists,
    func,
    insert,
    literal_column,
    select,
    type_coerce,
    union,
)

from ..packs import DELTA, DERIVED, STANDALONE
from .tables.rows import batches, by_digest
from .tables.schema import chunk_inputs, chunks

MOST_EDGES = 2
"""The edges of the longest path."""

_DISTANCES = range(1, MOST_EDGES + 1)


@dataclass(frozen=True, slots=True)
class Dependent:
    """A chunk whose frame in use, of some level, has the chunk `input` as an input."""

    input: bytes
    chunk_id: int
    digest: bytes
    level: int


# Levels, of rows of `chunks` or `spares`


def is_standalone(frames: Any = chunks) -> Any:
    """The condition that a frame needs nothing."""
    return frames.c.level == STANDALONE


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


def through(query: Select[*tuple[Any, ...]], chunk_id: Any, digest: Any, distance: int) -> Any:
    """Returns `query`, of rows with a `chunk_id`, for those that need the chunk `digest` over so
    many edges, 1 to MOST_EDGES."""
    edge = chunk_inputs.alias()
    query = query.where(edge.c.chunk_id == chunk_id)
    for _ in range(distance - 1):
        source, under = chunks.alias(), chunk_inputs.alias()
        query = query.where(source.c.digest == edge.c.input, under.c.chunk_id == source.c.id)
        edge = under
    return query.where(edge.c.input == digest)


def needed_among(uses: Select[*tuple[Any, ...]], chunk_id: Any, rows: Any = chunks) -> Any:
    """The condition that one of `uses`, rows with a `chunk_id`, has a row of `chunks`, or has what
    needs it."""
    condition = uses.where(chunk_id == rows.c.id).correlate(rows).exists()
    for distance in _DISTANCES:
        condition |= through(uses, chunk_id, rows.c.digest, distance).correlate(rows).exists()
    return condition


def is_derived_from(uses: Select[*tuple[Any, ...]], chunk_id: Any, rows: Any = chunks) -> Any:
    """The condition that the frame of one of `uses`, rows with a `chunk_id`, is derived from a row
    of `chunks`, directly."""
    edge, derived = chunk_inputs.alias(), chunks.alias()
    query = uses.where(derived.c.id == chunk_id, is_derived(derived))
    query = query.where(edge.c.chunk_id == derived.c.id, edge.c.input == rows.c.digest)
    return query.correlate(rows).exists()


def inputs_under(mine: Select[*tuple[Any, ...]]) -> list[tuple[Any, Any]]:
    """Returns for each distance a select of the digests of what the chunks `mine`, a select of ids,
    need over so many edges, and its column."""
    edge, middle, under = chunk_inputs.alias(), chunks.alias(), chunk_inputs.alias()
    direct = select(edge.c.input).where(edge.c.chunk_id.in_(mine))
    indirect = (
        select(under.c.input)
        .join(middle, middle.c.id == under.c.chunk_id)
        .join(edge, edge.c.input == middle.c.digest)
        .where(edge.c.chunk_id.in_(mine))
    )
    return [(direct, edge.c.input), (indirect, under.c.input)]


def needed_by(mine: Select[*tuple[Any, ...]]) -> Any:
    """Selects the digests of all that the chunks `mine`, a select of ids, need."""
    return union(*(query for query, _ in inputs_under(mine)))


def dependent_of(digests: Any, *, deltas: bool = False) -> Any:
    """The condition that a row of `chunks` has one of `digests`, a list or a select, as an input;
    with `deltas` as its base."""
    edge = chunk_inputs.alias()
    ids = select(edge.c.chunk_id).where(edge.c.input.in_(digests))
    condition = chunks.c.id.in_(ids)
    return condition & (chunks.c.level == DELTA) if deltas else condition


def dependents_over(digests: Any) -> list[Any]:
    """Returns for each distance a select of the ids of chunks that need one of `digests` over so
    many edges; `digests` is a list or a select."""
    under, middle, edge = chunk_inputs.alias(), chunks.alias(), chunk_inputs.alias()
    direct = select(under.c.chunk_id).where(under.c.input.in_(digests))
    indirect = (
        select(edge.c.chunk_id)
        .join(middle, middle.c.digest == edge.c.input)
        .join(under, under.c.chunk_id == middle.c.id)
        .where(under.c.input.in_(digests))
    )
    return [direct, indirect]


def is_input(rows: Any = chunks) -> Any:
    """The condition that some frame in use needs a row of `chunks`."""
    return exists().where(chunk_inputs.c.input == rows.c.digest)


def is_overtaken(rows: Any = chunks) -> Any:
    """The condition that the level of a row of `chunks` is not below that of all its dependents."""
    edge, dependent = chunk_inputs.alias(), chunks.alias()
    query = select(edge.c.chunk_id).join(dependent, dependent.c.id == edge.c.chunk_id)
    found = query.where(edge.c.input == rows.c.digest, dependent.c.level <= rows.c.level)
    return has_inputs(rows) & found.correlate(rows).exists()


def is_complete(rows: Any = chunks, spoiled: Any = None, *, edges: int = MOST_EDGES) -> Any:
    """The condition that all a row of `chunks` needs has frames of levels that allow it. With
    `spoiled`, a function that makes the condition that a frame cannot be read, that neither it
    nor any of these is."""
    condition = is_standalone(rows)
    if edges:
        edge, source = chunk_inputs.alias(), chunks.alias()
        fits = exists().where(
            source.c.digest == edge.c.input,
            source.c.level < rows.c.level,
            is_complete(source, spoiled, edges=edges - 1),
        )
        lacking = exists().where(edge.c.chunk_id == rows.c.id, ~fits.correlate(edge, rows))
        condition |= ~lacking.correlate(rows)
    return condition & ~spoiled(rows) if spoiled is not None else condition


def root_of() -> tuple[Any, Any, Any]:
    """Returns what to outer join to `chunks` as pairs of table and condition, the digest of the
    standalone chunk that each rests on first of all (its own where it is one), and that of the
    first input of a derived one (null of any other)."""
    edge, source, under = chunk_inputs.alias(), chunks.alias(), chunk_inputs.alias()
    joins = [
        (edge, is_derived() & (edge.c.chunk_id == chunks.c.id) & (edge.c.position == 0)),
        (source, source.c.digest == edge.c.input),
        (under, (under.c.chunk_id == source.c.id) & (under.c.position == 0)),
    ]
    base = case((chunks.c.level == DELTA, type_coerce(chunks.c.inputs, LargeBinary)))
    root = func.coalesce(under.c.input, edge.c.input, base, chunks.c.digest)
    return joins, root, edge.c.input


def much_needed(least: int) -> Any:
    """Selects the digests of chunks that at least so many others need, directly or not."""
    edge, under, middle = chunk_inputs.alias(), chunk_inputs.alias(), chunks.alias()
    derived = chunks.alias()
    direct = select(edge.c.input, edge.c.chunk_id)
    indirect = (
        select(under.c.input, derived.c.id)
        .join(edge, edge.c.chunk_id == derived.c.id)
        .join(middle, middle.c.digest == edge.c.input)
        .join(under, under.c.chunk_id == middle.c.id)
        .where(is_derived(derived))
    )
    pairs = union(direct, indirect).subquery()
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
    for _ in _DISTANCES:
        above |= {digest: set() for digest in new}
        for edge in read_dependents(connection, new):
            above[edge.input].add(edge.digest)
        new = {digest for key in new for digest in above[key]} - above.keys()
    return {
        digest: {digest} | above[digest].union(*(above.get(d, ()) for d in above[digest]))
        for digest in digests
    }


def inputs_closure(connection: Connection, digests: Collection[bytes]) -> set[bytes]:
    """Returns all that the frames in use of `digests` need."""
    query = select(chunks.c.inputs).where(has_inputs())
    found: set[bytes] = set()
    new = set(digests)
    for _ in _DISTANCES:
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
