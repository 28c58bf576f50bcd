"""Decodes a part of a tensor from a part of its frame, and says which part that takes.

    header = parse_header(front, frame_bytes)
    first, last = find_extent(header, start, stop)
    raw = decode_part(header, frame[first:last], start, stop)

Frames of blocks are read block by block. A raw frame has one checksum for all of it: whoever has
read it once can have the checksums of its pieces (`index_raw`), and from then on reads those alone.
"""

from dataclasses import replace
from struct import Struct
from typing import Any

from xxhash import xxh3_64

from .buffers import Bytes, new_memory, view_bytes, view_room
from .errors import CorruptFrame, WrongBase
from .frame import FrameHeader, checksum_block
from .registry import CODECS, load_coder
from .row_map import base_extent, cut_parts
from .threads import resolve_threads

PIECE_BYTES = 1 << 18
"""What is read and checked together of a raw frame: the table of one of 32 MiB takes 1 KiB."""

_ENTRY = Struct("<II")


def index_raw(header: FrameHeader, body: Any) -> FrameHeader:
    """Returns the header of a raw frame with a table of its pieces, as if they were blocks.

    ``body``: all of the frame behind its header. Raises CorruptFrame where that does not match its
    checksum.
    """
    data, whole, table = view_bytes(body), xxh3_64(), bytearray()
    for at in range(0, data.size, PIECE_BYTES):
        # Both while the piece is in the cache of a core.
        piece = data[at : at + PIECE_BYTES].data
        whole.update(piece)
        table += _ENTRY.pack(len(piece), checksum_block(piece))
    if whole.intdigest() != header.body_checksum:
        raise CorruptFrame("the body does not match its checksum")
    return replace(header, block_bytes=PIECE_BYTES, block_table=bytes(table))


def find_extent(header: FrameHeader, start: int, stop: int) -> tuple[int, int]:
    """Returns the bytes of a frame, first and behind the last, that ``decode_part`` needs for the
    raw bytes from ``start`` to ``stop``."""
    if not header.block_bytes:
        return header.body_offset, header.frame_bytes
    spans = list(header.spans(start, stop))
    if not spans:
        return header.body_offset, header.body_offset
    return spans[0].offset, spans[-1].offset + spans[-1].stored_bytes


def find_base_extent(header: FrameHeader, start: int, stop: int) -> tuple[int, int] | None:
    """Returns the bytes of the base, first and behind the last, that ``decode_part`` needs for the
    raw bytes from ``start`` to ``stop``: of whole blocks. None where that is all of the base."""
    if CODECS[header.codec].any_base:
        return None
    if header.block_bytes:
        start -= start % header.block_bytes
        stop = min(stop + -stop % header.block_bytes, header.raw_bytes)
    where = header.rows or ((0, 0, header.raw_bytes),)
    found = [
        (part.base_start, part.base_start + part.stop - part.start)
        for part in cut_parts(where, start, stop)
        if part.base_start is not None
    ]
    firsts, lasts = [first for first, _ in found], [last for _, last in found]
    return min(firsts, default=0), max(lasts, default=0)


def decode_part(
    header: FrameHeader,
    part: Any,
    start: int,
    stop: int,
    *,
    base: Any = None,
    threads: int | None = None,
    out: Any = None,
) -> memoryview:
    """Decodes the raw bytes from ``start`` to ``stop``, checked as by ``pipeline.decode_range``.

    ``part``: the bytes of the frame that ``find_extent`` names. ``base``: memory as long as the
    base, of which only what ``find_base_extent`` names need be the base's bytes; who calls knows
    that they are. ``out``: memory of ``stop - start`` bytes that shares none with these.
    Raises CorruptFrame, UnsupportedFrame or WrongBase.
    """
    data = view_bytes(part)
    first, last = find_extent(header, start, stop)
    if data.size != last - first:
        raise CorruptFrame(f"{data.size} bytes of a frame instead of {last - first}")
    against = None if base is None else view_bytes(base)
    _check_length(header, against)
    room = new_memory(stop - start) if out is None else view_room(out, data, against)
    moved = replace(header, body_offset=header.body_offset - first)
    coder = load_coder(CODECS[header.codec].module)
    coder.decode(moved, data, start, against, resolve_threads(threads), room)
    return room.data


def _check_length(header: FrameHeader, base: Bytes | None) -> None:
    if header.base_digest is None:
        return
    if base is None:
        raise WrongBase(f"the frame needs the base {header.base_digest.hex()}")
    if header.base_bytes not in (None, base.size) or base.size < base_extent(header.rows):
        raise WrongBase(f"a base of {base.size} bytes does not fit the frame")
