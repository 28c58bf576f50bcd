"""Quantises to the types of 256 elements with scales of runs: searches first, then writes."""

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from .....codecs.buffers import Bytes
from .arithmetic import SCALES
from .iq4 import write_iq4_nl_kernel, write_iq4_xs_kernel
from .k_minima import write_q2_k_kernel, write_q4_k_kernel, write_q5_k_kernel
from .k_symmetric import write_q3_k_kernel, write_q6_k_kernel
from .lanes.search import search_lines, search_symmetric, search_values

Floats = NDArray[np.float32]

_PART = 1024
"""Blocks at a time: what is found of them stays in the cache."""


def _quantise_minima(
    run: int, high: int, write: Callable[..., None], source: Floats, blocks: Bytes, known: int
) -> None:
    for first in range(0, len(source), _PART):
        values, part = source[first : first + _PART], blocks[first : first + _PART]
        scales = minima = np.empty((len(values), 256 // run), np.float32)
        if known != SCALES:
            found = search_lines(values.reshape(-1, run), high)
            scales, minima = found[0].reshape(scales.shape), found[1].reshape(scales.shape)
        write(values.reshape(len(values), -1, run), scales, minima, part, known)


def _quantise_symmetric(
    middle: int, write: Callable[..., None], source: Floats, blocks: Bytes, known: int
) -> None:
    for first in range(0, len(source), _PART):
        values, part = source[first : first + _PART], blocks[first : first + _PART]
        scales = np.empty((len(values), 16), np.float32)
        if known != SCALES:
            scales = search_symmetric(values.reshape(-1, 16), middle).reshape(-1, 16)
        write(values.reshape(-1, 16, 16), scales, part, known)


def quantise_iq4_xs(source: Floats, blocks: Bytes, known: int) -> None:
    """Quantises to IQ4_XS."""
    for first in range(0, len(source), _PART):
        values, part = source[first : first + _PART], blocks[first : first + _PART]
        # A stored factor that the search's one rounds to stands for it, so it is needed always.
        scales = search_values(values.reshape(-1, 32)).reshape(-1, 8)
        write_iq4_xs_kernel(values, scales, part, known)


def quantise_iq4_nl(source: Floats, blocks: Bytes, known: int) -> None:
    """Quantises to IQ4_NL."""
    for first in range(0, len(source), 8 * _PART):
        values, part = source[first : first + 8 * _PART], blocks[first : first + 8 * _PART]
        write_iq4_nl_kernel(values, search_values(values), part, known)


quantise_q2_k = partial(_quantise_minima, 16, 3, write_q2_k_kernel)
quantise_q4_k = partial(_quantise_minima, 32, 15, write_q4_k_kernel)
quantise_q5_k = partial(_quantise_minima, 32, 31, write_q5_k_kernel)
quantise_q3_k = partial(_quantise_symmetric, 4, write_q3_k_kernel)
quantise_q6_k = partial(_quantise_symmetric, 32, write_q6_k_kernel)
