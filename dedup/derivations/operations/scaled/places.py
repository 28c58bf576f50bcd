"""Which scale belongs to which element (FORMAT.md, "Operations: scaled codes")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .....codecs.buffers import freeze
from .....codecs.jit.cached import njit
from ..errors import InvalidRecipe

LITERAL, EACH, TILES = range(3)
MOST = 1 << 48


@dataclass(frozen=True, slots=True)
class Place:
    """Where an element's scale stands.

    LITERAL: there is one, in the parameters. EACH: `group` output elements share one; the operand
    is read with the ratio 1 : group. TILES: of element e, counted from `start`, it is number
    `e div period * step + e mod width div tile` of the operand, which is read as a whole.
    """

    kind: int
    group: int = 1
    start: int = 0
    period: int = 1
    step: int = 1
    width: int = 1
    tile: int = 1

    def check(self) -> None:
        """Raises InvalidRecipe unless scales can be found."""
        numbers = (self.group, self.period, self.width, self.tile)
        if self.kind not in (LITERAL, EACH, TILES) or min(numbers) < 1:
            raise InvalidRecipe("scales that are nowhere")
        if max(*numbers, self.start, self.step) > MOST:
            raise InvalidRecipe("scales that are too far away")
        if self.step and self.period % self.width:
            raise InvalidRecipe("scales whose rows are no whole ones")


def by_rows(columns: int, start: int = 0) -> Place:
    """A scale for each row of `columns` elements."""
    return Place(TILES, start=start, period=columns)


def by_columns(columns: int, start: int = 0) -> Place:
    """A scale for each column."""
    return Place(TILES, start=start, step=0, width=columns)


def by_tiles(columns: int, height: int, width: int, start: int = 0) -> Place:
    """A scale for each tile of height by width elements."""
    across = -(-columns // width)
    return Place(TILES, 1, start, height * columns, across, columns, width)


def spread(values: NDArray[Any], place: Place, first: int, per: int, count: int) -> NDArray[Any]:
    """Returns the scale of each of `count` elements, of which `per` make an output element, from
    output element `first` on; zero where the operand has none."""
    out = np.zeros(count, values.dtype)
    if place.kind == LITERAL or not values.size:
        out[:] = values[:1] if values.size else 0
    elif place.kind == EACH:
        period = place.group * per
        skip = first // place.group
        spread_kernel(freeze(values), first * per, period, 1, 1, 1, skip, out)
    else:
        start = place.start + first * per
        numbers = place.period, place.step, place.width, place.tile
        spread_kernel(freeze(values), start, *numbers, 0, out)
    return freeze(out)


@njit(nogil=True, cache=True)
def spread_kernel(values, start, period, step, width, tile, skip, out):
    """Writes the scale of each element from ``start`` on; see Place. Runs of equal scales are
    written at once."""
    at = 0
    while at < out.size:
        element = start + at
        column = element % width
        place = element // period * step + column // tile - skip
        if width == 1:
            run = period - element % period
        elif tile == 1:
            run = width - column
        else:
            run = min(tile - column % tile, width - column)
        run = min(run, out.size - at)
        if tile == 1 and width > 1:
            # Numbers far away wrap around, and are nowhere then.
            for i in range(min(run, values.size - place) if place >= 0 else 0):
                out[at + i] = values[place + i]
            at += run
            continue
        value = values[place] if 0 <= place < values.size else out[at]
        for i in range(at, at + run):
            out[i] = value
        at += run
