"""Lets the members of a family rest on each other in trees of bounded depth.

To store a family in the fewest bytes, with chains of at most so many deltas, is the problem of the
least spanning tree with a bound on hops, which is hard. Local search from a good star, or from what
is stored, moves one branch at a time to where it takes least, the one that saves most first.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# Members of larger families rest on centres alone: a move looks at each member and base.
MOST_MEMBERS = 512

# What a move must save of what the member takes: predictions are not surer than that.
_LEAST_GAIN = 0.02

_Floats = NDArray[np.float64]
_NONE = -1


def grow_trees(
    deltas: _Floats,
    alone: _Floats,
    columns: Sequence[int],
    start: Sequence[int | None],
    ceilings: Sequence[int],
) -> tuple[int | None, ...]:
    """Returns a base for each member, None for those that are standalone, so that the sum of what
    all take is small.

    ``deltas``: (n, m) bytes of each member on those of the positions ``columns``; ``alone``: (n,)
    bytes without a base; ``start``: the bases to begin with, whose levels are within
    ``ceilings``, the highest level that each member may have. A member whose ceiling is 0 stays
    standalone.
    """
    forest = _Forest(start, ceilings)
    column = {position: j for j, position in enumerate(columns)}
    costs = [alone[i] if b is None else deltas[i, column[b]] for i, b in enumerate(start)]
    current = np.array(costs, np.float64)
    at = np.array(columns, np.intp)
    for _ in range(2 * len(start)):
        least = np.maximum(1, _LEAST_GAIN * current)
        gains = current[:, None] - deltas
        gains[gains < least[:, None]] = 0
        gains[forest.levels[at][None, :] + 1 > forest.slack[:, None]] = 0
        gains[at, np.arange(at.size)] = 0
        move = _best_move(forest, gains, at)
        standing = np.where(forest.parents == _NONE, 0, current - alone)
        standing[standing < least] = 0
        lone = int(standing.argmax())
        if move is not None and gains[move] >= standing[lone]:
            member, j = move
            forest.hang(member, columns[j])
            current[member] = deltas[member, j]
        elif standing[lone] > 0:
            forest.hang(lone, _NONE)
            current[lone] = alone[lone]
        else:
            break
    return tuple(None if p == _NONE else int(p) for p in forest.parents)


def _best_move(forest: _Forest, gains: _Floats, at: NDArray[np.intp]) -> tuple[int, int] | None:
    """Returns the member and the column of the move that saves most, None if none saves enough."""
    while gains.size:
        member, j = map(int, np.unravel_index(gains.argmax(), gains.shape))
        if gains[member, j] <= 0:
            return None
        if not forest.rests_on(int(at[j]), member):
            return member, j
        gains[member, j] = 0
    return None


class _Forest:
    """Members that rest on each other: the parent and the level of each, and ``slack``, the highest
    level that a member may have with what rests on it."""

    def __init__(self, bases: Sequence[int | None], ceilings: Sequence[int]) -> None:
        self.parents = np.array([_NONE if b is None else b for b in bases], np.intp)
        self._ceilings = np.array(ceilings, np.intp)
        self._settle()

    def hang(self, member: int, parent: int) -> None:
        """Lets a member, with what rests on it, rest on another."""
        self.parents[member] = parent
        self._settle()

    def rests_on(self, member: int, other: int) -> bool:
        """Says whether a member is another one or rests on it."""
        while member not in (other, _NONE):
            member = int(self.parents[member])
        return member == other

    def _settle(self) -> None:
        self.levels = levels_of(self.parents)
        self.slack = self._ceilings.copy()
        for member in np.argsort(-self.levels, kind="stable"):
            parent = self.parents[member]
            if parent != _NONE:
                self.slack[parent] = min(self.slack[parent], self.slack[member] - 1)


def levels_of(parents: NDArray[np.intp]) -> NDArray[np.intp]:
    """Returns how many others each member rests on, given the base of each, -1 for none."""
    levels = np.zeros(parents.size, np.intp)
    above = parents.copy()
    while (resting := above != _NONE).any():
        levels[resting] += 1
        above[resting] = parents[above[resting]]
    return levels
