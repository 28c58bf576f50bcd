"""Guesses weighted means of stored tensors: linear merges, soups, and base plus parts of what
several fine-tunes changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from ....codecs.dtypes import find_dtype
from ..operations.errors import InvalidRecipe
from ..operations.floats.formats import NAMES as FLOATS
from ..operations.merges import elementwise
from ..operations.merges.elementwise import (
    ADD,
    CONSTANT,
    DIVIDE,
    MULTIPLY,
    OPERAND,
    SUBTRACT,
    Step,
    pack_steps,
    weighted_sum,
)
from ..operations.values import Raw, Values
from .kinds import Formula, Part, Pool, Ranked, View, view_as_is
from .tensors import StoredTensor, Target

MERGE = (7, 1)
"""Number and version of the operation."""
_MOST_SOURCES = 6
# Elements that weights are solved by, those that formulas are tried on, and the first of these that
# most formulas fail at already.
_SOLVED = 1 << 14
_TRIED = 1 << 13
_GLANCED = 1 << 9
# Formulas that give fewer of the elements are none: another fine-tune has half of them in common
# with the mean of its siblings, and would be no source of what was really made of it.
_LEAST_EQUAL = 0.95
_LEAST_AT_A_GLANCE = 0.8
# Targets without a formula after which the others of a revision are not looked at.
_MOST_MISSES = 3
# People choose weights that are multiples of 1 / n.
_SHARES = (2, 3, 20, 4, 6, 7, 8, 100)
_TOLERANCE = 0.03
_MOST_WEIGHTS = 6
_MISSES, _HITS = ("merges", "misses"), ("merges", "hits")


class Merged:
    """A float tensor that is the weighted mean of several others that lie as it does."""

    any_size = False

    def takes(self, dtype: str) -> bool:
        """See Kind.takes."""
        return dtype in FLOATS

    def views(self, target: Target) -> Iterator[View]:
        """Yields nothing: casts look for the target as it is, too."""
        yield from ()

    def guesses(self, target: Target, pool: Pool) -> Iterator[Ranked]:
        """Yields the formula that gives most of the start of the target."""
        if _count(pool, _MISSES) >= _MOST_MISSES and not _count(pool, _HITS):
            return
        sources = _sources(target, pool)
        if len(sources) < 2:
            return
        best = _find_formula(target, sources)
        key = _MISSES if best is None else _HITS
        pool.kept[key] = _count(pool, key) + 1
        if best is not None:
            used, parameters = best
            parts = tuple(Part(source) for source in used)
            formula = Formula(MERGE, parts, lambda _: parameters, target.tensor)
            yield (0.0, -max(source.bits for source in used), False), formula


def _count(pool: Pool, key: tuple[str, str]) -> int:
    count = pool.kept.get(key, 0)
    assert isinstance(count, int)
    return count


def _sources(target: Target, pool: Pool) -> list[StoredTensor]:
    tensor = target.tensor

    def admits(source: StoredTensor) -> bool:
        return source.dtype in FLOATS and source.shape == tensor.shape

    view = view_as_is(target, admits, arranged=False)
    matches = [match for match in pool.matches(target, view) if match.arrangement is None]
    matches.sort(key=lambda match: (match.source.name != tensor.name, match.distance))
    return [match.source for match in matches[:_MOST_SOURCES]]


def _find_formula(
    target: Target, sources: Sequence[StoredTensor]
) -> tuple[tuple[StoredTensor, ...], bytes] | None:
    """Returns the sources that a formula uses, and its parameters."""
    tensor = target.tensor
    count = min(_SOLVED, *(t.count(t.pieces[0].raw_bytes) for t in (tensor, *sources)))
    places = np.arange(count, dtype=np.intp)
    values = np.stack([target.read.values(source)(places) for source in sources])
    weights = solve(target.values(places), values)
    if weights is None:
        return None
    tried = min(_TRIED, count)
    wanted = target.read.raw(tensor, 0, tried)
    best: tuple[tuple[StoredTensor, ...], bytes] | None = None
    most = _LEAST_EQUAL
    for rounded, used in _choices(weights):
        given = [Values(sources[i].dtype, target.read.raw(sources[i], 0, tried)) for i in used]
        for parameters in _formulas([rounded[i] for i in used], tensor.dtype):
            if _equal(given, tensor, parameters, wanted, _GLANCED) < _LEAST_AT_A_GLANCE:
                continue
            share = _equal(given, tensor, parameters, wanted)
            if share > most:
                best, most = (tuple(sources[i] for i in used), parameters), share
        if most == 1:
            break
    return best


def _choices(weights: NDArray[np.float64]) -> Iterator[tuple[tuple[float, ...], list[int]]]:
    """Yields weights, and which sources have some; then also one of those that have none, last,
    which others may have been compared with."""
    choices = list(round_weights(weights))
    for spare in (False, True):
        for rounded in choices:
            used = [place for place, weight in enumerate(rounded) if weight]
            if spare:
                yield from (
                    (rounded, [*used, place]) for place, weight in enumerate(rounded) if not weight
                )
            else:
                yield rounded, used


def _equal(
    given: list[Values],
    tensor: StoredTensor,
    parameters: bytes,
    wanted: Raw,
    count: int | None = None,
) -> float:
    """Returns the share of elements, or of the first `count`, that a formula gives."""
    if count is not None:
        wanted = wanted[: count * tensor.unit]
        given = [Values(v.dtype, v.raw[: count * find_dtype(v.dtype).item_bytes]) for v in given]
    out = np.empty(wanted.size, np.uint8)
    try:
        elementwise.OPERATION.check([each.dtype for each in given], tensor.dtype, parameters)
    except InvalidRecipe:
        return 0.0
    elementwise.OPERATION.predict(given, tensor.dtype, 0, parameters, out)
    equal = (out == wanted).reshape(-1, tensor.unit).all(axis=1)
    return float(equal.mean())


def solve(target: NDArray[np.float32], sources: NDArray[np.float32]) -> NDArray[np.float64] | None:
    """Returns the weights, which sum up to 1, of sources (k, n) of which the target (n,) is nearest
    to the mean; None where there are none. What is not finite does not count."""
    usable = np.isfinite(target) & np.isfinite(sources).all(axis=0)
    first = sources[0, usable].astype(np.float64)
    # All are rounded to so many bits, whatever their size.
    scale = 1 / np.maximum(np.abs(first), np.abs(first).mean() / 64 + 1e-300)
    moved = (target[usable] - first) * scale
    others = (sources[1:, usable] - first) * scale
    try:
        found = np.linalg.lstsq(others.T, moved, rcond=1e-9)[0]
    except np.linalg.LinAlgError:
        return None
    return np.concatenate([[1 - found.sum()], found]) if np.isfinite(found).all() else None


def round_weights(weights: NDArray[np.float64]) -> Iterator[tuple[float, ...]]:
    """Yields what the weights may have been, the likeliest first: two of them at least."""
    seen: set[tuple[float, ...]] = set()
    ranked: list[tuple[float, int, tuple[float, ...]]] = []
    for place, share in enumerate(_SHARES):
        near = np.rint(weights * share) / share
        apart = float(np.abs(near - weights).max())
        rounded = tuple(near.tolist())
        is_new = rounded not in seen and np.count_nonzero(near) > 1
        if is_new and apart <= _TOLERANCE and abs(near.sum() - 1) < 1e-6:
            seen.add(rounded)
            # A finer share is nearer by chance.
            ranked.append((apart * share**0.5, place, rounded))
    yield from (rounded for _, _, rounded in sorted(ranked)[:_MOST_WEIGHTS])


def _formulas(weights: Sequence[float], dtype: str) -> Iterator[bytes]:
    """Yields ways to calculate a weighted mean of operands in this order."""
    arithmetics = ("F32", dtype) if dtype in ("BF16", "F16") else ("F32",)
    for arithmetic in arithmetics:
        for steps in _ways(weights):
            yield pack_steps(arithmetic, steps)
            narrow = [
                (kind, _narrow(value) if kind == CONSTANT else value) for kind, value in steps
            ]
            if arithmetic == "BF16" and narrow != steps:
                yield pack_steps(arithmetic, narrow)


def _narrow(value: float) -> float:
    """Returns a number as the nearest bf16."""
    word = int(np.float32(value).view(np.uint32))
    return float(np.uint32((word + 0x7FFF + (word >> 16 & 1)) >> 16 << 16).view(np.float32))


def _ways(weights: Sequence[float]) -> Iterator[list[Step]]:
    count = len(weights)
    if not weights[-1]:
        yield from _moves_of(count - 1, range(count - 1), weights)
        return
    orders = list(permutations(range(count))) if count <= 3 else [tuple(range(count))]
    for order in orders:
        yield _sum_of(order, weights)
        if max(weights) - min(weights) < 1e-9:
            yield _mean_of(order)
    for base in range(count):
        others = [i for i in range(count) if i != base]
        yield from _moves_of(base, others, weights)


def _sum_of(order: Sequence[int], weights: Sequence[float]) -> list[Step]:
    steps = weighted_sum([weights[i] for i in order])
    return [(kind, order[int(v)]) if kind == OPERAND else (kind, v) for kind, v in steps]


def _mean_of(order: Sequence[int]) -> list[Step]:
    steps: list[Step] = [(OPERAND, order[0])]
    for i in order[1:]:
        steps += [(OPERAND, i), (ADD, 0)]
    return [*steps, (CONSTANT, len(order)), (DIVIDE, 0)]


def _moves_of(base: int, others: Sequence[int], weights: Sequence[float]) -> Iterator[list[Step]]:
    """Yields base + the sum of parts of what others are more, and, if the parts are equal, a part
    of the sum."""
    one_by_one: list[Step] = [(OPERAND, base)]
    summed: list[Step] = []
    parts: list[Step] = []
    for place, i in enumerate(others):
        more: list[Step] = [(OPERAND, i), (OPERAND, base), (SUBTRACT, 0)]
        part: list[Step] = [*more, (CONSTANT, weights[i]), (MULTIPLY, 0)]
        one_by_one += [*part, (ADD, 0)]
        summed += more + ([(ADD, 0)] if place else [])
        parts += part + ([(ADD, 0)] if place else [])
    yield one_by_one
    if len(others) > 1:
        yield [(OPERAND, base), *parts, (ADD, 0)]
        if max(weights[i] for i in others) - min(weights[i] for i in others) < 1e-9:
            last: list[Step] = [(CONSTANT, weights[others[0]]), (MULTIPLY, 0), (ADD, 0)]
            yield [(OPERAND, base), *summed, *last]


KIND = Merged()
