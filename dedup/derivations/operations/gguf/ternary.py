"""Quantises to three values, -d, 0 and d: TQ1_0 and TQ2_0.

Source: quantize_row_tq1_0_ref and quantize_row_tq2_0_ref in ggml-quants.c of the ggml project.
Kernels take arguments as those of `simple` do.
"""

import numpy as np

from .....codecs.jit.cached import njit
from .arithmetic import reciprocal, round_away, settle_factor

PARTS = ((0, 32, 0, 5), (32, 16, 160, 5), (48, 4, 240, 4))
"""Of the bytes of a block of TQ1_0: the first, how many, and the elements that they hold: byte i
those at first + i, first + i + count, and so on, so many of them."""


@njit(nogil=True, cache=True, error_model="numpy")
def _take_trits(values, block, at, known, trits):
    """Writes 0, 1 or 2 for each of 256 elements, and the factor to byte ``at``."""
    largest = np.float32(0)
    for i in range(values.size):
        magnitude = abs(values[i])
        largest = largest if largest > magnitude else magnitude
    inverse = reciprocal(settle_factor(block, at, largest, known))
    for i in range(values.size):
        trits[i] = max(-1, min(1, round_away(values[i] * inverse))) + 1


@njit(nogil=True, cache=True, error_model="numpy")
def quantise_tq1_0_kernel(source, blocks, known):
    """Quantises to TQ1_0: 52 bytes of five trits (four in the last four), F16 d."""
    trits = np.empty(256, np.uint8)
    for n in range(source.shape[0]):
        block = blocks[n]
        _take_trits(source[n], block, 52, known, trits)
        for first, count, start, digits in PARTS:
            for i in range(count):
                number = 0
                for digit in range(5):
                    trit = trits[start + i + digit * count] if digit < digits else 0
                    number = 3 * number + int(trit)
                # As a fraction of 256, rounded up, so that multiplying by 3 shifts out a trit.
                block[first + i] = (256 * number + 242) // 243


@njit(nogil=True, cache=True, error_model="numpy")
def quantise_tq2_0_kernel(source, blocks, known):
    """Quantises to TQ2_0: 64 bytes of four trits, F16 d."""
    trits = np.empty(256, np.uint8)
    for n in range(source.shape[0]):
        block = blocks[n]
        _take_trits(source[n], block, 64, known, trits)
        for half in range(2):
            for i in range(32):
                bits = 0
                for run in range(4):
                    bits |= int(trits[128 * half + 32 * run + i]) << (2 * run)
                block[32 * half + i] = bits
