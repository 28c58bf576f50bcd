"""Codes one plane in the cheapest of four ways (FORMAT.md, "Streams").

kind 1 | stored bytes 4 | payload
"""

import struct
import threading

import numpy as np
import zstandard
from numpy.typing import NDArray

from . import rans
from .errors import CorruptFrame, UnsupportedFrame

Bytes = NDArray[np.uint8]

RAW, CONSTANT, RANS, ZSTD = range(4)
_HEAD = struct.Struct("<BI")
_PROBE_BYTES = 1 << 14
_local = threading.local()


def compress_zstd(data: memoryview, level: int) -> bytes:
    """Returns one zstd frame with its content size in it."""
    compressors = _local.__dict__.setdefault("compressors", {})
    if level not in compressors:
        compressors[level] = zstandard.ZstdCompressor(level=level)
    return compressors[level].compress(data)


def decompress_zstd(payload: memoryview, raw_bytes: int) -> bytes:
    """Returns the content of one zstd frame; raises CorruptFrame unless it is exactly
    ``raw_bytes`` long.
    """
    try:
        # The library allocates by the size the frame claims: it is checked first.
        if zstandard.frame_content_size(payload) != raw_bytes:
            raise CorruptFrame("a zstd stream does not have the length of its plane")
        if "decompressor" not in _local.__dict__:
            _local.decompressor = zstandard.ZstdDecompressor()
        return _local.decompressor.decompress(payload, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise CorruptFrame(f"a zstd stream does not decode: {error}") from None


def encode_stream(plane: Bytes, zstd_level: int | None, entropy: bool = True) -> bytes:
    """Codes (n,) uint8, n >= 1, as raw, constant, rANS or zstd, whichever is smallest.

    ``zstd_level``: None keeps zstd out. ``entropy``: False keeps rANS out.
    """
    if not np.any(plane != plane[0]):
        return _HEAD.pack(CONSTANT, 1) + plane[:1].tobytes()
    best_kind, best = RAW, plane.size
    plan = None
    if entropy:
        plan = rans.plan_tables(rans.count_symbols(plane))
        if plan.coded_bytes < best:
            best_kind, best = RANS, plan.coded_bytes
    if zstd_level is not None and _zstd_may_win(plane, best):
        payload = compress_zstd(plane.data, zstd_level)
        if len(payload) < best:
            return _HEAD.pack(ZSTD, len(payload)) + payload
    if best_kind == RANS and plan is not None:
        payload = rans.encode_symbols(plane, plan)
        if len(payload) < plane.size:
            return _HEAD.pack(RANS, len(payload)) + payload
    return _HEAD.pack(RAW, plane.size) + plane.tobytes()


def _zstd_may_win(plane: Bytes, best: int) -> bool:
    """Tries zstd on a piece from the middle: matches that are there at all show up in 16 KiB."""
    if plane.size <= 2 * _PROBE_BYTES:
        return True
    middle = (plane.size - _PROBE_BYTES) // 2
    probe = len(compress_zstd(plane[middle : middle + _PROBE_BYTES].data, 1))
    return probe * plane.size < best * _PROBE_BYTES


class StreamReader:
    """Takes the streams of one stored block off its front."""

    def __init__(self, stored: memoryview, offset: int) -> None:
        self.stored = stored
        self.offset = offset

    def take(self, count: int) -> memoryview:
        """Returns the next ``count`` bytes; raises CorruptFrame when they are not there."""
        if count > len(self.stored) - self.offset:
            raise CorruptFrame("a block ends inside one of its streams")
        self.offset += count
        return self.stored[self.offset - count : self.offset]

    def decode_into(self, out: Bytes) -> None:
        """Decodes the next stream into every element of ``out`` (n,) uint8."""
        kind, stored_bytes = _HEAD.unpack(self.take(_HEAD.size))
        payload = self.take(stored_bytes)
        if kind == RAW:
            if stored_bytes != out.size:
                raise CorruptFrame("a raw stream does not have the length of its plane")
            out[:] = np.frombuffer(payload, np.uint8)
        elif kind == CONSTANT:
            if stored_bytes != 1:
                raise CorruptFrame("a constant stream is not one byte")
            out[:] = payload[0]
        elif kind == RANS:
            rans.decode_symbols(np.frombuffer(payload, np.uint8), out)
        elif kind == ZSTD:
            out[:] = np.frombuffer(decompress_zstd(payload, out.size), np.uint8)
        else:
            raise UnsupportedFrame(f"a stream of unknown kind {kind}")

    def finish(self) -> None:
        """Raises CorruptFrame when bytes are left over."""
        if self.offset != len(self.stored):
            raise CorruptFrame("a block has bytes after its last stream")
