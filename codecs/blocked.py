"""Codes a tensor block by block, on several threads, into one frame (FORMAT.md, "Frames")."""

import numpy as np

from . import blocks
from . import frame as frames
from .assembly import Body
from .buffers import Bytes
from .dtypes import Dtype, find_dtype
from .errors import CorruptFrame
from .pool import map_all
from .streams import Effort

BLOCK_BYTES = 1 << 21
"""Raw bytes per block. Whole MiniLM in bf16, size, encoding and decoding speed: 2^20 66.273 %, 2070
and 5560 MB/s; 2^21 66.262 %, 2230 and 5720; 2^22 66.257 %, 2240 and 5570; a range decodes at least
one block."""

_ZSTD_LEVELS = {"fast": 1, "default": 3, "max": 12}
_MIN_GAINS = {"fast": 0.05, "default": 0.01, "max": 0.0}
"""Whole MiniLM, size and decoding speed of "default": bf16 0.01 66.273 % at 3900 MB/s, 0 66.126 %
at 2300; f32 0.01 81.853 % at 4600 MB/s, 0 81.787 % at 3400."""


def choose_effort(level: str, codec: str) -> Effort:
    ours = codec != "zstd"
    zstd_level = None if level == "fast" and ours else _ZSTD_LEVELS[level]
    return Effort(zstd_level, ours, ours, level == "max", _MIN_GAINS[level])


def encode_blocked(
    data: Bytes,
    dtype: Dtype,
    base: tuple[Bytes, bytes] | None,
    codec: str,
    level: str,
    digest: bytes,
    threads: int,
) -> bytes | None:
    """Encodes (n,) uint8, n >= 1, into a frame; None where a raw frame is smaller.

    ``base``: the base of equal length and its digest, used by codec "bitx" alone; the frame names
    it only where a block uses it.
    """
    against = base if codec == "bitx" else None
    effort = choose_effort(level, codec)
    block_bytes = BLOCK_BYTES - BLOCK_BYTES % dtype.group_bytes

    def code(index: int, out: Bytes) -> int:
        start = index * block_bytes
        stop = start + block_bytes
        piece = None if against is None else against[0][start:stop]
        return blocks.encode_block(data[start:stop], dtype, piece, effort, out)

    count = -(-data.size // block_bytes)
    room = frames.blocked_head_bytes(count, against is not None)
    body = Body(room, data.size, block_bytes)
    placed = body.encode(code, threads)
    if against is not None and not any(block.layout & blocks.XORED for block in placed):
        against, codec = None, "planes"
    head = frames.pack_blocked(
        codec,
        dtype.name,
        data.size,
        digest,
        None if against is None else against[1],
        block_bytes,
        [(block.stored_bytes, block.checksum) for block in placed],
    )
    return body.finish(head) if body.saves(head, data.size) else None


def decode_blocked(
    header: frames.FrameHeader,
    frame: Bytes,
    start: int,
    stop: int,
    base: Bytes | None,
    threads: int,
) -> Bytes:
    """Decodes the raw bytes from ``start`` to ``stop`` of a blocked frame, (stop - start,) uint8.

    Decodes the blocks that hold them and no others. Raises CorruptFrame or UnsupportedFrame.
    """
    dtype = find_dtype(header.dtype)
    spans = list(header.spans(start, stop))
    origin = spans[0].start if spans else start
    out = np.empty(spans[-1].stop - origin if spans else 0, np.uint8)

    def take(span: frames.BlockSpan) -> tuple[Bytes, Bytes]:
        stored = frame[span.offset : span.offset + span.stored_bytes]
        if frames.checksum_block(stored.data) != span.checksum:
            raise CorruptFrame(f"block {span.index} does not match its checksum")
        return stored, out[span.start - origin : span.stop - origin]

    def decode(first: int) -> None:
        pair = spans[first : first + 2]
        stored, places = zip(*map(take, pair), strict=True)
        if len(pair) == 2 and blocks.decode_two_blocks(stored, dtype, places):
            return
        for span, block, place in zip(pair, stored, places, strict=True):
            piece = None if base is None else base[span.start : span.stop]
            blocks.decode_block(block, dtype, piece, place)

    map_all(decode, range(0, len(spans), 2), threads)
    return out[start - origin : stop - origin]
