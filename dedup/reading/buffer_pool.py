"""Memory for whole chunks that is used again as soon as nobody refers to it.

What is as large as a chunk is new memory every time, in C's library too: without this, encoding one
of 32 MiB on two threads takes 11.1 ms instead of 7.6, decoding and hashing 8.2 instead of 5.4. It
matters where there is little else to do: a server sends files that it keeps raw, or coded, at
1.3 GB/s where it came to 0.7, or 1.1 (`benchmarks/serving/hub.py`). Push, pull and scrub take as
long as ever.

Nothing is ever given back by hand: a view of a room, or of any part of it, in a cache or on its way
to a socket, keeps it from being used again, and letting go of the last one frees it.
"""

from __future__ import annotations

import weakref
from collections import deque

import numpy as np
from numpy.typing import NDArray

from ...codecs.frame import frame_room
from ..model.files.segments import CHUNK_BYTES

BUFFER_BYTES = frame_room(CHUNK_BYTES)
"""Holds a chunk, or its frame while that is being made."""

LEAST_BYTES = BUFFER_BYTES // 2
"""What is smaller gets memory of its own length: a room keeps all its pages however little of it
is used, and C's library uses such memory again itself."""

SPARE_BUFFERS = 2
"""A chunk and its frame: what a push lets go of before it takes the next ones."""


class BufferPool:
    """Provides memory; safe to use from several threads, and to be let go of in any."""

    def __init__(self, spare_rooms: int = SPARE_BUFFERS) -> None:
        self._limit = spare_rooms
        # Atomic operations alone: a room may be let go of in the midst of any of them.
        self._spare: deque[NDArray[np.uint8]] = deque()

    def take(self, size: int) -> NDArray[np.uint8]:
        """Returns (size,) uint8, uninitialised, that nobody else refers to."""
        if not LEAST_BYTES <= size <= BUFFER_BYTES:
            return np.empty(size, np.uint8)
        try:
            memory = self._spare.pop()
        except IndexError:
            memory = np.empty(BUFFER_BYTES, np.uint8)
        # What is cut from this array refers to it, and not to what lies behind the memoryview.
        room = np.frombuffer(memory.data, np.uint8, size)
        weakref.finalize(room, self._keep, memory).atexit = False
        return room

    def _keep(self, memory: NDArray[np.uint8]) -> None:
        if len(self._spare) < self._limit:
            self._spare.append(memory)


BUFFERS = BufferPool()
"""Those of this process."""
