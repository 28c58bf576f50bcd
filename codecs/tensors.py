"""Codes tensors block by block, against their base where there is one (FORMAT.md, "Frames")."""

from .blocks.parallel import decode_blocked, encode_blocked
from .buffers import Bytes
from .frame import FrameHeader
from .registry import Frame, Job


def encode(job: Job) -> list[Frame]:
    """Returns the frame of the codec that is asked for, or of the best; none where a raw one is
    smaller."""
    if not job.data.size:
        return []
    # Without a row map a base is also what planes may be combined with, one by one.
    combined = job.codec == "bitx" and not job.rows
    found = None
    if job.base is not None and not combined:
        from .delta.deltas import encode_delta

        found = encode_delta(job, job.base)
    if found is None:
        name = "bitx" if combined else "zstd" if job.codec == "zstd" else "planes"
        found = encode_blocked(job, name)
    return [] if found is None else [found]


def decode(
    header: FrameHeader, frame: Bytes, start: int, base: Bytes | None, threads: int, out: Bytes
) -> None:
    """Decodes the raw bytes from ``start`` on into ``out``, and of the frame only the blocks that
    hold them. Raises CorruptFrame or UnsupportedFrame."""
    if base is None:
        decode_blocked(header, frame, start, threads, out)
        return
    from .delta.deltas import decode_delta

    decode_delta(header, frame, start, base, threads, out)
