"""Measures how near the values of a source lie to where their quants would be others
(FORMAT.md, "Operations: GGUF").

A source that is not quite the one that was quantised gives other quants there and hardly elsewhere.
"""

import numpy as np
from numpy.typing import NDArray

from .....codecs.buffers import Bytes, freeze
from .....codecs.jit.cached import njit
from .dequantise import PART, read_lines
from .layout import as_blocks, as_sources, fields

Floats = NDArray[np.float32]

_ZERO, _ONE, _HALF, _LEVELS, _MOST = (np.float32(n) for n in (0, 1, 0.5, 128, 127))


def measure_margins(kind: str, source: Floats, blocks: Bytes, margins: Bytes) -> None:
    """Writes for each quant of ``blocks`` how near the value was to that of its neighbours.

    ``source``: (n * elements,) float32. ``blocks``: (n * block_bytes,) uint8. ``margins``: (n *
    quants,) uint8, written: 127 where the value is that of the quant itself or is below it, 128
    above it; towards 0 and 255 the nearer it is to halfway to the next quant, in steps that grow
    with the square. All 127 where a quant stands for several values.
    """
    values, groups = as_sources(kind, source), as_blocks(kind, blocks)
    if fields(kind)[-1].count != values.shape[1]:
        margins[:] = 127
        return
    rows = margins.reshape(values.shape)
    for first in range(0, len(groups), PART):
        lines = read_lines(kind, groups[first : first + PART])
        shape = lines.quants.shape
        given = (
            freeze(values[first : first + PART].reshape(shape)),
            lines.quants,
            lines.scales,
            lines.offsets,
        )
        room = rows[first : first + PART].reshape(shape)
        if isinstance(lines.levels, int):
            measure_even_kernel(*given, np.float32(lines.levels), np.float32(lines.last), room)
        else:
            measure_uneven_kernel(*given, lines.levels, lines.last, room)


@njit(nogil=True, cache=True, error_model="numpy")
def measure_even_kernel(source, quants, scales, offsets, zero, last, margins):
    """Writes the margin of each value: ``source``, ``margins``: (n, runs, elements) float32 and
    uint8; the others are those of `dequantise.Lines`."""
    low, high = -zero, last - zero
    for n in range(quants.shape[0]):
        for run in range(quants.shape[1]):
            scale, offset = scales[n, run], offsets[n, run]
            row, mine, out = source[n, run], quants[n, run], margins[n, run]
            for i in range(mine.size):
                level = np.float32(mine[i]) - zero
                under, over = max(level - _ONE, low), min(level + _ONE, high)
                below, above = under * scale + offset, over * scale + offset
                out[i] = _measure(row[i], below, level * scale + offset, above)


@njit(nogil=True, cache=True, error_model="numpy")
def measure_uneven_kernel(source, quants, scales, offsets, levels, last, margins):
    """Does as `measure_even_kernel`, with a table of levels."""
    for n in range(quants.shape[0]):
        for run in range(quants.shape[1]):
            scale, offset = scales[n, run], offsets[n, run]
            for i in range(quants.shape[2]):
                quant = np.intp(quants[n, run, i])
                value = levels[quant] * scale + offset
                below = levels[quant - (quant > 0)] * scale + offset
                above = levels[quant + (quant < last)] * scale + offset
                margins[n, run, i] = _measure(source[n, run, i], below, value, above)


@njit(nogil=True, cache=True, error_model="numpy")
def _measure(source, below, value, above):
    """Returns the margin of one value between those that its quant and the next ones stand for."""
    apart = source - value
    up, down = apart / (above - value), apart / (value - below)
    share = down if (below != value) & (down < _ZERO) else _ZERO
    share = up if (above != value) & (up > _ZERO) else share
    left = _HALF - abs(share)
    left = left if left > _ZERO else _ZERO
    level = np.sqrt(left + left) * _LEVELS
    level = np.int32(level if level < _MOST else _MOST)
    return np.uint8(255 - level if share > _ZERO else level)
