"""What the frames of all chunks need, directly or not, as arrays of positions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, select

from ...packs import MAX_CHAIN
from ..edges import inputs_by_dependents
from ..tables.schema import chunks
from .columns import Integers, read_lists

Positions = NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class Needs:
    """What each of n chunks needs, each once: `input` (e,) are positions, those of chunk i at
    `start[i]` to `start[i + 1]`, `start` (n + 1,)."""

    start: Positions
    input: Positions

    @property
    def counts(self) -> Positions:
        """How many others each chunk needs, (n,)."""
        return np.diff(self.start)

    @property
    def dependent(self) -> Positions:
        """The positions of those that need `input`, (e,)."""
        return np.repeat(np.arange(len(self.start) - 1, dtype=np.int32), self.counts)

    def of(self, chunk: Positions) -> tuple[Integers, Positions]:
        """Returns what each of `chunk`, (m,) positions, needs: pairs of the place in `chunk`, in
        ascending order, and the position of what is needed there."""
        first = self.start[chunk]
        counts = self.start[chunk + 1] - first
        place = np.flatnonzero(counts)
        if counts.max(initial=0) <= 1:
            return place, self.input[first[place]]
        counts = counts[place]
        run = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return np.repeat(place, counts), self.input[np.repeat(first[place], counts) + run]


def make_needs(count: int, dependent: Positions, source: Positions) -> Needs:
    """Returns what `count` chunks need, given all edges as positions, (e,) each, in any order."""
    direct = needs = _sort_pairs(count, dependent, source)
    new = direct
    # Levels fall along edges, so paths end; those that were just found are all that can go on.
    for _ in range(MAX_CHAIN):
        place, further = direct.of(new.input)
        if not place.size:
            break
        new = _sort_pairs(count, new.dependent[place], further)
        dependent = np.append(needs.dependent, new.dependent)
        needs = _sort_pairs(count, dependent, np.append(needs.input, new.input))
    return needs


def _sort_pairs(count: int, dependent: Positions, source: Positions) -> Needs:
    keys = dependent.astype(np.int64) * count + source
    keys.sort()
    keys = keys[np.diff(keys, prepend=-1) != 0]
    counts = np.bincount(keys // max(count, 1), minlength=count)
    start = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    return Needs(start, (keys % max(count, 1)).astype(np.int32))


def read_edges(connection: Connection) -> tuple[Integers, Integers]:
    """Returns all edges as ids of the dependent and of its input; both queries only read indexes.
    An input without a frame is left out, for `check` to report."""
    input_, dependent = inputs_by_dependents()
    distinct = select(input_).distinct()
    query = select(chunks.c.digest, chunks.c.id).where(chunks.c.digest.in_(distinct))
    ids = {row.digest: row.id for row in connection.execute(query)}
    dependents, inputs, counts = [np.empty(0, np.int64)], [], []
    for digest, (found,) in read_lists(connection, input_, [dependent]):
        if digest in ids:
            dependents.append(found)
            inputs.append(ids[digest])
            counts.append(len(found))
    return np.concatenate(dependents), np.repeat(np.array(inputs, np.int64), counts)
