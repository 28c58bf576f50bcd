"""Bounds how many long downloads are decoded at once, and so the memory that they take."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import BoundedSemaphore

from ..dedup.chunks import Buffer
from .errors import Busy

# A download holds a chunk of 32 MiB decoded and the frames of two: at most 100 MiB.
AT_ONCE = 16
# Below this a download is over before it counts.
_SHORT_BYTES = 4 << 20
# Clients give up on an answer that has not begun after 10 s.
_WAIT_SECONDS = 8.0


class Readers:
    """Lets `at_once` long downloads through; others wait for a while and are then turned away."""

    def __init__(self, at_once: int = AT_ONCE, wait_seconds: float = _WAIT_SECONDS) -> None:
        self._slots = BoundedSemaphore(at_once)
        self._wait_seconds = wait_seconds

    def read(self, size: int, start: Callable[[], Iterator[Buffer]]) -> Iterator[Buffer]:
        """Yields the `size` bytes that `start` yields; holds a slot until they are out or the
        iterator is closed. Raises Busy at the first piece if there is none."""
        if size < _SHORT_BYTES:
            yield from start()
            return
        if not self._slots.acquire(timeout=self._wait_seconds):
            raise Busy("too many downloads at once", "try again in a moment")
        try:
            yield from start()
        finally:
            self._slots.release()
