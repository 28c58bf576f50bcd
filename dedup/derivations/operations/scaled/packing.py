"""Puts codes of a few bits into words and takes them out (FORMAT.md, "Operations: scaled
codes")."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .....codecs.buffers import Bytes, freeze
from .....codecs.jit.cached import njit
from ..errors import InvalidRecipe

WORDS = {"U8": 1, "I8": 1, "U16": 2, "I16": 2, "U32": 4, "I32": 4, "U64": 8, "I64": 8}
PLACES = 16


def codes_per_word(dtype: str, bits: int) -> int:
    """Returns how many codes are in an element of an integer dtype."""
    return 8 * WORDS[dtype] // bits


def check_order(dtype: str, bits: int, order: bytes) -> None:
    """Raises InvalidRecipe unless `order` (16 bytes) says where each code of a word goes."""
    if bits not in (2, 4, 8) or dtype not in WORDS:
        raise InvalidRecipe(f"codes of {bits} bits in {dtype}")
    each = codes_per_word(dtype, bits)
    if each > PLACES or sorted(order[:each]) != list(range(each)) or any(order[each:]):
        raise InvalidRecipe("codes in an order that is none")


def pack_codes(codes: Bytes, bits: int, order: bytes, width: int, out: Bytes) -> None:
    """Packs (n,) uint8 into words of `width` bytes; code k of a word goes to the bits from
    `bits * order[k]` on. Codes that are not there count as zero."""
    each = 8 * width // bits
    words = out.size // width
    padded = codes
    if codes.size != words * each:
        padded = np.zeros(words * each, np.uint8)
        padded[: codes.size] = codes[: padded.size]
    places = np.frombuffer(order[:each], np.uint8).astype(np.int64) * bits
    pack_kernel(freeze(padded), np.uint8((1 << bits) - 1), freeze(places), width, out)


def unpack_codes(raw: Bytes, bits: int, order: bytes, width: int) -> NDArray[np.int32]:
    """Returns the codes of words, in the order in which they were packed."""
    each = 8 * width // bits
    places = np.frombuffer(order[:each], np.uint8).astype(np.int64) * bits
    cells = raw[: raw.size // width * width].reshape(-1, width)
    found = (cells[:, places // 8] >> (places % 8).astype(np.uint8)) & np.uint8((1 << bits) - 1)
    return found.astype(np.int32).reshape(-1)


@njit(nogil=True, cache=True)
def pack_kernel(codes, mask, places, width, out):
    """Packs codes, one word after the other; ``places``: the lowest bit of each."""
    each = places.size
    for word in range(out.size // width):
        value = np.uint64(0)
        for k in range(each):
            code = np.uint64(codes[word * each + k] & mask)
            value |= code << np.uint64(places[k])
        for byte in range(width):
            out[word * width + byte] = np.uint8(value >> np.uint64(8 * byte))
