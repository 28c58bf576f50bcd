"""What planes and rows of prefix codes share: lanes of bits, read and written."""

import numpy as np

from ..jit.cached import njit
from . import loops

WRITE_SLACK = 8
"""Bytes that an encoder may clobber beyond what it writes."""
LANE_HEAD_BYTES = 4


@njit(nogil=True, cache=True)
def peek(source, place):
    """Returns the next 12 bits from bit ``place`` on."""
    at = place >> 3
    word = np.int64(0)
    for i in range(at, at + 3):
        word = (word << 8) | (np.int64(source[i]) if i < source.size else np.int64(0))
    return (word >> (12 - (place & 7))) & 4095


@njit(nogil=True, cache=True)
def join_codes(one, other):
    """Returns two codes as one; in each the length is the lowest byte."""
    low = np.uint64(255)
    return ((one & ~low) << (other & np.uint64(63))) + (one & low) + other


@njit(nogil=True, cache=True)
def write_codes(joined, out, at, state):
    """Writes codes that were joined, at most four; returns where the next is written.

    ``state``: see ``write_loops.write_next``.
    """
    size = joined & np.uint64(255)
    if size > 0:
        held = state[1] + size
        state[0] = (state[0] << size) | (joined >> np.uint64(8))
        loops.store_bits(out, at, state[0] << (np.uint64(64) - held))
        at += np.int64(held >> np.uint64(3))
        state[1] = held & np.uint64(7)
    return at


@njit(nogil=True, cache=True)
def finish_lane(at, state):
    """Returns where a lane ends: the bits that are left stand in ``out``, zeros behind them."""
    return at + (1 if state[1] > 0 else 0)


@njit(nogil=True, cache=True)
def read_size_kernel(source, at):
    """Returns the length of a lane, whose head is at ``at``."""
    size = np.int64(0)
    for i in range(LANE_HEAD_BYTES):
        size |= np.int64(source[at + i]) << (8 * i)
    return size


@njit(nogil=True, cache=True)
def write_size_kernel(size, out, at):
    """Writes the length of a lane to its head at ``at``."""
    for i in range(LANE_HEAD_BYTES):
        out[at + i] = (size >> (8 * i)) & 255
