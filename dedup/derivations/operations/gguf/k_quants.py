"""Quantises to the types of 256 elements with scales of runs: searches first, then writes.

The functions take ``source``: (n, elements) float32, ``blocks``: (n, block bytes) uint8, ``known``,
and whether only ``heads`` are wanted, all but quants. What searches find is put in ``kept``, by the
first block, and not searched for again.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from .....codecs.buffers import Bytes, freeze
from .arithmetic import SCALES
from .iq4 import write_iq4_nl_kernel, write_iq4_xs_kernel
from .k_minima import (
    search_quants_kernel,
    write_q2_k_kernel,
    write_q4_k_kernel,
    write_q5_k_kernel,
)
from .k_symmetric import (
    search_symmetric_quants_kernel,
    write_q3_k_kernel,
    write_q6_k_kernel,
)
from .lanes.search import search_lines, search_symmetric, search_values

Floats = NDArray[np.float32]
Kept = dict[int, tuple[Floats, ...]]

_PART = 1024
"""Blocks at a time: what is found of them stays in the cache."""


def _search(kept: Kept, first: int, search: Callable[[], tuple[Floats, ...]]) -> tuple[Floats, ...]:
    found = kept.get(first)
    if found is None:
        found = kept[first] = search()
    return found


def _write(
    write: Callable[[Bytes, Bytes], None],
    runs: Floats,
    fit: Callable[[Floats, Bytes], None],
    heads: bool,
) -> None:
    """Writes blocks of (n, runs, elements) float32, again with the quants of a search where scales
    are 0."""
    none = np.empty((0, *runs.shape[1:]), np.uint8)
    flat = np.empty((0 if heads else len(runs), runs.shape[1]), np.uint8)
    write(none, flat)
    if flat.any():
        chosen = flat.astype(bool)
        quants = np.empty((np.count_nonzero(chosen), runs.shape[2]), np.uint8)
        fit(freeze(runs[chosen]), quants)
        found = np.zeros(runs.shape, np.uint8)
        found[chosen] = quants
        write(found, flat)


def _quantise_minima(
    run: int,
    high: int,
    kernel: Callable[..., None],
    source: Floats,
    blocks: Bytes,
    known: int,
    heads: bool,
    kept: Kept,
) -> None:
    def search(values: Floats) -> tuple[Floats, ...]:
        found = search_lines(values.reshape(-1, run), high)
        return tuple(each.reshape(len(values), -1) for each in found)

    for first in range(0, len(source), _PART):
        values, part = source[first : first + _PART], blocks[first : first + _PART]
        scales = minima = np.empty((len(values), 256 // run), np.float32)
        if known != SCALES:
            scales, minima = _search(kept, first, partial(search, values))
        runs = values.reshape(len(values), -1, run)

        def write(
            found: Bytes,
            flat: Bytes,
            given: tuple[Floats, ...] = (runs, scales, minima),
            part: Bytes = part,
        ) -> None:
            kernel(*given, part, known, found, flat)

        _write(write, runs, lambda runs, quants: search_quants_kernel(runs, high, quants), heads)


def _quantise_symmetric(
    middle: int,
    kernel: Callable[..., None],
    source: Floats,
    blocks: Bytes,
    known: int,
    heads: bool,
    kept: Kept,
) -> None:
    def search(values: Floats) -> tuple[Floats, ...]:
        return (search_symmetric(values.reshape(-1, 16), middle).reshape(-1, 16),)

    for first in range(0, len(source), _PART):
        values, part = source[first : first + _PART], blocks[first : first + _PART]
        scales = np.empty((len(values), 16), np.float32)
        if known != SCALES:
            (scales,) = _search(kept, first, partial(search, values))
        runs = values.reshape(-1, 16, 16)

        def write(
            found: Bytes,
            flat: Bytes,
            given: tuple[Floats, ...] = (runs, scales),
            part: Bytes = part,
        ) -> None:
            kernel(*given, part, known, found, flat)

        _write(
            write,
            runs,
            lambda runs, quants: search_symmetric_quants_kernel(runs, middle, quants),
            heads,
        )


def quantise_iq4_xs(source: Floats, blocks: Bytes, known: int, heads: bool, kept: Kept) -> None:
    """Quantises to IQ4_XS."""

    def search(values: Floats) -> tuple[Floats, ...]:
        return (search_values(values.reshape(-1, 32)).reshape(-1, 8),)

    for first in range(0, len(source), _PART):
        values, part = source[first : first + _PART], blocks[first : first + _PART]
        # A stored factor that the search's one rounds to stands for it, so it is needed always.
        (scales,) = _search(kept, first, partial(search, values))
        write_iq4_xs_kernel(values, scales, part, known, heads)


def quantise_iq4_nl(source: Floats, blocks: Bytes, known: int, heads: bool, kept: Kept) -> None:
    """Quantises to IQ4_NL."""
    for first in range(0, len(source), 8 * _PART):
        values, part = source[first : first + 8 * _PART], blocks[first : first + 8 * _PART]
        (scales,) = _search(kept, first, lambda values=values: (search_values(values),))
        write_iq4_nl_kernel(values, scales, part, known)


quantise_q2_k = partial(_quantise_minima, 16, 3, write_q2_k_kernel)
quantise_q4_k = partial(_quantise_minima, 32, 15, write_q4_k_kernel)
quantise_q5_k = partial(_quantise_minima, 32, 31, write_q5_k_kernel)
quantise_q3_k = partial(_quantise_symmetric, 4, write_q3_k_kernel)
quantise_q6_k = partial(_quantise_symmetric, 32, write_q6_k_kernel)
