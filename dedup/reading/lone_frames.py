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
    is smaller. `columns`: elements in a row. It was decoded again, and compared."""
    made = encode_tensor(raw, dtype, level=level, columns=columns)
    if base is not None:
        delta = encode_tensor(raw, dtype, base=base, level=level, columns=columns)
        made = min(made, delta, key=len)
    digest = read_header(made, b"").base_digest
    # Raises unless what comes out has the digest of what was encoded.
    decode_tensor(made, base=base, base_digest=digest)
    return made


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
    encoded, bit for bit.

    Without a base the checksums of the blocks tell, as the frame was decoded once when it was made.
    A base may have changed since, so with one all that comes out is hashed: that takes as long as
    decoding it.
    """
    digest = read_header(frame, b"").base_digest
    if digest is None:
        return decode_frame_range(frame, None, 0, len(out), out)
    try:
        decode_tensor(frame, base=base, base_digest=digest, out=out)
    except FrameError as error:
        raise Corrupt(f"a frame in memory does not decode: {error}") from error
