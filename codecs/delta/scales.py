"""Measures by how much the elements around each one moved (FORMAT.md, "Scales").

An optimiser moves all the weights of a row, and of a column, by about the same amount. So a block
that is coded against its base carries the logarithm of the mean movement of every group of 128
elements, or, where the length of a row is known, of every row and every column.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..buffers import Bytes, Words, freeze, scratch
from ..dtypes import Dtype, Exponent
from ..jit.cached import njit
from ..simd.paths import path_number
from . import scale_steps as steps
from .scale_steps import STEP

GROUP = 128
"""Elements that share a scale where rows are unknown. The four pairs of MiniLM in bf16, size
against BitX with zstd-3 (geometric mean, tables and scales included): groups of 64 elements
0.657, 128 0.655, 256 0.658; one scale per tensor 0.676."""
_STILL_OCTAVES = 8
"""How far below the least movement a group counts that did not move at all."""
_MOST = np.float32(1e30)
_MOST_STEPS = 2048
_AT_ONCE = 2048
"""Elements measured at a time: what is in between stays in the first level cache."""


def find_kind(dtype: Dtype) -> Exponent:
    """Returns how elements of ``dtype`` are seen; integers have no exponent, and steps of one."""
    if dtype.exponent is not None:
        return dtype.exponent
    return Exponent(0, 0, 0, bias=127 + max(0, 8 * dtype.item_bytes - 16))


@dataclass(frozen=True, slots=True)
class Scales:
    """The scales of one block of n elements, in steps of 1 / 2**fine octaves.

    Element i has the scale ``(rows[r] + columns[c]) >> 1``, or ``rows[r]`` without columns, where
    r and c are quotient and remainder of i + ``phase`` by ``length``. A scale of s stands for a
    movement of 2 ** ((s + lowest) / 2**fine - 127). ``centres``: what is added to the upper half
    of every element of the base in a row, none where nothing is.
    """

    fine: int
    length: int
    phase: int
    lowest: int
    rows: Bytes
    columns: Bytes = field(default_factory=lambda: freeze(np.empty(0, np.uint8)))
    centres: NDArray[np.int16] = field(default_factory=lambda: freeze(np.empty(0, np.int16)))


@njit(nogil=True, cache=True)
def _distances_of_words_kernel(target, base, lift, line):
    """Writes how far the floats of up to 32 bits ``target`` lie from ``base``, as float32, to
    ``line``.
    """
    top = np.uint32(31)
    width = np.uint32(8 * target.itemsize - 1)
    low = (np.uint32(1) << width) - np.uint32(1)
    for i in range(target.size):
        a = np.uint32(base[i])
        b = np.uint32(target[i])
        x = np.uint32(((a & low) << lift) | ((a >> width) << top)).view(np.float32)
        y = np.uint32(((b & low) << lift) | ((b >> width) << top)).view(np.float32)
        distance = abs(y - x)
        line[i] = distance if distance < _MOST else np.float32(0)


@njit(nogil=True, cache=True)
def _distances_kernel(target, base, line):
    """Writes ``abs(target - base)`` of numbers (n,) as float32 to ``line``; 0 where it is not
    finite.
    """
    for i in range(target.size):
        distance = np.float32(abs(np.float64(target[i]) - np.float64(base[i])))
        line[i] = distance if distance < _MOST else np.float32(0)


@njit(nogil=True, cache=True)
def _sum_kernel(line, size):
    """Adds up float32 in eight interleaved parts, so that every machine rounds alike."""
    s0, s1, s2, s3 = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
    s4, s5, s6, s7 = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
    whole = size // 8 * 8
    for i in range(0, whole, 8):
        s0 += line[i]
        s1 += line[i + 1]
        s2 += line[i + 2]
        s3 += line[i + 3]
        s4 += line[i + 4]
        s5 += line[i + 5]
        s6 += line[i + 6]
        s7 += line[i + 7]
    for i in range(whole, size):
        s0 += line[i]
    return ((s0 + s1) + (s2 + s3)) + ((s4 + s5) + (s6 + s7))


@njit(nogil=True, cache=True)
def measure_kernel(path, target, base, lift, length, phase, line, rows, columns):
    """Writes the mean movement of every row to ``rows`` (float32) and adds up that of columns.

    ``path``: see ``rans_kernels``. ``target``, ``base``: (n,) of the same type: words of floats
    where ``lift`` is not -1, numbers where it is. ``line``: (m,) float32, scratch, where m is a
    multiple of ``length``: that many elements are measured at a time. ``columns``: (length,)
    float32, zeroed, or empty.
    """
    first = min(1, phase)
    last = (phase + target.size) // length
    bits = 8 * target.itemsize
    if path == 0 or lift < 0 or length % STEP != 0 or last <= first or bits < 16:
        first = last = rows.size
    _measure_rows_kernel(target, base, lift, length, phase, line, rows, columns, 0, first)
    if first < last:
        begin = first * length - phase
        some, against, means = target[begin:], base[begin:], rows[first:last]
        has_sums = columns.size > 0
        many = last - first
        if path == 2 and bits == 16 and has_sums:
            steps.measure_sums16_avx512(some, against, lift, many, length, means, columns)
        elif path == 2 and bits == 16:
            steps.measure_rows16_avx512(some, against, lift, many, length, means, columns)
        elif path == 2 and has_sums:
            steps.measure_sums32_avx512(some, against, lift, many, length, means, columns)
        elif path == 2:
            steps.measure_rows32_avx512(some, against, lift, many, length, means, columns)
        elif bits == 16 and has_sums:
            steps.measure_sums16_avx2(some, against, lift, many, length, means, columns)
        elif bits == 16:
            steps.measure_rows16_avx2(some, against, lift, many, length, means, columns)
        elif has_sums:
            steps.measure_sums32_avx2(some, against, lift, many, length, means, columns)
        else:
            steps.measure_rows32_avx2(some, against, lift, many, length, means, columns)
    _measure_rows_kernel(target, base, lift, length, phase, line, rows, columns, last, rows.size)


@njit(nogil=True, cache=True)
def _measure_rows_kernel(
    target, base, lift, length, phase, line, rows, columns, begin_row, end_row
):
    """Measures the rows from ``begin_row`` to ``end_row`` in plain loops."""
    shift = np.uint32(max(lift, 0))
    many = line.size // length
    for first in range(begin_row, end_row, many):
        last = min(first + many, end_row)
        begin = max(0, first * length - phase)
        stop = min(target.size, last * length - phase)
        if lift >= 0:
            _distances_of_words_kernel(target[begin:stop], base[begin:stop], shift, line)
        else:
            _distances_kernel(target[begin:stop], base[begin:stop], line)
        at = 0
        for row in range(first, last):
            end = min(stop, (row + 1) * length - phase) - begin
            part = line[at:end]
            rows[row] = _sum_kernel(part, end - at) / np.float32(end - at)
            if columns.size > 0:
                sums = columns[at + begin + phase - row * length :]
                for i in range(part.size):
                    sums[i] += part[i]
            at = end


@njit(nogil=True, cache=True)
def spread_part_kernel(rows, columns, length, phase, begin, stop, out):
    """Writes the scale of each element from ``begin`` to ``stop`` to the front of ``out`` uint8;
    see ``Scales``.
    """
    row = (begin + phase) // length
    at = begin
    while at < stop:
        end = min(stop, (row + 1) * length - phase)
        room = out[at - begin : end - begin]
        own = rows[row]
        if columns.size == 0:
            for i in range(room.size):
                room[i] = own
        else:
            others = columns[at + phase - row * length :]
            for i in range(room.size):
                both = np.uint16(own) + np.uint16(others[i])
                room[i] = np.uint8(both >> np.uint16(1))
        row += 1
        at = end


def count_rows(count: int, length: int, phase: int) -> int:
    """Returns the number of rows that ``count`` elements touch."""
    return -(-(phase + count) // length)


def spread_scales(scales: Scales, count: int, memory: str) -> Bytes:
    """Returns the scale of each of ``count`` elements, (count,) uint8, in scratch ``memory``."""
    out = scratch(memory, count, np.uint8)
    spread_part_kernel(scales.rows, scales.columns, scales.length, scales.phase, 0, count, out)
    return freeze(out)


def measure_groups(target: Words, base: Words, kind: Exponent, fine: int) -> Scales:
    """Measures groups of 128 of (n,) elements, floats or integers; see ``as_numbers``."""
    means = np.empty(count_rows(target.size, GROUP, 0), np.float32)
    line = scratch("line", _AT_ONCE, np.float32)
    measure_kernel(path_number(), target, base, kind.lift, GROUP, 0, line, means, line[:0])
    lowest, rows = _quantise(means, fine, 255)
    return Scales(fine, GROUP, 0, lowest, rows)


def measure_rows(
    target: Words, base: Words, kind: Exponent, fine: int, length: int, phase: int
) -> Scales:
    """Measures rows and columns of a matrix, of which the (n,) elements are a part that begins
    ``phase`` elements into a row of ``length``; n >= length.
    """
    means = np.empty(count_rows(target.size, length, phase), np.float32)
    sums = np.zeros(length, np.float32)
    line = scratch("line", length * max(1, _AT_ONCE // length), np.float32)
    measure_kernel(path_number(), target, base, kind.lift, length, phase, line, means, sums)
    whole = np.float32(_sum_kernel(sums, length) / length)
    lowest_row, rows = _quantise(means, fine + 1, 255)
    lowest_column, columns = _quantise(sums, fine + 1, 255)
    middle = int(_log_steps(np.array([max(whole, np.float32(1e-30))]), fine + 1)[0])
    return Scales(fine, length, phase, (lowest_row + lowest_column - middle) >> 1, rows, columns)


def _log_steps(values: NDArray[np.float32], fine: int) -> NDArray[np.int32]:
    """Returns logarithms in steps of 1 / 2**fine octaves, straight from the bits of a float32."""
    return (values.astype(np.float32).view(np.uint32) >> (23 - fine)).astype(np.int32)


def _quantise(values: NDArray[np.float32], fine: int, most: int) -> tuple[int, Bytes]:
    """Returns what to add to each scale, and the scales: at most ``most``, 0 for no movement."""
    steps = _log_steps(values, fine)
    moved = steps[values > 0]
    if not moved.size:
        return 0, freeze(np.zeros(values.size, np.uint8))
    lowest = max(int(moved.min()), int(moved.max()) - 160) - (_STILL_OCTAVES << fine)
    scales = np.clip(steps - lowest, 0, most).astype(np.uint8)
    return lowest, freeze(scales)


def as_numbers(words: Words, dtype: Dtype) -> Words:
    """Returns ``words`` as what ``measure_groups`` subtracts: F64 as floats, signed integers as
    signed, all else as it is.
    """
    if dtype.name == "F64":
        return words.view(np.float64)
    return words.view(np.dtype(f"i{dtype.item_bytes}")) if dtype.name.startswith("I") else words


@njit(nogil=True, cache=True)
def centres_kernel(target, base, shift, length, centres):
    """Writes the mean step of every ``length`` elements to ``centres`` (int16).

    ``target``, ``base``: (n,) unsigned words; a step is 2**``shift`` of their difference. Returns
    the steps there are, each way, without the centres and with them.
    """
    before = 0
    after = 0
    for row in range(centres.size):
        begin = row * length
        stop = min(target.size, begin + length)
        total = 0
        for i in range(begin, stop):
            step = np.int64(np.int16((target[i] - base[i]) >> shift))
            total += min(max(step, -_MOST_STEPS), _MOST_STEPS)
        centre = np.int64(np.floor(total / (stop - begin) + 0.5))
        centres[row] = centre
        for i in range(begin, stop):
            step = np.int64(np.int16((target[i] - base[i]) >> shift))
            before += min(abs(step), _MOST_STEPS)
            after += min(abs(step - centre), _MOST_STEPS)
    return before, after


def measure_centres(target: Words, base: Words) -> NDArray[np.int16]:
    """Measures by how much the upper halves of groups of 128 of (n,) words moved together.

    Returns nothing where it is less than a tenth of all movement: the second moments of an
    optimiser all grow, and MiniLM's then take 71 % of raw instead of 76; weights do not.
    """
    centres = np.empty(count_rows(target.size, GROUP, 0), np.int16)
    shift = target.dtype.type(8 * target.itemsize - 16)
    before, after = centres_kernel(target, base, shift, GROUP, centres)
    return freeze(centres if after * 10 < before * 9 else centres[:0])


@njit(nogil=True, cache=True)
def move_base_kernel(base, centres, shift, length, phase, out):
    """Writes ``base`` (n,) unsigned words plus the centre of its row times 2**``shift`` to
    ``out``.
    """
    for row in range(centres.size):
        begin = max(0, row * length - phase)
        stop = min(base.size, (row + 1) * length - phase)
        step = np.uint64(np.int64(centres[row])) << np.uint64(shift)
        for i in range(begin, stop):
            out[i] = np.uint64(base[i]) + step


def move_base(base: Words, scales: Scales) -> Words:
    """Returns ``base`` (n,) moved by the centres of its rows, itself where there are none."""
    if not scales.centres.size:
        return base
    out = np.empty_like(base)
    shift = 8 * base.itemsize - 16
    move_base_kernel(base, scales.centres, shift, scales.length, scales.phase, out)
    return freeze(out)
