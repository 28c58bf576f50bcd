"""Goes on reading frames where a connection broke."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ..errors import Unreachable

# Connections that break one after the other without a frame between are no accident.
_ATTEMPTS = 3


def read_on(
    read: Callable[[Sequence[bytes]], Iterator[bytes]], digests: Sequence[bytes]
) -> Iterator[bytes]:
    """Yields what `read` gives for `digests`, one frame each; asks for the rest where it breaks off
    after some. Raises Unreachable where it does so again and again."""
    left, attempts = list(digests), _ATTEMPTS
    while left:
        attempts -= 1
        try:
            for frame in read(tuple(left)):
                del left[0]
                attempts = _ATTEMPTS
                yield frame
        except Unreachable:
            if not attempts:
                raise
