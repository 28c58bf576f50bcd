"""Chooses which members of a family are standalone and which of them each other one is coded
against.

To store a family in the fewest bytes, with every delta chain of length 1, is the facility location
problem: opening a centre costs its standalone frame, each other member the delta on the nearest
open one. Local search stays within 0.1 % of the best such plan on average where all plans can be
tried (`tests/dedup/similarity/test_plan.py`). From there members come to rest on each other in
trees (tree_plan.py), as deep as reads may be (the trade of storage against reconstruction of R2D2).
The sizes come from the words of sketches, so planning reads no weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..model.inputs import CHAIN_LENGTH
from ..model.sketch import Sketch
from .size_prediction import delta_sizes, ordered_words, predict_alone
from .tree_plan import MOST_MEMBERS, grow_trees, levels_of

# Members that are considered as centres: beyond that a sample does as well (a centre near the
# middle is as good as the best one), and planning stays below a second.
MOST_CENTRES = 96

_ROUNDS = 20

# A star is as good as a tree that is predicted to be this near: it is read with fewer frames.
_SURE = 1.005


@dataclass(frozen=True, slots=True)
class Member:
    """A chunk of a family: its sketch, its present frame's bytes, and its base as a position in
    the family, None where it is standalone. `fixed` ones must go on to be standalone, others may
    have a level up to their `ceiling`. One that is not `coded` is stored as it is, whatever a codec
    could make of it. Nothing that does not do so yet may rest on one that is not `needed`."""

    sketch: Sketch
    frame_bytes: int
    base: int | None
    fixed: bool = False
    coded: bool = True
    ceiling: int = CHAIN_LENGTH
    needed: bool = True


@dataclass(frozen=True, slots=True)
class Plan:
    """The base of each member, and the frame bytes of all: `before` and, predicted, `after`."""

    bases: tuple[int | None, ...]
    before: int
    after: int


def plan_family(members: Sequence[Member], length: int = CHAIN_LENGTH) -> Plan:
    """Returns the best plan found for a family of one dtype and size, with chains of at most
    `length` deltas, or those that there are.

    Never worse than the present one by its own predictions, which are scaled to the sizes of the
    frames there are.
    """
    centres = _possible_centres(members)
    deltas = _delta_matrix(members, centres)
    alone = _standalone_sizes(members)
    chosen = _search(deltas, alone[centres], _present(members, centres), members, centres)
    star = _assign(deltas, alone, chosen, centres)
    before = sum(member.frame_bytes for member in members)
    plans = [star, *_grow(members, deltas, alone, centres, star, length)]
    sizes = [
        sum(_size_of(members, i, base, deltas, alone, centres) for i, base in enumerate(bases))
        for bases in plans
    ]
    least = min(sizes)
    if sizes[0] <= _SURE * least:
        least = sizes[0]
    return Plan(plans[sizes.index(least)], before, int(least))


def _grow(
    members: Sequence[Member],
    deltas: NDArray[np.float64],
    alone: NDArray[np.float64],
    centres: list[int],
    star: tuple[int | None, ...],
    length: int,
) -> list[tuple[int | None, ...]]:
    """Returns the trees that the star and the present plan grow into; none where nothing can be
    predicted."""
    if len(members) > MOST_MEMBERS or not all(member.sketch.words for member in members):
        return []
    present = tuple(member.base for member in members)
    ceilings = [0 if m.fixed else min(m.ceiling, length) for m in members]
    known, column = deltas.copy(), {i: j for j, i in enumerate(centres)}
    standing = alone.copy()
    for i, member in enumerate(members):
        if member.base is not None:
            known[i, column[member.base]] = member.frame_bytes
        elif member.coded:
            standing[i] = member.frame_bytes
    usable = [j for j, i in enumerate(centres) if members[i].needed]
    columns = [centres[j] for j in usable]
    starts = [s for s in (star, present) if _fits(s, ceilings) and _stands_on(s, columns)]
    return [grow_trees(known[:, usable], standing, columns, s, ceilings) for s in starts]


def _fits(bases: tuple[int | None, ...], ceilings: Sequence[int]) -> bool:
    levels = levels_of(np.array([-1 if b is None else b for b in bases], np.intp))
    return bool((levels <= np.array(ceilings)).all())


def _stands_on(bases: tuple[int | None, ...], columns: Sequence[int]) -> bool:
    return {base for base in bases if base is not None} <= set(columns)


def choose_centres(
    deltas: NDArray[np.float64], alone: NDArray[np.float64], start: set[int], keep: set[int]
) -> set[int]:
    """Returns the columns to open so that the sum of `alone` over them and of the least of
    `deltas` (members by columns, 0 for a member's own column) is small: local search by adding,
    dropping and exchanging one at a time, from `start`. `keep` stay open."""
    singles = {frozenset(keep | {j}) for j in range(len(alone))} | {frozenset(start | keep)}
    best = min(singles, key=lambda s: (_total(deltas, alone, s), sorted(s)))
    cost = _total(deltas, alone, best)
    for _ in range(_ROUNDS):
        found = min(
            _neighbours(best, len(alone), keep),
            key=lambda s: (_total(deltas, alone, s), sorted(s)),
            default=best,
        )
        if _total(deltas, alone, found) >= cost:
            break
        best, cost = found, _total(deltas, alone, found)
    return set(best)


def _neighbours(chosen: frozenset[int], count: int, keep: set[int]) -> list[frozenset[int]]:
    closed = [j for j in range(count) if j not in chosen]
    open_ = [j for j in chosen if j not in keep]
    added = [chosen | {j} for j in closed]
    dropped = [chosen - {j} for j in open_ if len(chosen) > 1]
    exchanged = [chosen - {i} | {j} for i in open_ for j in closed]
    return added + dropped + exchanged


def _total(
    deltas: NDArray[np.float64], alone: NDArray[np.float64], chosen: frozenset[int]
) -> float:
    columns = sorted(chosen)
    return float(alone[columns].sum() + deltas[:, columns].min(1).sum())


def _search(
    deltas: NDArray[np.float64],
    alone: NDArray[np.float64],
    start: set[int],
    members: Sequence[Member],
    centres: list[int],
) -> list[int]:
    keep = {j for j, i in enumerate(centres) if members[i].fixed}
    # A member never costs more than being standalone, whether it is a possible centre or not.
    return [centres[j] for j in sorted(choose_centres(deltas, alone, start, keep))]


def _possible_centres(members: Sequence[Member]) -> list[int]:
    # Of chunks that are not coded yet all are standalone: too many, and none of them for a reason.
    bases = {m.base for m in members}
    chosen = bases | {i for i, m in enumerate(members) if m.coded or m.fixed}
    present = [i for i, m in enumerate(members) if i in bases or (m.base is None and i in chosen)]
    others = sorted({i for i, m in enumerate(members) if m.needed} - set(present))
    room = max(0, MOST_CENTRES - len(present))
    step = max(1, -(-len(others) // room)) if room else len(others) + 1
    return sorted(present + others[::step])


def _delta_matrix(members: Sequence[Member], centres: list[int]) -> NDArray[np.float64]:
    """Predicted delta of each member on each possible centre; 0 on itself."""
    words = ordered_words([member.sketch for member in members])
    rows = [delta_sizes(m.sketch, words[i], words[centres]) for i, m in enumerate(members)]
    matrix = np.stack(rows)
    column = {i: j for j, i in enumerate(centres)}
    known = [
        (member.frame_bytes, matrix[i, column[member.base]])
        for i, member in enumerate(members)
        if member.base is not None
    ]
    if known:
        matrix *= np.median([real / max(1.0, guess) for real, guess in known])
    for i, j in column.items():
        matrix[i, j] = 0
    return matrix


def _standalone_sizes(members: Sequence[Member]) -> NDArray[np.float64]:
    """Bytes of each member without a base: known for those that have none."""
    guesses = np.array([predict_alone(member.sketch) for member in members], np.float64)
    known = [i for i, member in enumerate(members) if member.base is None and member.coded]
    scale = np.median([members[i].frame_bytes / guesses[i] for i in known]) if known else 1.0
    sizes = guesses * scale
    for i in known:
        sizes[i] = members[i].frame_bytes
    return sizes


def _present(members: Sequence[Member], centres: list[int]) -> set[int]:
    return {j for j, i in enumerate(centres) if members[i].base is None}


def _assign(
    deltas: NDArray[np.float64], alone: NDArray[np.float64], chosen: list[int], centres: list[int]
) -> tuple[int | None, ...]:
    columns = [centres.index(i) for i in chosen]
    nearest = deltas[:, columns].argmin(1)
    return tuple(
        None if i in chosen or deltas[i, columns[nearest[i]]] >= alone[i] else chosen[nearest[i]]
        for i in range(len(alone))
    )


def _size_of(
    members: Sequence[Member],
    i: int,
    base: int | None,
    deltas: NDArray[np.float64],
    alone: NDArray[np.float64],
    centres: list[int],
) -> float:
    if base == members[i].base and members[i].coded:
        return members[i].frame_bytes
    return alone[i] if base is None else deltas[i, centres.index(base)]
