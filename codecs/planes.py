"""Cuts elements into byte planes and joins them again (FORMAT.md, "Planes").

Plane 0 is the highest byte of every element. For floats the sign is first moved below the top
eight bits that follow it, so that plane 0 of BF16 and F32 is exactly the exponent.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

WORDS = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


@njit(nogil=True, cache=True)
def split_kernel(words, planes, move_sign):
    """Cuts ``words`` (n,) of k-byte unsigned integers into ``planes`` (k, n) uint8."""
    count = planes.shape[0]
    top = 8 * count - 9
    for i in range(words.size):
        word = np.uint64(words[i])
        if move_sign:
            field = word >> np.uint64(top)
            field = ((field << np.uint64(1)) | (field >> np.uint64(8))) & np.uint64(511)
            word = (word & ((np.uint64(1) << np.uint64(top)) - np.uint64(1))) | (
                field << np.uint64(top)
            )
        for p in range(count):
            planes[p, i] = np.uint8((word >> np.uint64(8 * (count - 1 - p))) & np.uint64(255))


@njit(nogil=True, cache=True)
def join_kernel(planes, words, move_sign):
    """Joins ``planes`` (k, n) uint8 into ``words`` (n,) of k-byte unsigned integers; mirrors
    ``split_kernel``.
    """
    count = planes.shape[0]
    top = 8 * count - 9
    for i in range(words.size):
        word = np.uint64(0)
        for p in range(count):
            word = (word << np.uint64(8)) | np.uint64(planes[p, i])
        if move_sign:
            field = word >> np.uint64(top)
            field = (field >> np.uint64(1)) | ((field & np.uint64(1)) << np.uint64(8))
            word = (word & ((np.uint64(1) << np.uint64(top)) - np.uint64(1))) | (
                field << np.uint64(top)
            )
        words[i] = word


def split_planes(raw: NDArray[np.uint8], item_bytes: int, move_sign: bool) -> NDArray[np.uint8]:
    """Returns the planes (item_bytes, n) uint8 of ``raw`` (n * item_bytes,) uint8."""
    planes = np.empty((item_bytes, raw.size // item_bytes), np.uint8)
    split_kernel(raw.view(WORDS[item_bytes]), planes, move_sign)
    return planes


def join_planes(planes: NDArray[np.uint8], out: NDArray[np.uint8], move_sign: bool) -> None:
    """Writes the elements of ``planes`` (k, n) uint8 into ``out`` (n * k,) uint8."""
    join_kernel(planes, out.view(WORDS[planes.shape[0]]), move_sign)
