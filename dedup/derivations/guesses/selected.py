"""Guesses tensors that are rows of others: some of them, as of a trimmed vocabulary or without
pruned heads, those of several together, as in fused projections, or some columns of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from math import prod

import numpy as np
from numpy.typing import NDArray

from ..operations.floats.formats import NAMES as FLOATS
from ..operations.values import Raw
from ..recipe import MAX_INPUTS, Grid, Operand, Piece, Recipe, Rows, merge_runs
from .casts import CAST
from .kinds import Pool, Ranked, View, view_as_is
from .row_hashes import NOWHERE, Hashes, fill_gaps, find_rows, hash_rows
from .tensors import StoredTensor, Target

# Rows that must be found for a guess to be tried.
_LEAST_FOUND = 0.5
_LEAST_ROWS = 4
_LEAST_COLUMNS = 8
# What is read of sources for one target: a fixed amount, and so many times its own bytes.
_FREE_BYTES = 32 << 20
_MOST_TIMES = 8
# Rows are read so many bytes at once, columns of tensors up to so many.
_READ_BYTES = 16 << 20
_MOST_BYTES = 256 << 20
# Tensors that rows are taken from: a chunk has those of a few.
_MOST_SOURCES = 512
# Sources that some columns are looked for in.
_MOST_WIDER = 4
# Targets that are no rows of anything after which no more are looked at, unless as many were.
_MOST_MISSES = 4
_TRIES = "rows", "tries"
_OTHERS = "rows", "others"
# Elements of the first row that a window of columns is looked for by.
_WINDOW = 32


class Selected:
    """A float tensor whose rows are those of others of its dtype."""

    any_size = True

    def takes(self, dtype: str) -> bool:
        """See Kind.takes."""
        return dtype in FLOATS

    def views(self, target: Target) -> Iterator[View]:
        """Yields nothing: a sketch tells nothing of some rows."""
        yield from ()

    def guesses(self, target: Target, pool: Pool) -> Iterator[Ranked]:
        """Yields the rows as they are found in what is not of the target's own revision."""
        tensor = target.tensor
        if len(tensor.shape) < 2 or tensor.elements < _LEAST_ROWS * tensor.shape[-1]:
            return
        sources = [source for source in _others(tensor, pool) if not _is_own(target, source)]
        tries = pool.kept.setdefault(_TRIES, [0, 0])
        assert isinstance(tries, list)
        if not sources or tries[0] >= _MOST_MISSES > tries[1] or _has_whole(target, pool):
            return
        finder = _Finder(target, pool.kept)
        selection = finder.find(sorted(sources, key=lambda source: _order(tensor, source)))
        tries[0 if selection is None else 1] += 1
        if selection is not None:
            yield (0.0, -tensor.bits, False), selection


def _others(tensor: StoredTensor, pool: Pool) -> list[StoredTensor]:
    """Returns what a tensor's rows may be rows of: the same for all of its dtype, elements and
    columns."""
    columns = tensor.shape[-1]
    found = pool.kept.setdefault((_OTHERS, tensor.dtype, tensor.elements, columns), [])
    assert isinstance(found, list)
    if not found:
        # In a list of its own, so that none found is told from not looked for.
        listed = [
            source
            for source in pool.all_tensors()
            if source.dtype == tensor.dtype
            and len(source.shape) >= 2
            and source.shape[-1] >= columns
            and source.elements != tensor.elements
        ]
        found.append(listed)
    return found[0]


def _is_own(target: Target, source: StoredTensor) -> bool:
    own = target.companions.named.get(source.name)
    return own is not None and own.pieces == source.pieces


def _has_whole(target: Target, pool: Pool) -> bool:
    """Tells whether there is a tensor of the same elements that the target is like: then it is that
    one, not rows of another."""
    view = view_as_is(target, lambda source: source.dtype in FLOATS, arranged=False)
    return any(match.distance < 1 for match in pool.matches(target, view))


