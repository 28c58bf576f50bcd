"""Reads rows and columns that are taken out of an operand, and of the operand only what they need
(FORMAT.md, "Recipes")."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from ...codecs.dtypes import find_dtype
from .operations.values import Raw, Values
from .recipe import Grid, Rows

# Rows this much more than those wanted are read at once, instead of run by run.
_MOST_SPARE = 8
# Columns in more runs than this are picked by number, if they are no more than so many.
_FEW_RUNS = 16
_MOST_PICKED = 1 << 20

Runs = tuple[tuple[int, int], ...]


class Selection:
    """Rows of an operand, and the columns that are taken of each."""

    def __init__(self, arrangement: Rows | Grid) -> None:
        self._row_elements = arrangement.row_elements
        self._runs = arrangement.runs
        # Ascending, where each run ends among the rows that are taken.
        self._ends = np.cumsum([count for _, count in self._runs], dtype=np.int64)
        self._columns = arrangement.columns if isinstance(arrangement, Grid) else None
        self._width = self._row_elements
        if self._columns is not None:
            self._width = sum(count for _, count in self._columns)
        self._picked: NDArray[np.int64] | None = None

    def fits(self, total: int) -> bool:
        """Tells whether an operand of `total` elements has all of it."""
        row = self._row_elements
        columns = self._columns or ()
        return (
            row > 0
            and self._width > 0
            and total % row == 0
            and _end(self._runs) * row <= total
            and _end(columns) <= row
        )

    def read(self, start: int, end: int, given: Callable[[int, int], Values]) -> Values:
        """Returns the elements [start, end) of what is taken; `given` reads elements of the
        operand."""
        first, last = start // self._width, -(-end // self._width)
        row = self._row_elements
        parts: list[Raw] = []
        dtype, width = "", 1
        for place, count, picked in self._spans(first, last):
            values = given(place * row, (place + count) * row)
            dtype, width = values.dtype, find_dtype(values.dtype).item_bytes
            rows = np.ascontiguousarray(values.raw).reshape(count, row * width)
            parts.append(self._take_columns(rows if picked is None else rows[picked], width))
        if not parts:
            return given(0, 0)
        taken = parts[0] if len(parts) == 1 else np.concatenate(parts)
        begin = (start - first * self._width) * width
        return Values(dtype, taken[begin : begin + (end - start) * width])

    def _spans(self, first: int, last: int) -> Iterator[tuple[int, int, NDArray[np.int64] | None]]:
        """Yields what to read for the rows [first, last) of those that are taken: a row, how many
        from there on, and which of them are wanted, None for all."""
        if first >= last:
            return
        runs = list(self._wanted(first, last))
        low, high = min(place for place, _ in runs), max(place + count for place, count in runs)
        if len(runs) > 1 and high - low <= _MOST_SPARE * (last - first):
            picked = np.concatenate([np.arange(p, p + n, dtype=np.int64) for p, n in runs])
            yield low, high - low, picked - low
        else:
            yield from ((place, count, None) for place, count in runs)

    def _wanted(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        at = int(np.searchsorted(self._ends, first, "right"))
        while first < last:
            place, count = self._runs[at]
            begin = int(self._ends[at]) - count
            stop = min(last, begin + count)
            if stop > first:
                yield place + first - begin, stop - first
            first, at = stop, at + 1

    def _take_columns(self, rows: Raw, width: int) -> Raw:
        if self._columns is None:
            return rows.reshape(-1)
        if len(self._columns) > _FEW_RUNS and self._width <= _MOST_PICKED:
            if self._picked is None:
                self._picked = np.concatenate([np.arange(f, f + n) for f, n in self._columns])
            items = rows.reshape(len(rows), self._row_elements, width)
            return np.ascontiguousarray(items[:, self._picked]).reshape(-1)
        cut = [rows[:, first * width : (first + count) * width] for first, count in self._columns]
        return np.ascontiguousarray(np.concatenate(cut, axis=1)).reshape(-1)


def _end(runs: Runs) -> int:
    return max((first + count for first, count in runs), default=0)
