"""Codes a whole tensor into one frame and back: the way into and out of this package.

    frame = encode_tensor(raw, "BF16")
    assert bytes(decode_tensor(frame)) == raw

Nothing here depends on where a frame is kept; nothing is compiled before the first tensor is coded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from blake3 import blake3

from . import frame as frames
from .buffers import Bytes, new_memory, view_bytes, view_room
from .dtypes import find_dtype
from .errors import CorruptFrame, WrongBase
from .frame import FrameHeader, frame_room, parse_header
from .registry import CODECS, CODERS, SHORTEST, Frame, Job, load_coder
from .row_map import Rows, base_extent, check_rows
from .threads import join_parts, resolve_threads

__all__ = [
    "CODECS",
    "LEVELS",
    "decode_range",
    "decode_tensor",
    "encode_into",
    "encode_tensor",
    "frame_room",
    "parse_header",
]

LEVELS = ("fast", "default", "max")


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
    depth: int = 1,
) -> bytes:
    """Encodes one tensor into a frame, never more than 64 bytes longer than the tensor.

    ``raw``: the tensor's bytes, any C-contiguous buffer. ``dtype``: its safetensors name; opaque
    bytes are "U8". A length that is no multiple of the element size is allowed. ``base``: a
    tensor of the same length and dtype to store the difference to; a frame that turns out smaller
    without it does not name it, so ask ``parse_header`` for its ``base_digest``. ``rows``: where
    only parts of the tensor stand in the base, which may then have any length: runs of bytes
    (start in the tensor, start in the base, length), ascending in the tensor and apart; all else
    is standalone. ``columns``: elements in a row of the tensor (its last dimension), where known:
    tensors with a base turn out smaller. Short opaque bytes are also tried against a
    dictionary, and against all of the base, whatever ``rows`` says.
    ``level``: "fast", "default" or "max". ``codec``: forces one of ``CODECS`` (the frame is "raw"
    where that one would break the bound, and does without the base where that is of no use to it).
    ``digest``, ``base_digest``: BLAKE3-256 of ``raw`` and ``base``, where the caller already knows
    them. ``threads``: at most that many, None for every core. ``depth``: of the frame, where it
    has a base: one more than that of the base, 1 where that is standalone.

    The result depends on the arguments alone: not on ``threads``, and not on the processor.
    Raises ValueError for an unknown dtype, level or codec, and for buffers that do not fit each
    other.
    """
    options = _Options(base, level, codec, digest, base_digest, rows, columns, threads, depth)
    return bytes(_encode(raw, dtype, None, options))


def encode_into(out: Any, raw: Any, dtype: str, **options: Any) -> memoryview:
    """Encodes like ``encode_tensor``, with the options it has, into memory of the caller; returns
    a view of the part of ``out`` that is the frame.

    ``out``: any writable C-contiguous buffer of ``frame_room(raw bytes)`` or more that shares no
    memory with ``raw`` or ``base``. Beyond the frame, and after an error, it may hold anything.
    Raises ValueError as ``encode_tensor`` does, and for an ``out`` that does not fit.
    """
    return memoryview(_encode(raw, dtype, out, _Options(**options)))


@dataclass(frozen=True, slots=True)
class _Options:
    """What a caller of ``encode_tensor`` may ask for."""

    base: Any = None
    level: str = "default"
    codec: str | None = None
    digest: bytes | None = None
    base_digest: bytes | None = None
    rows: Sequence[tuple[int, int, int]] | None = None
    columns: int | None = None
    threads: int | None = None
    depth: int = 1


def _encode(raw: Any, dtype: str, out: Any, options: _Options) -> Frame:
    """Encodes into ``out``, or into new bytes for None."""
    packed = _encode_at_root(raw, dtype, out, options)
    if options.base is None or options.depth == 1:
        return packed
    frame = packed if isinstance(packed, memoryview) else bytearray(packed)
    frames.set_depth(frame, options.depth)
    return frame if isinstance(frame, memoryview) else bytes(frame)


def _encode_at_root(raw: Any, dtype: str, out: Any, options: _Options) -> Frame:
    data, kind, width = view_bytes(raw), find_dtype(dtype), resolve_threads(options.threads)
    against = None if options.base is None else view_bytes(options.base)
    level, codec = options.level, options.codec
    _check_request(data, against, level, codec)
    where = _check_rows(data, against, options.rows, options.columns)
    room = None if out is None else _check_room(out, data, against)
    if options.rows is not None and not where:
        against = None
    digest = _hash(data, width) if options.digest is None else options.digest
    delta = None
    if against is not None and data.size and (codec is None or CODECS[codec].needs_base):
        known = options.base_digest
        delta = against, _hash(against, width) if known is None else known
    columns = options.columns or 0
    job = Job(data, kind, digest, delta, where, codec, level, columns, width, room)
    packed = _find_smallest(job)
    if packed is None:
        head = frames.pack_flat("raw", kind.name, data.size, digest, data.data)
        return join_parts([head, data], width, room)
    if room is not None and isinstance(packed, bytes):
        return join_parts([packed], width, room)
    return packed


def _find_smallest(job: Job) -> Frame | None:
    """Returns the smallest frame that any coder has for the job; None where none has any."""
    modules = CODERS if job.codec is None else (CODECS[job.codec].module,)
    found: list[Frame] = []
    for module in modules:
        found += load_coder(module).encode(job)
        if found and module == SHORTEST:
            break
    return min(found, key=len, default=None)


def _check_room(out: Any, data: Bytes, base: Bytes | None) -> Bytes:
    room, least = view_room(out, data, base), frame_room(data.size)
    if room.size < least:
        raise ValueError(f"out has {room.size} bytes; a frame of {data.size} needs {least}")
    return room


def _check_request(data: Bytes, base: Bytes | None, level: str, codec: str | None) -> None:
    if level not in LEVELS:
        raise ValueError(f"unknown level {level!r}; known: {', '.join(LEVELS)}")
    if codec is not None and codec not in CODECS:
        raise ValueError(f"unknown codec {codec!r}; known: {', '.join(CODECS)}")
    if codec is not None and CODECS[codec].needs_base and base is None:
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


def decode_tensor(
    frame: Any,
    *,
    base: Any = None,
    base_digest: bytes | None = None,
    threads: int | None = None,
    verify: bool = True,
    max_raw_bytes: int | None = None,
    out: Any = None,
) -> memoryview:
    """Decodes a frame into the raw bytes of its tensor, as a memoryview of unsigned bytes.

    ``base``: the tensor that the header's ``base_digest`` names; one that the frame does not need
    is ignored. ``base_digest``: BLAKE3-256 of ``base``, where the caller already knows it.
    ``verify``: also checks the digests of the result and of the base; the checksums of header and
    blocks are always checked.

    ``max_raw_bytes``: refuses a frame of a longer tensor before anything is allocated for it; a
    frame from a stranger may decode to far more than its own length.

    ``out``: memory of the caller to decode into, any writable C-contiguous buffer of exactly the
    tensor's length that shares none with ``frame`` or ``base``; the result is a view of it. New
    memory has to be handed out and cleared by the system first, which takes a third as long as
    decoding 16-bit floats.

    Raises CorruptFrame, UnsupportedFrame or WrongBase, and ValueError for an ``out`` that does not
    fit. After an error of a frame ``out`` may hold anything.
    """
    width = resolve_threads(threads)
    data = view_bytes(frame)
    header = parse_header(data.data)
    if max_raw_bytes is not None and header.raw_bytes > max_raw_bytes:
        raise CorruptFrame(f"a tensor of {header.raw_bytes} bytes; {max_raw_bytes} are allowed")
    against = _check_base(header, base, base_digest, verify, width)
    room = None if out is None else _find_room(out, header.raw_bytes, data, against)
    raw = _decode_span(header, data, 0, header.raw_bytes, against, width, room)
    if verify and _hash(raw, width) != header.digest:
        raise CorruptFrame("the decoded tensor does not match its digest")
    return raw.data


def decode_range(
    frame: Any,
    start: int,
    stop: int,
    *,
    base: Any = None,
    base_digest: bytes | None = None,
    threads: int | None = None,
    out: Any = None,
) -> memoryview:
    """Decodes the raw bytes from ``start`` to ``stop`` alone, reading only the blocks that hold
    them.

    ``base`` is the whole base, checked as by ``decode_tensor``; pass its ``base_digest`` where
    known, or all of it is hashed for every range. ``out``: as for ``decode_tensor``, of ``stop -
    start`` bytes. Raises ValueError unless 0 <= start <= stop <= raw bytes.
    """
    width = resolve_threads(threads)
    data = view_bytes(frame)
    header = parse_header(data.data)
    if not 0 <= start <= stop <= header.raw_bytes:
        raise ValueError(f"range {start}-{stop} does not lie within {header.raw_bytes} bytes")
    against = _check_base(header, base, base_digest, True, width)
    room = None if out is None else _find_room(out, stop - start, data, against)
    return _decode_span(header, data, start, stop, against, width, room).data


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


def _find_room(out: Any, size: int, frame: Bytes, base: Bytes | None) -> Bytes:
    room = view_room(out, frame, base)
    if room.size != size:
        raise ValueError(f"out has {room.size} bytes; {size} are decoded")
    return room


def _decode_span(
    header: FrameHeader,
    frame: Bytes,
    start: int,
    stop: int,
    base: Bytes | None,
    threads: int,
    out: Bytes | None,
) -> Bytes:
    """Decodes a range into ``out``, or into new memory for None, and returns which."""
    if out is None:
        out = new_memory(stop - start)
    coder = load_coder(CODECS[header.codec].module)
    coder.decode(header, frame, start, base, threads, out)
    return out


# Below this, waking other threads takes longer (0.1 ms) than hashing alone.
_HASH_THREADS_BYTES = 1 << 20


def _hash(data: Bytes, threads: int) -> bytes:
    width = threads if data.size >= _HASH_THREADS_BYTES else 1
    return blake3(data.data, max_threads=width).digest()