def _order(target: StoredTensor, source: StoredTensor) -> tuple[bool, int, int]:
    """Sources that are named alike come first; of these those with whole rows."""
    pairs = zip(target.name, source.name, strict=False)
    alike = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    same = source.name == target.name
    return not same, -alike, source.shape[-1] - target.shape[-1]


@dataclass(frozen=True, slots=True)
class Selection:
    """A guess: rows of tensors, back to back, and columns of them, None for all."""

    target: StoredTensor
    tensors: tuple[StoredTensor, ...]
    rows: NDArray[np.int64]
    columns: tuple[tuple[int, int], ...] | None = None

    @property
    def sources(self) -> tuple[StoredTensor, ...]:
        """All of them."""
        return self.tensors

    @property
    def inputs(self) -> tuple[StoredTensor, ...]:
        """All of them."""
        return self.tensors

    def recipe(self, first: int, raw: Raw) -> Recipe | None:
        """See Guess.recipe. Names the chunks alone that have the rows of this one."""
        width, wide = self.target.shape[-1], self.tensors[0].shape[-1]
        count = self.target.count(raw.size)
        begin, end = first // width, -(-(first + count) // width)
        rows = self.rows[begin:end]
        pieces, skipped = _pieces(self.tensors, wide, int(rows.min()), int(rows.max()) + 1)
        rows = rows - skipped
        offset = first - begin * width
        runs = merge_runs(rows.tolist())
        arrangement = Rows(wide, runs) if self.columns is None else Grid(wide, runs, self.columns)
        if self.columns is None and len(runs) == 1:
            arrangement, offset = None, offset + runs[0][0] * wide
        operand = Operand(self.target.dtype, pieces, offset, (1, 1), arrangement)
        recipe = Recipe(*CAST, (operand,), b"\0")
        return recipe if len(recipe.inputs) <= MAX_INPUTS else None


def _pieces(
    tensors: tuple[StoredTensor, ...], wide: int, first: int, stop: int
) -> tuple[tuple[Piece, ...], int]:
    """Returns the chunks that hold rows [first, stop) of tensors, back to back, and how many rows
    come before them: chunks begin at a row."""
    chunks = [(p, t.count(p.raw_bytes)) for t in tensors for p in t.pieces]
    starts = np.cumsum([0, *(count for _, count in chunks)])
    begins = [i for i in range(len(chunks)) if starts[i] % wide == 0 and starts[i] <= first * wide]
    low = begins[-1]
    high = int(np.searchsorted(starts, stop * wide))
    # The operand is whole rows, too.
    while starts[high] % wide:
        high += 1
    return tuple(piece for piece, _ in chunks[low:high]), int(starts[low]) // wide


