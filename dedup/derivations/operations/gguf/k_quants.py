"""Quantises to the types of 256 elements with scales of runs: searches first, then writes."""

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from .....codecs.buffers import Bytes
from .arithmetic import SCALES
from .iq4 import search_values_kernel, write_iq4_xs_kernel
from .k_minima import (
    search_runs_kernel,
    write_q2_k_kernel,
    write_q4_k_kernel,
    write_q5_k_kernel,
)
from .k_symmetric import search_symmetric_kernel, write_q3_k_kernel, write_q6_k_kernel

Floats = NDArray[np.float32]

_PART = 1024
"""Blocks at a time: what is found of them stays in the cache."""


def _quantise_minima(
    run: int, high: int, write: Callable[..., None], source: Floats, blocks: Bytes, known: int
) -> None:
    for first in range(0, len(source), _PART):
        values, part = source[first : first + _PART], blocks[first : first + _PART]
        scales = np.zeros((len(values), 256 // run), np.float32)
        minima = np.zeros_like(scales)
        if known != SCALES:
            runs = values.reshape(-1, run)
            search_runs_kernel(runs, high, scales.reshape(-1), minima.reshape(-1))
        write(values, scales, minima, part, known)


def _quantise_symmetric(
    middle: int, write: Callable[..., None], source: Floats, blocks: Bytes, known: int
) -> None:
    for first in range(0, len(source), _PART):
        values, part = source[first : first + _PART], blocks[first : first + _PART]
        scales = np.zeros((len(values), 16), np.float32)
        if known != SCALES:
            search_symmetric_kernel(values.reshape(-1, 16), middle, scales.reshape(-1))
        write(values, scales, part, known)


def quantise_iq4_xs(source: Floats, blocks: Bytes, known: int) -> None:
    """Quantises to IQ4_XS."""
    for first in range(0, len(source), _PART):
        values, part = source[first : first + _PART], blocks[first : first + _PART]
        scales = np.zeros((len(values), 8), np.float32)
        # A stored factor that the search's one rounds to stands for it, so it is needed always.
        search_values_kernel(values.reshape(-1, 32), scales.reshape(-1))
        write_iq4_xs_kernel(values, scales, part, known)


quantise_q2_k = partial(_quantise_minima, 16, 3, write_q2_k_kernel)
quantise_q4_k = partial(_quantise_minima, 32, 15, write_q4_k_kernel)
quantise_q5_k = partial(_quantise_minima, 32, 31, write_q5_k_kernel)
quantise_q3_k = partial(_quantise_symmetric, 4, write_q3_k_kernel)
quantise_q6_k = partial(_quantise_symmetric, 32, write_q6_k_kernel)
