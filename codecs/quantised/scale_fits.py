"""Finds the scales of which the elements of a wide float are small multiples.

The elements of a group leave an interval for their scale: each lies within half a unit in the last
place of its integer times the scale. The integer of the largest is tried from 1 upwards; the next
elements then most often rule it out at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..buffers import Bytes, Words, freeze
from ..jit.cached import njit
from .multiples import MOST_MULTIPLE, OVER, TIMES, fill

LEAST_GROUP = 16
_PROBES = 8
_PROBED_ELEMENTS = 1024
_GROUPS = (4096, 2048, 1024, 512, 256, 128, 64, 32, 16)
# Elements after a group's end that may happen to fit its scale, as zeros do.
_MOST_CHANCES = 24
_KINDS = {"F32": 0, "BF16": 1, "F16": 2}
# Elements other than 0 that must fit.
_LEAST_TELLING = 32
# Shorter groups must be cheaper than this: a few groups tell prices only about.
_CLEARLY = 0.9
# What a scale takes, about.
_SCALE_BITS = 12


@dataclass(frozen=True, slots=True)
class Grouping:
    """How the elements of a tensor share scales: ``group`` of them in a row, of the first group
    only those after ``phase``."""

    rule: int
    group: int
    phase: int

    def after(self, elements: int) -> Grouping:
        """Returns the grouping of what begins ``elements`` later."""
        return Grouping(self.rule, self.group, (self.phase + elements) % self.group)


def find_grouping(words: Words, dtype: str, columns: int, least: int) -> Grouping | None:
    """Returns how (n,) words of ``dtype`` share scales, None where they are no multiples.

    ``columns``: elements in a row, 0 where unknown. ``least``: elements of a block, the longest
    group there is.
    """
    if words.size < LEAST_GROUP or _price(words, dtype, LEAST_GROUP, 0) is None:
        return None
    best: tuple[float, int, int] | None = None
    for group in _candidates(columns, min(least, words.size)):
        phase = 0
        price = _price(words, dtype, group, phase)
        if price is None and group == columns:
            phase, price = _find_phase(words, dtype, group)
        if price is not None and (best is None or price < _CLEARLY * best[0]):
            best = price, group, phase
    return None if best is None else _with_rule(words, dtype, *best[1:])


def _candidates(columns: int, most: int) -> Iterator[int]:
    """Yields lengths of groups, the longest first."""
    parts = [columns // n for n in (1, 2, 3, 4, 6, 8) if columns and columns % n == 0]
    lengths = sorted({most, *parts, *_GROUPS}, reverse=True)
    yield from (n for n in lengths if LEAST_GROUP <= n <= most)


def _price(words: Words, dtype: str, group: int, phase: int) -> float | None:
    """Returns what groups here and there take, in bits an element; None where they have no
    scales."""
    first = (group - phase) % group
    count = max(1, (words.size - first) // group)
    places = sorted({i * (count - 1) // max(1, _PROBES - 1) for i in range(_PROBES)})
    symbols: list[Bytes] = []
    telling = fitting = 0
    for place in places:
        # The start and the end of a group: where it is no group, one of them is another's.
        each = words[first + place * group :][:group]
        if each.size > 2 * _PROBED_ELEMENTS:
            each = np.concatenate([each[:_PROBED_ELEMENTS], each[-_PROBED_ELEMENTS:]])
        found = int(np.count_nonzero(_magnitudes(each, dtype)))
        if found and _has_scale(each, dtype):
            telling, fitting = telling + found, fitting + 1
            symbols.append(find_multiples(each, dtype, Grouping(TIMES, each.size, 0))[0])
        elif found:
            fitting -= 4
    if fitting <= 0 or telling < min(_LEAST_TELLING, words.size // 2):
        return None
    counts = np.bincount(np.concatenate(symbols))
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log2(shares)).sum()) + _SCALE_BITS / group


def _find_phase(words: Words, dtype: str, group: int) -> tuple[int, float | None]:
    """Returns how much of its group came before a tensor that begins inside of one, and the price
    of it."""
    low, high = 1, min(group, words.size)
    while low < high:
        middle = (low + high + 1) // 2
        if _has_scale(words[:middle], dtype):
            low = middle
        else:
            high = middle - 1
    for first in range(low, max(0, low - _MOST_CHANCES), -1):
        phase = (group - first) % group
        price = _price(words, dtype, group, phase)
        if price is not None:
            return phase, price
    return 0, None


def _has_scale(words: Words, dtype: str) -> bool:
    """Tells whether one group has a scale."""
    scales = np.zeros(1, np.uint32)
    return bool(fit_kernel(_magnitudes(words, dtype), _KINDS[dtype], words.size, 0, scales))


def _with_rule(words: Words, dtype: str, group: int, phase: int) -> Grouping:
    """Returns the grouping with the rule that leaves fewer elements unlike their multiples."""
    first = group - phase
    some = words[: first + max(group, _PROBED_ELEMENTS) // group * group]
    apart = []
    for rule in (TIMES, OVER):
        grouping = Grouping(rule, group, phase)
        symbols, scales = find_multiples(some, dtype, grouping)
        given = fill(symbols, scales, rule, group, phase, dtype)
        apart.append((int(np.count_nonzero(given != some)), rule))
    return Grouping(min(apart)[1], group, phase)


def find_multiples(
    words: Words, dtype: str, grouping: Grouping
) -> tuple[Bytes, NDArray[np.uint32]]:
    """Returns the symbols (n,) of words (n,), and the scale of each group: 0 (1 where it divides)
    for groups that have none."""
    rule, group, phase = grouping.rule, grouping.group, grouping.phase
    magnitudes = _magnitudes(words, dtype)
    scales = np.zeros(-(-(words.size + phase) // group), np.uint32)
    fit_kernel(magnitudes, _KINDS[dtype], group, phase, scales)
    if rule == OVER:
        overs_kernel(magnitudes, _KINDS[dtype], group, phase, scales)
    signs = (words >> words.dtype.type(8 * words.itemsize - 1)).astype(np.uint8)
    symbols = np.empty(words.size, np.uint8)
    values = freeze(scales.view(np.float32))
    symbols_kernel(magnitudes, freeze(signs), _KINDS[dtype], rule, group, phase, values, symbols)
    return freeze(symbols), scales


def _magnitudes(words: Words, dtype: str) -> Words:
    return freeze(words & words.dtype.type((1 << (8 * words.itemsize - 1)) - 1))


@njit(nogil=True, cache=True)
def _value(word, kind):
    """Returns what a magnitude stands for, as float64; one step beyond the largest is infinity."""
    if kind == 0:
        return np.float64(np.uint32(word).view(np.float32))
    if kind == 1:
        return np.float64(np.uint32(np.uint32(word) << np.uint32(16)).view(np.float32))
    exponent, mantissa = np.int64(word) >> 10, np.int64(word) & 1023
    if exponent == 31:
        return np.inf
    if exponent == 0:
        return mantissa * 2.0**-24
    bits = np.uint32((exponent + 112) << 23 | mantissa << 13)
    return np.float64(bits.view(np.float32))


@njit(nogil=True, cache=True)
def _bounds(word, kind):
    """Returns between which numbers those lie that are rounded to a magnitude, which is not 0. The
    ends belong to even ones."""
    value = _value(word, kind)
    low = (_value(word - 1, kind) + value) / 2
    high = (_value(word + 1, kind) + value) / 2
    if kind == 0 or not word & 1:
        return low, high
    return low * (1 + 2.0**-23), high * (1 - 2.0**-23)


@njit(nogil=True, cache=True, error_model="numpy")
def _narrow(words, begin, end, kind, top, largest):
    """Returns the interval of scales that all elements leave, ``top`` being the integer of
    ``largest``; an empty one where they leave none."""
    low, high = _bounds(largest, kind)
    low, high = low / top, high / top
    for i in range(begin, end):
        word = words[i]
        if word == 0:
            continue
        # Half of the words of a group are near their neighbours: all are looked at.
        integer = np.rint(_value(word, kind) * 2 / (low + high))
        if integer < 1:
            return 1.0, 0.0
        least, most = _bounds(word, kind)
        low, high = max(low, least / integer), min(high, most / integer)
        if low > high:
            return 1.0, 0.0
    return low, high


@njit(nogil=True, cache=True)
def _roundest(low, high):
    """Returns the bits of the float32 in an interval that ends in the most zeros; of the nearest
    one where there is none in it."""
    first, last = np.float32(low), np.float32(high)
    a, b = np.int64(first.view(np.uint32)), np.int64(last.view(np.uint32))
    a += np.float64(first) < low
    b -= np.float64(last) > high
    if a > b:
        return np.uint32(np.float32((low + high) / 2).view(np.uint32))
    shift = 0
    while shift < 31 and (b >> (shift + 1)) << (shift + 1) >= a:
        shift += 1
    return np.uint32((b >> shift) << shift)


@njit(nogil=True, cache=True)
def _find_largest(words, begin, end):
    largest = words[begin]
    for i in range(begin, end):
        largest = max(largest, words[i])
    return largest


@njit(nogil=True, cache=True, error_model="numpy")
def fit_kernel(words, kind, group, phase, scales):
    """Writes the scale of each group of magnitudes to ``scales`` (g,) uint32, the bits of a
    float32; 0 for groups of zeros and of no multiples. Returns the number of other groups, and of
    groups of zeros."""
    begin, end, fitted = 0, group - phase, 0
    for place in range(scales.size):
        stop = min(end, words.size)
        scales[place] = 0
        largest = _find_largest(words, begin, stop)
        if largest == 0:
            fitted += 1
        elif _value(largest + 1, kind) < np.inf:
            for top in range(1, MOST_MULTIPLE + 1):
                low, high = _narrow(words, begin, stop, kind, top, largest)
                if low <= high:
                    scales[place] = _roundest(low, high)
                    fitted += 1
                    break
        begin, end = end, end + group
    return fitted


@njit(nogil=True, cache=True, error_model="numpy")
def overs_kernel(words, kind, group, phase, scales):
    """Replaces scales by those to divide by, for the same integers; 1 where there is none."""
    begin, end = 0, group - phase
    for place in range(scales.size):
        scale = np.float64(np.uint32(scales[place]).view(np.float32))
        scales[place] = np.float32(1).view(np.uint32)
        if scale > 0:
            largest = _find_largest(words, begin, min(end, words.size))
            top = np.rint(_value(largest, kind) / scale)
            low, high = _narrow(words, begin, min(end, words.size), kind, top, largest)
            if low <= high and low > 2.0**-126:
                scales[place] = _roundest(1 / high, 1 / low)
        begin, end = end, end + group


@njit(nogil=True, cache=True, error_model="numpy")
def symbols_kernel(words, signs, kind, rule, group, phase, scales, symbols):
    """Writes the symbols of magnitudes and signs (n,), given the scales."""
    begin, end = 0, group - phase
    for place in range(scales.size):
        scale = np.float64(scales[place])
        for i in range(begin, min(end, words.size)):
            integer = 0.0
            if words[i] != 0 and scale > 0:
                value = _value(words[i], kind)
                integer = np.rint(value * scale) if rule == OVER else np.rint(value / scale)
            symbols[i] = np.uint8(2 * np.int64(min(integer, MOST_MULTIPLE))) + signs[i]
        begin, end = end, end + group
