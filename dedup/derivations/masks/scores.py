"""Tells how likely each element of a source is to have been cut (FORMAT.md, "Masks").

Everything here is integer arithmetic on bit patterns, since both sides must find the same contexts.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from ....codecs.buffers import Bytes, freeze
from ....codecs.jit.cached import njit

Integers = NDArray[np.int32]

SCORE_BITS = 14
"""Scores count 2^-14 octaves."""
OFFSET_BITS = 8
"""What rows and columns move them by counts 2^-8 octaves, as an int16: tensors of 384 rows are
not determined more finely."""
MOST_BOUNDS = 62
CONTEXTS = 25
_ZERO = CONTEXTS - 1
_LEVELS = freeze(np.array([k.bit_length() for k in range(1025)], np.int32))
"""By a 16th of how far a score is from the threshold: its bits, at most 11."""
_TABLE_BITS = 12
_FIT_ELEMENTS = 1 << 20
_FIT_ROUNDS = 12


def choose_bounds(magnitudes: NDArray[np.uint32], cut: Bytes) -> NDArray[np.uint32]:
    """Chooses magnitudes to tell elements apart by, ascending: (b,) uint32, b <= 62.

    Where all below one magnitude were cut and all above it kept, two are enough; else half of them
    share out all elements evenly, half those among which cut and kept ones mix.
    """
    zeroed = magnitudes[cut != 0]
    kept = magnitudes[cut == 0]
    highest = zeroed.max()
    edge = np.array([highest, highest + np.uint32(1)], np.uint32)
    if not kept.size or highest <= kept.min():
        return edge
    step = max(1, magnitudes.size >> 17)
    sample = np.sort(magnitudes[::step])
    low = np.quantile(kept[::step], 0.001)
    high = np.quantile(zeroed[::step], 0.999)
    mixed = sample[(sample >= low) & (sample <= high)]
    return np.unique(np.concatenate([edge, _spread(sample, 28), _spread(mixed, 32)]))


def _spread(values: NDArray[np.uint32], count: int) -> NDArray[np.uint32]:
    if not values.size:
        return values
    return values[np.arange(1, count + 1) * (values.size - 1) // (count + 1)]


def bound_contexts(magnitudes: NDArray[np.uint32], bounds: NDArray[np.uint32]) -> Bytes:
    """Returns of each element how many bounds are not above it, (n,) uint8."""
    out = np.empty(magnitudes.size, np.uint8)
    # Where the search begins, by the upper half-word.
    starts = np.searchsorted(bounds, np.arange(1 << 15, dtype=np.uint32) << 16, "right")
    bounds_kernel(magnitudes, freeze(bounds), freeze(starts.astype(np.uint8)), out)
    return freeze(out)


def fit_offsets(scores: Integers, cut: Bytes) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """Finds a threshold for each row and a shift for each column of (r, c), so that an element is
    cut about where its score plus shift is below the threshold.

    Thresholds and shifts are found in turns, each so that as many elements as were cut in its row
    or column are. This is what Wanda's scores do (M. Sun et al., arXiv:2306.11695): the magnitude
    times the norm of the column's inputs, compared within a row.
    """
    rows, columns = scores.shape
    step = max(1, rows * columns // _FIT_ELEMENTS)
    some, some_cut = scores[::step], cut.reshape(rows, columns)[::step]
    in_rows = some_cut.sum(axis=1, dtype=np.int64)
    in_columns = some_cut.sum(axis=0, dtype=np.int64)
    shifts = np.zeros(columns, np.int32)
    for _ in range(_FIT_ROUNDS):
        thresholds = _split(some + shifts, in_rows)
        shifts = -_split((some - thresholds[:, None]).T, in_columns)
        shifts -= np.int32(np.median(shifts))
    moves = _narrow(shifts)
    wide = moves.astype(np.int32) << (SCORE_BITS - OFFSET_BITS)
    counts = cut.reshape(rows, columns).sum(axis=1, dtype=np.int64)
    return _narrow(_split(scores + wide, counts)), moves


def _split(values: Integers, counts: NDArray[np.int64]) -> Integers:
    """Returns for each row a number that `counts` of its values are below."""
    ordered = np.sort(values, axis=1)
    last = ordered.shape[1] - 1
    each = np.arange(ordered.shape[0])
    below = ordered[each, np.maximum(counts - 1, 0)].astype(np.int64)
    above = ordered[each, np.minimum(counts, last)].astype(np.int64)
    middle = (below + above + 1) >> 1
    middle[counts == 0] = above[counts == 0] - 1
    middle[counts > last] = below[counts > last] + 1
    return middle.astype(np.int32)


def _narrow(values: Integers) -> NDArray[np.int16]:
    half = 1 << (SCORE_BITS - OFFSET_BITS - 1)
    return np.clip((values + half) >> (SCORE_BITS - OFFSET_BITS), -32768, 32767).astype(np.int16)


def offset_contexts(
    magnitudes: NDArray[np.uint32], thresholds: NDArray[np.int16], shifts: NDArray[np.int16]
) -> Bytes:
    """Returns the context of each element, (n,) uint8 below CONTEXTS: how far its score is from its
    row's threshold."""
    out = np.empty(magnitudes.size, np.uint8)
    sides = freeze(thresholds), freeze(shifts)
    offsets_kernel(magnitudes, log_table(), *sides, _LEVELS, out)
    return freeze(out)


