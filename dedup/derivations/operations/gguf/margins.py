"""Measures how near the values of a source lie to where their quants would be others
(FORMAT.md, "Operations: GGUF").

A source that is not quite the one that was quantised gives other quants there and hardly elsewhere.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .....codecs.buffers import Bytes, freeze
from .dequantise import read_values
from .layout import as_blocks, as_sources, fields, split

Floats = NDArray[np.float32]

_SIGNED = ("Q8_0",)
_PART = 1024
"""Blocks at a time: what is computed of them stays in the cache."""
_ZERO, _HALF, _LEVELS = np.float32(0), np.float32(0.5), np.float32(128)


def measure_margins(kind: str, source: Floats, blocks: Bytes, margins: Bytes) -> None:
    """Writes for each quant of ``blocks`` how near the value was to that of its neighbours.

    ``source``: (n * elements,) float32. ``blocks``: (n * block_bytes,) uint8. ``margins``: (n *
    quants,) uint8, written: 127 where the value is that of the quant itself or is below it, 128
    above it; towards 0 and 255 the nearer it is to halfway to the next quant, in steps that grow
    with the square. All 127 where a quant stands for several values.
    """
    values, groups = as_sources(kind, source), as_blocks(kind, blocks)
    quants = fields(kind)[-1]
    if quants.count != values.shape[1]:
        margins[:] = 127
        return
    rows = margins.reshape(values.shape)
    low, high = (128, 127) if kind in _SIGNED else (0, (1 << quants.bits) - 1)
    for first in range(0, len(groups), _PART):
        parts = split(kind, groups[first : first + _PART].reshape(-1))
        at = parts["quants"]
        below = np.where(at == low, at, at - np.uint8(1))
        above = np.where(at == high, at, at + np.uint8(1))
        measure_kernel(
            freeze(values[first : first + _PART].reshape(-1)),
            read_values(kind, {**parts, "quants": below}),
            read_values(kind, parts),
            read_values(kind, {**parts, "quants": above}),
            rows[first : first + _PART].reshape(-1),
        )


@njit(nogil=True, cache=True, error_model="numpy")
def measure_kernel(source, below, values, above, margins):
    """Writes the margin of each value: all (n,) float32, but ``margins`` (n,) uint8."""
    for i in range(source.size):
        apart = source[i] - values[i]
        share = _ZERO
        if above[i] != values[i] and apart / (above[i] - values[i]) > _ZERO:
            share = apart / (above[i] - values[i])
        elif below[i] != values[i] and apart / (values[i] - below[i]) < _ZERO:
            share = apart / (values[i] - below[i])
        left = _HALF - abs(share)
        level = np.int64(0)
        if left > _ZERO:
            level = min(np.int64(127), np.int64(np.sqrt(left + left) * _LEVELS))
        margins[i] = 255 - level if share > _ZERO else level
