"""Cuts elements into byte planes and joins them again (FORMAT.md, "Planes").

Plane 0 is the highest byte of every element. For floats the top nine bits are first rotated left
by one, which moves the sign below the eight bits that follow it: plane 0 of BF16 and F32 is then
exactly the exponent.
"""

from collections.abc import Sequence

import numpy as np

from .buffers import Bytes, freeze
from .jit.cached import njit

WORDS = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


@njit(nogil=True, cache=True)
def split2_kernel(words, is_float, planes):
    """Cuts ``words`` (n,) uint16 into ``planes`` (2, n) uint8."""
    high, low = planes[0], planes[1]
    if is_float:
        for i in range(words.size):
            word = words[i]
            high[i] = np.uint8((word >> np.uint16(7)) & np.uint16(255))
            low[i] = np.uint8((word & np.uint16(127)) | ((word >> np.uint16(8)) & np.uint16(128)))
    else:
        for i in range(words.size):
            high[i] = np.uint8(words[i] >> np.uint16(8))
            low[i] = np.uint8(words[i] & np.uint16(255))


@njit(nogil=True, cache=True)
def join2_kernel(high, low, is_float, words):
    """Joins two planes (n,) uint8 into ``words`` (n,) uint16."""
    if is_float:
        for i in range(words.size):
            rest = np.uint16(low[i])
            sign = (rest & np.uint16(128)) << np.uint16(8)
            words[i] = sign | (np.uint16(high[i]) << np.uint16(7)) | (rest & np.uint16(127))
    else:
        for i in range(words.size):
            words[i] = (np.uint16(high[i]) << np.uint16(8)) | np.uint16(low[i])


@njit(nogil=True, cache=True)
def split4_kernel(words, is_float, planes):
    """Cuts ``words`` (n,) uint32 into ``planes`` (4, n) uint8."""
    p0, p1, p2, p3 = planes[0], planes[1], planes[2], planes[3]
    for i in range(words.size):
        word = words[i]
        top = word >> np.uint32(23)
        if is_float:
            top = (top << np.uint32(1)) | (top >> np.uint32(8))
        p0[i] = np.uint8((top >> np.uint32(1)) & np.uint32(255))
        p1[i] = np.uint8(
            ((top & np.uint32(1)) << np.uint32(7)) | ((word >> np.uint32(16)) & np.uint32(127))
        )
        p2[i] = np.uint8((word >> np.uint32(8)) & np.uint32(255))
        p3[i] = np.uint8(word & np.uint32(255))


@njit(nogil=True, cache=True)
def join4_kernel(p0, p1, p2, p3, is_float, words):
    """Joins four planes (n,) uint8 into ``words`` (n,) uint32."""
    for i in range(words.size):
        top = (np.uint32(p0[i]) << np.uint32(1)) | (np.uint32(p1[i]) >> np.uint32(7))
        if is_float:
            top = (top >> np.uint32(1)) | ((top & np.uint32(1)) << np.uint32(8))
        middle = (np.uint32(p1[i]) & np.uint32(127)) << np.uint32(16)
        words[i] = (
            (top << np.uint32(23)) | middle | (np.uint32(p2[i]) << np.uint32(8)) | np.uint32(p3[i])
        )


@njit(nogil=True, cache=True)
def rotate8_kernel(words, places, turned):
    """Rotates the top nine bits of ``words`` (n,) uint64 left by ``places`` of 9 into ``turned``
    (n,) uint64.
    """
    low = (np.uint64(1) << np.uint64(55)) - np.uint64(1)
    for i in range(words.size):
        top = words[i] >> np.uint64(55)
        top = (top << np.uint64(places)) | (top >> np.uint64(9 - places))
        turned[i] = ((top & np.uint64(511)) << np.uint64(55)) | (words[i] & low)


def split_planes(raw: Bytes, is_float: bool, planes: Bytes) -> None:
    """Cuts ``raw`` (k * n,) uint8 into ``planes`` (k, n) uint8 for elements of k = 2, 4 or 8
    bytes.
    """
    item_bytes = planes.shape[0]
    words = raw.view(WORDS[item_bytes])
    if item_bytes == 2:
        split2_kernel(words, is_float, planes)
    elif item_bytes == 4:
        split4_kernel(words, is_float, planes)
    else:
        turned = words
        if is_float:
            turned = np.empty_like(words)
            rotate8_kernel(words, 1, turned)
        planes[::-1] = turned.view(np.uint8).reshape(-1, item_bytes).T


def join_planes(planes: Sequence[Bytes], out: Bytes, is_float: bool) -> None:
    """Writes the elements of 2, 4 or 8 planes (n,) uint8 into ``out``; mirrors ``split_planes``."""
    words = out.view(WORDS[len(planes)])
    inputs = [freeze(plane) for plane in planes]
    if len(planes) == 2:
        join2_kernel(inputs[0], inputs[1], is_float, words)
    elif len(planes) == 4:
        join4_kernel(inputs[0], inputs[1], inputs[2], inputs[3], is_float, words)
    else:
        cells = out.reshape(-1, 8)
        for place, plane in enumerate(reversed(inputs)):
            cells[:, place] = plane
        if is_float:
            rotate8_kernel(freeze(words), 8, words)
