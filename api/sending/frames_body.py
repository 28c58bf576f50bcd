"""The body of an answer with frames, from any place in it that was reached before."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence

from blake3 import blake3

from ...dedup.errors import Conflict
from ...dedup.reading.chunk_reader import Buffer
from ..protocol.wire import pack_length


class FramesBody:
    """The frames of `digests`, each after its length (wire.py), as `fetch` yields them.

    Chunks may be re-encoded while a client reads slowly. So of the frame that is sent in parts its
    hash is kept: the rest of another frame is never sent as the rest of that one.
    """

    def __init__(
        self, fetch: Callable[[Sequence[bytes]], Iterator[bytes]], digests: Sequence[bytes]
    ) -> None:
        self._fetch = fetch
        self._digests = digests
        # Where each frame begins, as far as that is known.
        self._starts = [0]
        self._newest = b""

    def read(self, first: int, _stop: int) -> Iterator[Buffer]:
        """Yields the bytes from `first` on. Raises Conflict if the frame there is another now."""
        index = bisect_right(self._starts, first) - 1
        skip = first - self._starts[index]
        if index == len(self._digests):
            return
        for number, frame in enumerate(self._fetch(self._digests[index:]), index):
            head = pack_length(frame)
            self._note(number, frame, len(head) + len(frame))
            yield memoryview(head)[skip:]
            yield memoryview(frame)[max(0, skip - len(head)) :]
            skip = 0

    def _note(self, number: int, frame: bytes, size: int) -> None:
        found = blake3(frame).digest()
        if number == len(self._starts) - 1:
            self._starts.append(self._starts[number] + size)
            self._newest = found
        elif found != self._newest:
            raise Conflict("a chunk was re-encoded while it was sent", "ask for it again")
