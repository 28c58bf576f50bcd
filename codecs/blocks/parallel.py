"""Codes a tensor block by block, on several threads, into one frame (FORMAT.md, "Frames")."""

import numpy as np

from .. import frame as frames
from ..buffers import Bytes
from ..dtypes import Dtype, find_dtype
from ..errors import CorruptFrame
from ..rans.streams import Effort
from ..registry import Frame, Job
from ..threads import map_all
from . import blocks
from .assembly import Body

BLOCK_BYTES = 1 << 21
"""Raw bytes per block. Whole MiniLM in bf16, size, encoding and decoding speed: 2^20 66.273 %, 2070
and 5560 MB/s; 2^21 66.262 %, 2230 and 5720; 2^22 66.257 %, 2240 and 5570; a range decodes at least
one block."""

_ZSTD_LEVELS = {"fast": 1, "default": 3, "max": 12}
_MIN_GAINS = {"fast": 0.01, "default": 0.01, "max": 0.0}
"""Whole MiniLM, size and decoding speed of "default": bf16 0.01 66.273 % at 3900 MB/s, 0 66.126 %
at 2300; f32 0.01 81.853 % at 4600 MB/s, 0 81.787 % at 3400."""


def choose_effort(level: str, codec: str) -> Effort:
    """Returns what ``level`` may spend on blocks of ``codec``: "zstd", or any other for all that
    there is.
    """
    ours = codec != "zstd"
    zstd_level = None if level == "fast" and ours else _ZSTD_LEVELS[level]
    prefix = level == "fast" and ours
    return Effort(zstd_level, ours, ours, level == "max", _MIN_GAINS[level], prefix)


def encode_blocked(job: Job, codec: str) -> Frame | None:
    """Encodes a tensor of one byte or more into a frame of ``codec``; None where a raw frame is
    smaller.

    Only codec "bitx" uses the base, which has the tensor's length; the frame names it only where a
    block uses it.
    """
    data, dtype = job.data, job.dtype
    against = job.base if codec == "bitx" else None
    effort = choose_effort(job.level, codec)
    block_bytes = BLOCK_BYTES - BLOCK_BYTES % dtype.group_bytes

    def code(index: int, place: Bytes) -> int:
        start = index * block_bytes
        stop = start + block_bytes
        piece = None if against is None else against[0][start:stop]
        return blocks.encode_block(data[start:stop], dtype, piece, effort, place)

    count = -(-data.size // block_bytes)
    room = frames.blocked_head_bytes(count, against is not None)
    body = Body(room, data.size, block_bytes, job.out)
    placed = body.encode(code, job.threads)
    if against is not None and not any(block.layout & blocks.XORED for block in placed):
        against, codec = None, "planes"
    head = frames.pack_blocked(
        codec,
        dtype.name,
        data.size,
        job.digest,
        None if against is None else against[1],
        block_bytes,
        [(block.stored_bytes, block.checksum) for block in placed],
    )
    return body.finish(head) if body.saves(head, data.size) else None


def decode_blocked(
    header: frames.FrameHeader, frame: Bytes, start: int, threads: int, out: Bytes
) -> None:
    """Decodes the raw bytes of a blocked frame from ``start`` on into ``out`` (n,) uint8.

    Decodes the blocks that hold them and no others. Raises CorruptFrame or UnsupportedFrame.
    """
    dtype = find_dtype(header.dtype)
    spans = list(header.spans(start, start + out.size))

    def decode(first: int) -> None:
        pair = spans[first : first + 2]
        stored = [take_block(frame, span) for span in pair]
        places = [find_place(span, start, dtype, out) for span in pair]
        if len(pair) < 2 or not blocks.decode_two_blocks(stored, dtype, places):
            for block, place in zip(stored, places, strict=True):
                blocks.decode_block(block, dtype, None, place)
        for span, place in zip(pair, places, strict=True):
            put_block(place, span, start, out)

    map_all(decode, range(0, len(spans), 2), threads)


def take_block(frame: Bytes, span: frames.BlockSpan) -> Bytes:
    """Returns a stored block; raises CorruptFrame where it does not match its checksum."""
    stored = frame[span.offset : span.offset + span.stored_bytes]
    if frames.checksum_block(stored.data) != span.checksum:
        raise CorruptFrame(f"block {span.index} does not match its checksum")
    return stored


def find_place(span: frames.BlockSpan, start: int, dtype: Dtype, out: Bytes) -> Bytes:
    """Returns where to decode a block to: its place in ``out``, which begins at the raw byte
    ``start``, or memory of its own where only a part is wanted or elements would not be aligned.
    """
    size = span.stop - span.start
    place = out[max(span.start - start, 0) : span.stop - start]
    if place.size == size and place.ctypes.data % dtype.item_bytes == 0:
        return place
    return np.empty(size, np.uint8)


def put_block(block: Bytes, span: frames.BlockSpan, start: int, out: Bytes) -> None:
    """Copies what is wanted of a block that was decoded elsewhere to its place."""
    if not np.may_share_memory(block, out):
        first = max(span.start, start)
        wanted = block[first - span.start : start + out.size - span.start]
        out[first - start : first - start + wanted.size] = wanted
