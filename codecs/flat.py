"""Codes a tensor as it is, or as one element that repeats (FORMAT.md, "Frames")."""

import numpy as np

from . import frame as frames
from .buffers import Bytes
from .errors import CorruptFrame
from .registry import Frame, Job


def encode(job: Job) -> list[Frame]:
    """Returns a frame of codec ``constant`` where all elements are equal. One of codec ``raw`` is
    what is left where no coder has a frame, and is made by the pipeline."""
    data, size = job.data, job.dtype.item_bytes
    if job.codec == "raw":
        return []
    # Looking at a little first spares the pass over nearly every tensor.
    for piece in (data[: 256 * size], data):
        if piece.size < size or not np.array_equal(piece[size:], piece[: piece.size - size]):
            return []
    body = data[:size].tobytes()
    return [frames.pack_flat("constant", job.dtype.name, data.size, job.digest, body) + body]


def decode(
    header: frames.FrameHeader, frame: Bytes, start: int, _base: Bytes | None, _: int, out: Bytes
) -> None:
    """Decodes the raw bytes from ``start`` on into ``out``. Raises CorruptFrame."""
    if header.block_bytes:
        _copy_blocks(header, frame, start, out)
        return
    body = frame[header.body_offset :]
    if frames.checksum_body(body.data) != header.body_checksum:
        raise CorruptFrame("the body does not match its checksum")
    if header.codec == "raw":
        out[:] = body[start : start + out.size]
        return
    item_bytes = body.size
    item = np.roll(body, -(start % item_bytes))
    whole = out.size - out.size % item_bytes
    kind = f"{'u' if item_bytes in (1, 2, 4, 8) else 'V'}{item_bytes}"
    out[:whole].view(kind)[:] = item.view(kind)
    out[whole:] = item[: out.size - whole]


def _copy_blocks(header: frames.FrameHeader, frame: Bytes, start: int, out: Bytes) -> None:
    """Copies from a raw frame that ``ranges.index_raw`` has given a block table."""
    for span in header.spans(start, start + out.size):
        block = frame[span.offset : span.offset + span.stored_bytes]
        if frames.checksum_block(block.data) != span.checksum:
            raise CorruptFrame(f"the body does not match the checksum of its piece {span.index}")
        first, last = max(span.start, start), min(span.stop, start + out.size)
        out[first - start : last - start] = block[first - span.start : last - span.start]