class _Finder:
    """Looks for the rows of one target."""

    def __init__(self, target: Target, kept: dict[object, object]) -> None:
        tensor = target.tensor
        self._target = target
        self._kept = kept
        self._width = tensor.shape[-1]
        self._rows = prod(tensor.shape[:-1])
        self._left = _FREE_BYTES + _MOST_TIMES * tensor.elements * tensor.unit

    def find(self, sources: list[StoredTensor]) -> Selection | None:
        """Returns where the rows are, None if they are nowhere."""
        whole = [source for source in sources if source.shape[-1] == self._width]
        found = self._find_whole(whole)
        if found is None:
            wider = [source for source in sources if source.shape[-1] > self._width]
            for source in wider[:_MOST_WIDER]:
                found = found or self._find_parts(source)
        return found

    def _find_whole(self, sources: list[StoredTensor]) -> Selection | None:
        if not sources:
            return None
        wanted = self._hashes(self._target.tensor)
        if wanted is None:
            return None
        used: list[StoredTensor] = []
        places = np.full(wanted.size, NOWHERE, np.int64)
        before = 0
        for source in sources:
            missing = np.flatnonzero(places == NOWHERE)
            if not missing.size or len(used) == _MOST_SOURCES:
                break
            there = self._hashes(source)
            if there is None:
                break
            found = find_rows(wanted[missing], there)
            if np.count_nonzero(found != NOWHERE) >= _LEAST_ROWS:
                places[missing] = np.where(found == NOWHERE, NOWHERE, found + before)
                before += there.size
                used.append(source)
        return self._select(used, places, before, None)

    def _find_parts(self, source: StoredTensor) -> Selection | None:
        """Looks for a window of columns, then for columns here and there of as many rows."""
        largest = max(each.elements * each.unit for each in (source, self._target.tensor))
        if largest > _MOST_BYTES or self._width < _LEAST_COLUMNS or not self._may_read(source):
            return None
        raw, own = (
            self._target.read.raw(each, 0, each.elements) for each in (source, self._target.tensor)
        )
        unit, wide = source.unit, source.shape[-1]
        theirs = raw.reshape(-1, wide * unit)
        ours = own.reshape(-1, self._width * unit)
        at = raw.tobytes().find(ours[0, : _WINDOW * unit].tobytes())
        first = at // unit % wide
        if at >= 0 and at % unit == 0 and first + self._width <= wide:
            window = theirs[:, first * unit : (first + self._width) * unit]
            places = find_rows(hash_rows(ours), hash_rows(window))
            selected = self._select([source], places, len(theirs), ((first, self._width),))
            if selected is not None:
                return selected
        if len(theirs) != len(ours) or not _is_within(ours[0], theirs[0], unit):
            return None
        columns = find_rows(hash_rows(_turn(ours, unit)), hash_rows(_turn(theirs, unit)))
        if np.count_nonzero(columns == NOWHERE):
            return None
        rows = np.arange(len(ours), dtype=np.int64)
        return Selection(self._target.tensor, (source,), rows, merge_runs(columns.tolist()))

    def _select(
        self,
        used: list[StoredTensor],
        places: NDArray[np.int64],
        rows: int,
        columns: tuple[tuple[int, int], ...] | None,
    ) -> Selection | None:
        if np.count_nonzero(places != NOWHERE) < _LEAST_FOUND * places.size:
            return None
        return Selection(self._target.tensor, tuple(used), fill_gaps(places, rows), columns)

    def _hashes(self, tensor: StoredTensor) -> Hashes | None:
        """Returns the hashes of a tensor's rows; None for a source where enough was read."""
        key = "rows", tensor.pieces, tensor.offset
        hashes = self._kept.get(key)
        if hashes is None:
            if tensor is not self._target.tensor and not self._may_read(tensor):
                return None
            hashes = self._kept[key] = self._hash(tensor)
        assert isinstance(hashes, np.ndarray)
        return hashes

    def _hash(self, tensor: StoredTensor) -> Hashes:
        """Hashes rows, a few megabytes at once."""
        width = tensor.shape[-1]
        step = width * max(1, _READ_BYTES // (width * tensor.unit))
        parts = (
            self._target.read.raw(tensor, first, min(first + step, tensor.elements))
            for first in range(0, tensor.elements, step)
        )
        return np.concatenate([hash_rows(raw.reshape(-1, width * tensor.unit)) for raw in parts])

    def _may_read(self, source: StoredTensor) -> bool:
        self._left -= source.elements * source.unit
        return self._left >= 0


def _is_within(row: Raw, other: Raw, unit: int) -> bool:
    """Tells whether the elements of a row are all among those of another."""
    ours, theirs = (np.ascontiguousarray(each).view(f"V{unit}") for each in (row, other))
    return set(ours.tolist()) <= set(theirs.tolist())


def _turn(rows: Raw, unit: int) -> Raw:
    """Returns rows of elements as rows of their columns."""
    items = rows.reshape(len(rows), -1, unit).swapaxes(0, 1)
    return np.ascontiguousarray(items).reshape(len(items), -1)


KIND = Selected()
