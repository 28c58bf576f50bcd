"""Parts of frames: what a reader of few bytes asks for instead of whole ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ...codecs.errors import FrameError
from ...codecs.frame import FrameHeader
from ...codecs.ranges import find_base_extent
from ..errors import Corrupt
from .buffer_pool import BUFFERS
from .timed_codecs import decode_part

Buffer = bytes | bytearray | memoryview

LEAST_BYTES = 2 << 20
"""A chunk that is no longer than this, a block of most frames, is read as a whole."""


@dataclass(frozen=True, slots=True)
class FramePart:
    """The header of a frame, and of its bytes those that the raw bytes [start, stop) need."""

    header: FrameHeader
    data: bytes
    start: int
    stop: int


FetchPart = Callable[[bytes, int, int], FramePart]
"""Returns the part of a chunk's frame for its raw bytes [start, stop). Raises ChunksMissing,
Corrupt."""


def pays(size: int, start: int, stop: int) -> bool:
    """Says whether to read a part of a chunk of `size` bytes alone: who reads most of it does so
    faster with one request, and then has a base at hand for other chunks."""
    return size > LEAST_BYTES and 2 * (stop - start) <= size


def decode_frame_part(part: FramePart, base: Buffer | None) -> Buffer:
    """Returns the raw bytes of a part. Raises Corrupt."""
    try:
        room = BUFFERS.take(part.stop - part.start)
        return decode_part(part.header, part.data, part.start, part.stop, base=base, out=room)
    except FrameError as error:
        digest = part.header.digest.hex()
        raise Corrupt(f"chunk {digest} does not decode: {error}") from error


def decode_base_part(part: FramePart, base: Buffer | None) -> Buffer:
    """Returns memory as long as a base, of which only the part is the base's bytes. The system
    gives no pages for what nobody touches. Raises Corrupt."""
    memory = np.empty(part.header.raw_bytes, np.uint8)
    memory[part.start : part.stop] = decode_frame_part(part, base)
    return memory.data


def base_range(part: FramePart, size: int) -> tuple[int, int]:
    """Returns which bytes of its base, of `size` bytes, a part needs. Raises Corrupt."""
    found = find_base_extent(part.header, part.start, part.stop)
    start, stop = (0, size) if found is None else found
    if not 0 <= start <= stop <= size:
        raise Corrupt(f"chunk {part.header.digest.hex()} needs more than its base has")
    return start, stop
