"""Codes one block: chooses a layout, cuts the block into streams, codes each (FORMAT.md, "Blocks").

layout 1 (bit 7: XORed with the base) | streams | tail
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from . import planes, streams
from .dtypes import Dtype
from .errors import CorruptFrame, UnsupportedFrame

Bytes = NDArray[np.uint8]

BYTES, PLANES = range(2)
_XORED = 0x80


@dataclass(frozen=True, slots=True)
class Effort:
    """What an encoder may spend: the zstd level of streams (None: no zstd), entropy coding, plane
    cutting.
    """

    zstd_level: int | None = 3
    entropy: bool = True
    cut: bool = True


def encode_block(raw: Bytes, dtype: Dtype, base: Bytes | None, effort: Effort) -> bytes:
    """Codes one block, (n,) uint8 with n >= 1, in the smallest of the layouts that suit its
    dtype.
    """
    best = _encode_plain(raw, dtype, effort)
    if base is not None:
        stored = _encode_plain(raw ^ base, dtype, effort)
        if len(stored) < len(best):
            return bytes([stored[0] | _XORED]) + stored[1:]
    return best


def _encode_plain(raw: Bytes, dtype: Dtype, effort: Effort) -> bytes:
    body, tail = _cut_tail(raw, dtype)
    candidates = []
    if effort.cut and dtype.item_bytes > 1 and body.size:
        cut = planes.split_planes(body, dtype.item_bytes, dtype.is_float)
        coded = [streams.encode_stream(plane, effort.zstd_level, effort.entropy) for plane in cut]
        candidates.append(b"".join((bytes([PLANES]), *coded, tail.tobytes())))
    if not candidates or not dtype.is_float:
        stream = streams.encode_stream(raw, effort.zstd_level, effort.entropy)
        candidates.append(bytes([BYTES]) + stream)
    return min(candidates, key=len)


def _cut_tail(raw: Bytes, dtype: Dtype) -> tuple[Bytes, Bytes]:
    whole = raw.size - raw.size % dtype.item_bytes
    return raw[:whole], raw[whole:]


def is_delta(stored: memoryview) -> bool:
    """Tells whether a stored block needs the base."""
    return bool(stored[0] & _XORED)


def decode_block(stored: memoryview, dtype: Dtype, base: Bytes | None, out: Bytes) -> None:
    """Decodes one stored block into every byte of ``out`` (n,) uint8; mirrors ``encode_block``."""
    if not len(stored):
        raise CorruptFrame("a stored block is empty")
    layout = stored[0] & ~_XORED
    reader = streams.StreamReader(stored, 1)
    if layout == BYTES:
        reader.decode_into(out)
    elif layout == PLANES:
        _decode_planes(reader, dtype, out)
    else:
        raise UnsupportedFrame(f"a block of unknown layout {layout}")
    reader.finish()
    if is_delta(stored):
        if base is None:
            raise CorruptFrame("a block needs a base in a frame that has none")
        np.bitwise_xor(out, base, out=out)


def _decode_planes(reader: streams.StreamReader, dtype: Dtype, out: Bytes) -> None:
    body, tail = _cut_tail(out, dtype)
    cut = np.empty((dtype.item_bytes, body.size // dtype.item_bytes), np.uint8)
    if not cut.size:
        raise CorruptFrame("a block without a whole element is cut into planes")
    for plane in cut:
        reader.decode_into(plane)
    planes.join_planes(cut, body, dtype.is_float)
    tail[:] = np.frombuffer(reader.take(tail.size), np.uint8)