def find_scores(magnitudes: NDArray[np.uint32]) -> Integers:
    """Returns the logarithms of magnitudes, given as the bits of a float32, (n,) int32."""
    out = np.empty(magnitudes.size, np.int32)
    scores_kernel(magnitudes, log_table(), out)
    return out


@cache
def log_table() -> Integers:
    """Returns log2(1 + k / 4096) in 2^-14, (4096,) int32, by squaring: each bit of a logarithm is
    whether the square so far reached two. Rounded down from 2^-15, then half up."""
    value = (np.arange(1 << _TABLE_BITS, dtype=np.uint64) << np.uint64(30 - _TABLE_BITS)) + (
        np.uint64(1 << 30)
    )
    found = np.zeros(value.size, np.int32)
    for _ in range(SCORE_BITS + 1):
        value = (value * value) >> np.uint64(30)
        reached = value >= np.uint64(1 << 31)
        value = np.where(reached, value >> np.uint64(1), value)
        found = (found << 1) | reached.astype(np.int32)
    return freeze(((found + 1) >> 1).astype(np.int32))


def four_ranks(magnitudes: NDArray[np.uint32], cut: Bytes) -> tuple[Bytes, Bytes]:
    """Returns of each four neighbours which were cut, bit k for the one of rank k, the largest
    first; and a context, below 16: how much the second is larger than the third. Both (n / 4,)
    uint8. Elements after the last four are left out.
    """
    patterns = np.empty(magnitudes.size // 4, np.uint8)
    contexts = np.empty(patterns.size, np.uint8)
    fours_kernel(magnitudes, log_table(), cut, patterns, contexts)
    return freeze(patterns), freeze(contexts)


def spread_fours(magnitudes: NDArray[np.uint32], patterns: Bytes, cut: Bytes) -> None:
    """Writes to `cut` what the patterns of `four_ranks` say; mirrors it."""
    spread_kernel(magnitudes, patterns, cut)


@njit(nogil=True, cache=True)
def bounds_kernel(magnitudes, bounds, starts, out):
    """Writes how many of (b,) ascending bounds are not above each magnitude; ``starts``: (32768,)
    uint8, how many are not above the least one with the same upper half-word."""
    for i in range(magnitudes.size):
        magnitude = magnitudes[i]
        at = np.int64(starts[magnitude >> np.uint32(16)])
        while at < bounds.size and bounds[at] <= magnitude:
            at += 1
        out[i] = at


@njit(nogil=True, cache=True)
def _score(magnitude, table):
    return np.int32(
        (np.int32(magnitude >> np.uint32(23)) << np.int32(14))
        + table[(magnitude >> np.uint32(11)) & np.uint32(0xFFF)]
    )


@njit(nogil=True, cache=True)
def scores_kernel(magnitudes, table, out):
    """Writes the logarithm of each magnitude."""
    for i in range(magnitudes.size):
        out[i] = _score(magnitudes[i], table)


@njit(nogil=True, cache=True)
def offsets_kernel(magnitudes, table, thresholds, shifts, levels, out):
    """Writes the context of each element of (r, c), r thresholds and c shifts."""
    columns = shifts.size
    for row in range(thresholds.size):
        for column in range(columns):
            i = row * columns + column
            if magnitudes[i] == 0:
                out[i] = _ZERO
                continue
            move = (np.int32(shifts[column]) - np.int32(thresholds[row])) << np.int32(6)
            far = _score(magnitudes[i], table) + move
            level = levels[min(abs(far) >> np.int32(4), levels.size - 1)]
            out[i] = 12 + level if far >= 0 else 11 - level


@njit(nogil=True, cache=True)
def _rank(magnitudes, at, order):
    # Insertion sort of four: larger first, of equals the earlier.
    for k in range(4):
        order[k] = k
        j = k
        while j > 0 and magnitudes[at + order[j]] > magnitudes[at + order[j - 1]]:
            order[j], order[j - 1] = order[j - 1], order[j]
            j -= 1


@njit(nogil=True, cache=True)
def fours_kernel(magnitudes, table, cut, patterns, contexts):
    """Writes the pattern and the context of each four elements."""
    order = np.empty(4, np.int64)
    for group in range(patterns.size):
        at = 4 * group
        _rank(magnitudes, at, order)
        pattern = 0
        for k in range(4):
            pattern |= (cut[at + order[k]] & 1) << k
        patterns[group] = pattern
        gap = _score(magnitudes[at + order[1]], table) - _score(magnitudes[at + order[2]], table)
        level = 0
        while gap >= 128 and level < 15:
            gap >>= 1
            level += 1
        contexts[group] = level


@njit(nogil=True, cache=True)
def spread_kernel(magnitudes, patterns, cut):
    """Writes which elements a pattern cuts."""
    order = np.empty(4, np.int64)
    for group in range(patterns.size):
        at = 4 * group
        _rank(magnitudes, at, order)
        for k in range(4):
            cut[at + order[k]] = (patterns[group] >> k) & 1
