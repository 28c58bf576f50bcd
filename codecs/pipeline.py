"""Codes a whole tensor into one frame and back: the way into and out of this package.

    frame = encode_tensor(raw, "BF16")
    assert bytes(decode_tensor(frame)) == raw

Nothing here depends on where a frame is kept; nothing is compiled before the first tensor is coded.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from blake3 import blake3

from . import frame as frames
from .buffers import Bytes, view_bytes
from .dtypes import Dtype, find_dtype
from .errors import CorruptFrame, WrongBase
from .frame import FrameHeader, parse_header
from .pool import join_parts, resolve_threads
from .rows import Rows, base_extent, check_rows

__all__ = ["CODECS", "LEVELS", "decode_range", "decode_tensor", "encode_tensor", "parse_header"]

LEVELS = ("fast", "default", "max")
CODECS = tuple(frames.CODEC_IDS)


def encode_tensor(
    raw: Any,
    dtype: str,
    *,
    base: Any = None,
    level: str = "default",
    codec: str | None = None,
    digest: bytes | None = None,
    base_digest: bytes | None = None,
    rows: Sequence[tuple[int, int, int]] | None = None,
    columns: int | None = None,
    threads: int | None = None,
) -> bytes:
    """Encodes one tensor into a frame, never more than 64 bytes longer than the tensor.

    ``raw``: the tensor's bytes, any C-contiguous buffer. ``dtype``: its safetensors name; opaque
    bytes are "U8". A length that is no multiple of the element size is allowed. ``base``: a
    tensor of the same length and dtype to store the difference to; a frame that turns out smaller
    without it does not name it, so ask ``parse_header`` for its ``base_digest``. ``rows``: where
    only parts of the tensor stand in the base, which may then have any length: runs of bytes
    (start in the tensor, start in the base, length), ascending in the tensor and apart; all else
    stands alone. ``columns``: elements in a row of the tensor (its last dimension), where known:
    tensors with a base turn out smaller. Short opaque bytes are also tried against a
    dictionary, and against all of the base, whatever ``rows`` says.
    ``level``: "fast", "default" or "max". ``codec``: forces one of ``CODECS`` (the frame is "raw"
    where that one would break the bound, and does without the base where that is of no use to it).
    ``digest``, ``base_digest``: BLAKE3-256 of ``raw`` and ``base``, where the caller already knows
    them. ``threads``: at most that many, None for every core.

    The result depends on the arguments alone: not on ``threads``, and not on the processor.
    Raises ValueError for an unknown dtype, level or codec, and for buffers that do not fit each
    other.
    """
    data, kind, width = view_bytes(raw), find_dtype(dtype), resolve_threads(threads)
    against = None if base is None else view_bytes(base)
    _check_request(data, against, level, codec)
    where = _check_rows(data, against, rows, columns)
    if rows is not None and not where:
        against = None
    digest = _hash(data, width) if digest is None else digest
    packed = None
    if codec in (None, "constant"):
        packed = _encode_constant(data, kind, digest)
    if packed is None and codec not in ("raw", "constant") and data.size:
        delta = None
        if against is not None and codec in (None, *frames.BASE_CODECS):
            delta = against, _hash(against, width) if base_digest is None else base_digest
        small = _encode_texts(data, kind, delta, codec, level, digest)
        if codec not in frames.TEXT_CODECS:
            packed = _encode_blocks(data, kind, delta, where, codec, level, columns, digest, width)
        packed = min([*small, *filter(None, [packed])], key=len, default=None)
    if packed is None:
        packed = frames.pack_flat("raw", kind.name, data.size, digest, data.data)
        packed = join_parts([packed, data], width)
    return packed


def _check_request(data: Bytes, base: Bytes | None, level: str, codec: str | None) -> None:
    if level not in LEVELS:
        raise ValueError(f"unknown level {level!r}; known: {', '.join(LEVELS)}")
    if codec is not None and codec not in CODECS:
        raise ValueError(f"unknown codec {codec!r}; known: {', '.join(CODECS)}")
    if codec in frames.BASE_CODECS and base is None:
        raise ValueError(f"codec {codec!r} needs a base")


def _check_rows(
    data: Bytes,
    base: Bytes | None,
    rows: Sequence[tuple[int, int, int]] | None,
    columns: int | None,
) -> Rows:
    if columns is not None and columns < 1:
        raise ValueError(f"columns must be at least 1, not {columns}")
    if rows is None:
        if base is not None and base.size != data.size:
            raise ValueError(f"the base has {base.size} bytes, the tensor {data.size}")
        return ()
    if base is None:
        raise ValueError("a row map without a base")
    return check_rows(rows, data.size, base.size)


def _encode_blocks(
    data: Bytes,
    dtype: Dtype,
    base: tuple[Bytes, bytes] | None,
    rows: Rows,
    codec: str | None,
    level: str,
    columns: int | None,
    digest: bytes,
    threads: int,
) -> bytes | None:
    from .blocked import encode_blocked

    packed = None
    if base is not None and (codec != "bitx" or rows):
        from .deltas import encode_delta

        packed = encode_delta(data, dtype, base, rows, codec, level, columns or 0, digest, threads)
    if packed is not None:
        return packed
    name = codec if codec == "zstd" or (codec == "bitx" and not rows) else "planes"
    return encode_blocked(data, dtype, base, name, level, digest, threads)


def _encode_texts(
    data: Bytes,
    dtype: Dtype,
    base: tuple[Bytes, bytes] | None,
    codec: str | None,
    level: str,
    digest: bytes,
) -> list[bytes]:
    if dtype.name != "U8":
        return []
    from .texts import encode_texts

    return encode_texts(data, base, codec, level, digest)


def _encode_constant(data: Bytes, dtype: Dtype, digest: bytes) -> bytes | None:
    size = dtype.item_bytes
    # Looking at a little first spares the pass over nearly every tensor.
    for piece in (data[: 256 * size], data):
        if piece.size < size or not np.array_equal(piece[size:], piece[: piece.size - size]):
            return None
    body = data[:size].tobytes()
    return frames.pack_flat("constant", dtype.name, data.size, digest, body) + body


def decode_tensor(
    frame: Any,
    *,
    base: Any = None,
    base_digest: bytes | None = None,
    threads: int | None = None,
    verify: bool = True,
    max_raw_bytes: int | None = None,
) -> memoryview:
    """Decodes a frame into the raw bytes of its tensor, as a memoryview of unsigned bytes.

    ``base``: the tensor that the header's ``base_digest`` names; one that the frame does not need
    is ignored. ``base_digest``: BLAKE3-256 of ``base``, where the caller already knows it.
    ``verify``: also checks the digests of the result and of the base; the checksums of header and
    blocks are always checked.

    ``max_raw_bytes``: refuses a frame of a longer tensor before anything is allocated for it; a
    frame from a stranger may decode to far more than its own length.

    Raises CorruptFrame, UnsupportedFrame or WrongBase.
    """
    width = resolve_threads(threads)
    header = parse_header(view_bytes(frame).data)
    if max_raw_bytes is not None and header.raw_bytes > max_raw_bytes:
        raise CorruptFrame(f"a tensor of {header.raw_bytes} bytes; {max_raw_bytes} are allowed")
    against = _check_base(header, base, base_digest, verify, width)
    out = _decode_span(header, view_bytes(frame), 0, header.raw_bytes, against, width)
    if verify and _hash(out, width) != header.digest:
        raise CorruptFrame("the decoded tensor does not match its digest")
    return out.data


def decode_range(
    frame: Any,
    start: int,
    stop: int,
    *,
    base: Any = None,
    base_digest: bytes | None = None,
    threads: int | None = None,
) -> memoryview:
    """Decodes the raw bytes from ``start`` to ``stop`` alone, reading only the blocks that hold
    them.

    ``base`` is the whole base, checked as by ``decode_tensor``; pass its ``base_digest`` where
    known, or all of it is hashed for every range. Raises ValueError unless 0 <= start <= stop <=
    raw bytes.
    """
    width = resolve_threads(threads)
    header = parse_header(view_bytes(frame).data)
    if not 0 <= start <= stop <= header.raw_bytes:
        raise ValueError(f"range {start}-{stop} does not lie within {header.raw_bytes} bytes")
    against = _check_base(header, base, base_digest, True, width)
    return _decode_span(header, view_bytes(frame), start, stop, against, width).data


def _check_base(
    header: FrameHeader, base: Any, base_digest: bytes | None, verify: bool, threads: int
) -> Bytes | None:
    if header.base_digest is None:
        return None
    if base is None:
        raise WrongBase(f"the frame needs the base {header.base_digest.hex()}")
    against = view_bytes(base)
    if header.base_bytes not in (None, against.size):
        raise WrongBase(f"the base has {against.size} bytes, the tensor {header.raw_bytes}")
    if against.size < base_extent(header.rows):
        raise WrongBase(f"the row map reaches beyond the {against.size} bytes of the base")
    if base_digest is None and verify:
        base_digest = _hash(against, threads)
    if base_digest is not None and base_digest != header.base_digest:
        raise WrongBase(f"the base is {base_digest.hex()}, not {header.base_digest.hex()}")
    return against


def _decode_span(
    header: FrameHeader, frame: Bytes, start: int, stop: int, base: Bytes | None, threads: int
) -> Bytes:
    if header.codec in frames.TEXT_CODECS:
        from .texts import decode_text

        return decode_text(header, frame, base)[start:stop]
    if base is not None:
        from .deltas import decode_delta

        return decode_delta(header, frame, start, stop, base, threads)
    if header.codec in frames.FLAT_CODECS:
        return _decode_flat(header, frame, start, stop)
    from .blocked import decode_blocked

    return decode_blocked(header, frame, start, stop, base, threads)


def _decode_flat(header: FrameHeader, frame: Bytes, start: int, stop: int) -> Bytes:
    body = frame[header.body_offset :]
    if frames.checksum_body(body.data) != header.body_checksum:
        raise CorruptFrame("the body does not match its checksum")
    if header.codec == "raw":
        return body[start:stop].copy()
    shift = start % body.size
    periods = -(-(shift + stop - start) // body.size)
    return np.tile(body, periods)[shift : shift + stop - start]


# Below this, waking other threads takes longer (0.1 ms) than hashing alone.
_HASH_THREADS_BYTES = 1 << 20


def _hash(data: Bytes, threads: int) -> bytes:
    width = threads if data.size >= _HASH_THREADS_BYTES else 1
    return blake3(data.data, max_threads=width).digest()
