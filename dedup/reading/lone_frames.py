"""Frames that are in no vault: tensors encoded in the memory of one process."""

from __future__ import annotations

from typing import Any

from ...codecs.errors import FrameError
from ..errors import Corrupt
from .timed_codecs import decode_range, decode_tensor, encode_tensor, read_header


def encode_frame(
    raw: Any, dtype: str, base: Any = None, *, level: str = "default", columns: int | None = None
) -> bytes:
    """Returns a frame of a tensor's bytes, against those of `base`, of the same length, where that
    is smaller. `columns`: elements in a row."""
    alone = encode_tensor(raw, dtype, level=level, columns=columns)
    if base is None:
        return alone
    delta = encode_tensor(raw, dtype, base=base, level=level, columns=columns)
    return min(alone, delta, key=len)


def is_delta(frame: bytes) -> bool:
    """Says whether a frame needs a base."""
    return read_header(frame, b"").base_digest is not None


def decode_frame_range(frame: bytes, base: Any, start: int, stop: int, out: Any) -> None:
    """Decodes the raw bytes [start, stop) of what was encoded into `out`, (n,) uint8 or of more
    dimensions, checked block by block. Raises Corrupt where the frame is damaged; that the base is
    what it was is for the caller to know."""
    digest = read_header(frame, b"").base_digest
    try:
        decode_range(frame, start, stop, base=base, base_digest=digest, out=out)
    except FrameError as error:
        raise Corrupt(f"a frame in memory does not decode: {error}") from error


def decode_frame(frame: bytes, base: Any, out: Any) -> None:
    """Decodes a frame into `out`, (n,) uint8. Raises Corrupt unless what comes out is what was
    encoded, bit for bit: the base may have changed."""
    digest = read_header(frame, b"").base_digest
    try:
        decode_tensor(frame, base=base, base_digest=digest, out=out)
    except FrameError as error:
        raise Corrupt(f"a frame in memory does not decode: {error}") from error
