"""Predicts blocks of GGUF's types from the float32 values of their source, whole or the rest of
what is known of them.

Pure: the bytes depend on the arguments alone. A definition never changes once a release has written
with it (FORMAT.md, "Operations: GGUF"); golden digests hold it.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .....codecs.buffers import Bytes, freeze
from . import k_quants, mx, simple, ternary
from .arithmetic import FACTORS, NOTHING, SCALES
from .layout import as_blocks, as_sources

Floats = NDArray[np.float32]
Quantiser = Callable[[Floats, Bytes, int], None]
Searcher = Callable[[Floats, Bytes, int, bool, k_quants.Kept], None]

_QUANTISERS: dict[str, Quantiser] = {
    "Q4_0": simple.quantise_q4_0_kernel,
    "Q4_1": simple.quantise_q4_1_kernel,
    "Q5_0": simple.quantise_q5_0_kernel,
    "Q5_1": simple.quantise_q5_1_kernel,
    "Q8_0": simple.quantise_q8_0_kernel,
    "MXFP4": mx.quantise_mxfp4_kernel,
    "NVFP4": mx.quantise_nvfp4_kernel,
    "TQ1_0": ternary.quantise_tq1_0_kernel,
    "TQ2_0": ternary.quantise_tq2_0_kernel,
}
_SEARCHERS: dict[str, Searcher] = {
    "Q2_K": k_quants.quantise_q2_k,
    "Q3_K": k_quants.quantise_q3_k,
    "Q4_K": k_quants.quantise_q4_k,
    "Q5_K": k_quants.quantise_q5_k,
    "Q6_K": k_quants.quantise_q6_k,
    "IQ4_NL": k_quants.quantise_iq4_nl,
    "IQ4_XS": k_quants.quantise_iq4_xs,
}


def predict_factors(kind: str, source: Floats, out: Bytes, kept: k_quants.Kept) -> None:
    """Writes blocks of which the factors (the fields of stage FACTOR) alone count. What searches
    found is in ``kept`` then, for the functions below, if they are given the same ``source``."""
    _run(kind, source, out, NOTHING, heads=True, kept=kept)


def quantise(kind: str, source: Floats, out: Bytes) -> None:
    """Writes the blocks that llama.cpp makes of ``source`` without an importance matrix.

    ``source``: (n * elements,) float32. ``out``: (n * block_bytes,) uint8, written. Raises
    ValueError for a kind there is no operation for, and where the sizes do not fit.
    """
    _run(kind, source, out, NOTHING)


def scales_given_factors(
    kind: str,
    source: Floats,
    blocks: Bytes,
    out: Bytes,
    kept: k_quants.Kept | None = None,
    *,
    heads: bool = False,
) -> None:
    """Writes blocks whose factors are those of ``blocks``, and whose scales and quants are
    predicted from ``source`` and these; with ``heads`` the quants need not be.

    ``blocks``: (n * block_bytes,) uint8, may be ``out``. Else like `quantise`.
    """
    _copy(kind, blocks, out)
    _run(kind, source, out, FACTORS, heads=heads, kept=kept)


def quants_given_scales(
    kind: str, source: Floats, blocks: Bytes, out: Bytes, kept: k_quants.Kept | None = None
) -> None:
    """Writes blocks whose factors and scales are those of ``blocks``, and whose quants are
    predicted from ``source`` and these.

    ``blocks``: (n * block_bytes,) uint8, may be ``out``. Else like `quantise`.
    """
    _copy(kind, blocks, out)
    _run(kind, source, out, SCALES, kept=kept)


def _copy(kind: str, blocks: Bytes, out: Bytes) -> None:
    if blocks is not out:
        as_blocks(kind, out)[:] = as_blocks(kind, blocks)


def _run(
    kind: str,
    source: Floats,
    out: Bytes,
    known: int,
    *,
    heads: bool = False,
    kept: k_quants.Kept | None = None,
) -> None:
    values, blocks = as_sources(kind, source), as_blocks(kind, out)
    if len(values) != len(blocks):
        raise ValueError(f"{len(values)} blocks of {kind} in the source, {len(blocks)} to write")
    search = _SEARCHERS.get(kind)
    if search is None:
        _QUANTISERS[kind](freeze(values), blocks, known)
    else:
        search(freeze(values), blocks, known, heads, {} if kept is None else kept)
