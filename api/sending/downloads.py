"""What downloads hold of the server: slots to decode in, and memory, while their clients read.

A piece is decoded in a worker thread, within a slot; then it waits for its client without either.
What waits is only kept while there is room for it. The download whose client has read nothing for
longest gives its memory up first, and decodes again from where it stands when its client reads on:
so clients that read slowly make only themselves slower, and nobody is refused.
"""

from __future__ import annotations

import asyncio
import math
import os
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator

from anyio import CancelScope, CapacityLimiter, to_thread

from ...dedup.errors import Corrupt
from ...dedup.model.files.segments import CHUNK_BYTES
from ...dedup.reading.chunk_reader import Buffer
from ..requests.slots import Slots

AT_ONCE = max(4, os.cpu_count() or 1)
"""Pieces that are made at once, by half as many for one client at most: they share the cores."""

# A chunk, or the frame of one.
_PIECE_BYTES = CHUNK_BYTES + (1 << 20)
# What a download holds that is read chunk by chunk: one decoded, its frame, the next one's.
_COPIES = 3
# Where there is no room for that, so many bytes are decoded at a time, and nothing else is held.
_WINDOW_BYTES = 4 << 20
# What a client gets first that has not read anything yet, and may never do.
_FIRST_BYTES = 1 << 20

_SHORT = "a file ended before its end"

Read = Callable[[int, int], Iterator[Buffer]]


class Source:
    """The bytes [first, stop) of something, made by `read`, which may be called for any part.

    `stop` is None where the end is not known ahead: `read` then goes on to it, whatever it is told.
    """

    def __init__(self, read: Read, first: int, stop: int | None) -> None:
        self._read = read
        self._first = self._at = first
        self._stop = stop
        self._pieces: Iterator[Buffer] | None = None
        self._piece = memoryview(b"")
        self._end = stop
        self.done = first == stop
        self.busy = False

    @property
    def ready(self) -> bool:
        """Whether there are bytes to be sent."""
        return bool(self._piece)

    def left(self) -> int:
        """Returns how many bytes are still to come, at most a chunk's and a little."""
        return _PIECE_BYTES if self._stop is None else min(_PIECE_BYTES, self._stop - self._at)

    def choose_window(self, room: int) -> tuple[int | None, int]:
        """Returns how many bytes are to be made together, None for a piece after another, and how
        much memory is held for that, given that there is `room`."""
        whole, left = _COPIES * self.left(), self.left()
        if self._stop is None:
            return None, whole
        if left <= _WINDOW_BYTES:
            return left, left
        if self._at == self._first:
            return _FIRST_BYTES, _FIRST_BYTES
        return (None, whole) if whole <= room else (_WINDOW_BYTES, _WINDOW_BYTES)

    def advance(self, window: int | None) -> None:
        """Makes the next piece, in a worker thread; `window` as `choose_window` returns it. Raises
        what `read` raises."""
        if window is not None and self._stop is not None:
            self._end = min(self._stop, self._at + window)
            self._make_window(self._end)
            return
        if self._pieces is None:
            self._end = self._stop
            self._pieces = self._read(self._at, self._end or 0)
        piece = next(self._pieces, None)
        while piece is not None and not len(piece):
            piece = next(self._pieces, None)
        if piece is not None:
            self._piece = memoryview(piece).cast("B")[: self.left()]
        elif self._stop is None:
            self.done = True
        else:
            raise Corrupt(_SHORT)

    def _make_window(self, end: int) -> None:
        """Reads all up to `end` and keeps nothing else: what reads holds whole frames."""
        pieces, made, size = self._read(self._at, end), bytearray(), end - self._at
        try:
            while len(made) < size:
                piece = next(pieces, None)
                if piece is None:
                    raise Corrupt(_SHORT)
                made += piece
        finally:
            _close(pieces)
        self._piece = memoryview(made)[:size]

    def take(self, size: int) -> memoryview:
        """Returns up to `size` bytes and goes on behind them; none if they were dropped."""
        part = self._piece[:size]
        self._piece = self._piece[size:]
        self._at += len(part)
        self.done = self.done or self._at == self._stop
        return part

    @property
    def exhausted(self) -> bool:
        """Whether what was asked of `read` is sent."""
        return not self._piece and self._at == self._end

    def drop(self) -> Iterator[Buffer] | None:
        """Forgets what is made and not sent; returns what the caller has to close, in a thread."""
        pieces, self._pieces = self._pieces, None
        self._piece = memoryview(b"")
        return pieces


class Downloads:
    """All downloads of a server; what they hold together is at most `limit_bytes` and what the
    `at_once` that are being decoded need. For one event loop."""

    def __init__(self, limit_bytes: int, at_once: int = AT_ONCE) -> None:
        self._limit = limit_bytes
        self._slots = Slots(
            at_once, waiting=sys.maxsize, waiting_each=sys.maxsize, wait_seconds=math.inf
        )
        self._threads = CapacityLimiter(at_once)
        # Others, so that whoever ends takes no turn from whoever reads.
        self._closers = CapacityLimiter(at_once)
        # By the time that their clients read something: those who did longest ago come first.
        self._held: OrderedDict[Source, int] = OrderedDict()
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def held_bytes(self) -> int:
        """How much memory all downloads are counted with."""
        return sum(self._held.values())

    async def advance(self, source: Source, client: str) -> None:
        """Makes the next piece of a download, unless there is one, once its client has a slot."""
        if source.ready:
            return
        async with self._slots.taken(client):
            if source.exhausted:
                self._let_go(source)
            window = self._reserve(source)
            source.busy = True
            try:
                await to_thread.run_sync(source.advance, window, limiter=self._threads)
            finally:
                source.busy = False

    def note_read(self, source: Source) -> None:
        """Notes that a client has read what was sent so far."""
        if source in self._held:
            self._held.move_to_end(source)

    async def end(self, source: Source) -> None:
        """Ends a download, whole or broken off; returns when nothing of it is left."""
        self._held.pop(source, None)
        pieces = source.drop()
        # Closing may wait for a read under way, and has to happen though a disconnect has
        # cancelled this task.
        if pieces is None:
            return
        with CancelScope(shield=True):
            await to_thread.run_sync(_close, pieces, limiter=self._closers)

    def _reserve(self, source: Source) -> int | None:
        """Counts a download that is to hold memory; returns how many bytes it is to make together,
        None for a piece after another."""
        if source in self._held:
            self._held.move_to_end(source)
            return None
        window, wanted = source.choose_window(self._limit - self.held_bytes)
        for other in [each for each in self._held if not each.busy]:
            if self.held_bytes + wanted <= self._limit:
                break
            self._let_go(other)
        self._held[source] = wanted
        return window

    def _let_go(self, source: Source) -> None:
        """Drops what a download holds; it begins again where it stands."""
        self._held.pop(source, None)
        pieces = source.drop()
        if pieces is not None:
            closing = asyncio.ensure_future(
                to_thread.run_sync(_close, pieces, limiter=self._closers)
            )
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)


def _close(pieces: Iterator[Buffer]) -> None:
    close = getattr(pieces, "close", None)
    if close is not None:
        close()
