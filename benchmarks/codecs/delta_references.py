"""What others do with a tensor and its base, written from their papers, to be measured beside.

BitX (ZipLLM, NSDI '26): XOR of the two; of 16-bit floats the exponent bits are one stream and sign
and mantissa another, each compressed by zstd. TensorDex' TX (SOSP '26) and our reference for
wider elements: XOR, then every byte plane by itself. FM-Delta (NeurIPS '24): the difference of
the words as integers, entropy-coded without context; of it only the entropy is computed here.
"""

from __future__ import annotations

import numpy as np
import zstandard

from ...codecs.buffers import freeze
from ...codecs.planes import join_planes, split_planes


class XorPlanes:
    """XOR with the base, cut into planes, each compressed by zstd.

    BF16 is cut into exponent and sign with mantissa, as BitX does; all else into bytes. Cutting
    and joining are this project's own compiled loops, so that only zstd is measured.
    """

    def __init__(self, dtype: str, level: int) -> None:
        self.is_float = dtype == "BF16"
        self.compressor = zstandard.ZstdCompressor(level=level)
        self.decompressor = zstandard.ZstdDecompressor()

    def encode(self, tensor: np.ndarray, base: np.ndarray) -> list[bytes]:
        """Returns one zstd frame for each plane."""
        turned = freeze(np.bitwise_xor(tensor, base).reshape(-1).view(np.uint8))
        planes = np.empty((tensor.itemsize, tensor.size), np.uint8)
        split_planes(turned, self.is_float, planes)
        return [self.compressor.compress(plane.data) for plane in planes]

    def decode(self, coded: list[bytes], base: np.ndarray) -> np.ndarray:
        """Returns the tensor."""
        planes = [np.frombuffer(self.decompressor.decompress(part), np.uint8) for part in coded]
        out = np.empty_like(base)
        join_planes(planes, out.reshape(-1).view(np.uint8), self.is_float)
        np.bitwise_xor(out, base, out=out)
        return out

    def stored_bytes(self, coded: list[bytes]) -> int:
        """Returns what is kept; the base's name and all lengths are left out."""
        return sum(map(len, coded))


def fm_delta_bytes(tensor: np.ndarray, base: np.ndarray) -> float:
    """Returns the order-0 entropy of FM-Delta's symbols with their raw bits, in bytes.

    A symbol is the sign and the bit length of the difference of two words taken as unsigned
    integers in order of value; the bits below the highest are kept as they are.
    """
    steps = _ordered(tensor) - _ordered(base)
    lengths = np.zeros(steps.size, np.int64)
    rest = np.abs(steps)
    while rest.any():
        lengths += rest > 0
        rest >>= 1
    counts = np.bincount(np.where(steps < 0, lengths + 70, lengths))
    shares = counts[counts > 0] / steps.size
    raw_bits = int(np.maximum(lengths - 1, 0).sum())
    return (float(-(shares * np.log2(shares)).sum()) * steps.size + raw_bits) / 8


def _ordered(words: np.ndarray) -> np.ndarray:
    """Returns floats' words as integers in order of value."""
    top = np.int64(1) << (8 * words.itemsize - 1)
    wide = words.astype(np.int64).ravel()
    return np.where(wide & top, -(wide & (top - 1)) - 1, wide)
