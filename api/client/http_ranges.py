"""Ranges of files from a server, over as many connections as it takes."""

from __future__ import annotations

from collections.abc import Iterator

from ...dedup.errors import Unreachable
from .transport import Transport

# Connections that break one after the other without a byte between are no accident.
_ATTEMPTS = 3


def read_range(
    transport: Transport, address: str, revision: str, start: int, stop: int
) -> Iterator[bytes]:
    """Yields the bytes [start, stop) of the file at `address`: exactly so many. Raises Unreachable
    where the server gives fewer or more, and where it breaks off again and again.

    `revision` should be the id of a commit, as a branch may move between two connections.
    """
    attempts = _ATTEMPTS
    while start < stop:
        attempts -= 1
        try:
            for piece in _read_once(transport, address, revision, start, stop):
                start += len(piece)
                attempts = _ATTEMPTS
                yield piece
        except Unreachable:
            if not attempts:
                raise


def _read_once(
    transport: Transport, address: str, revision: str, start: int, stop: int
) -> Iterator[bytes]:
    params, headers = {"revision": revision}, {"Range": f"bytes={start}-{stop - 1}"}
    left = stop - start
    with transport.stream("GET", address, params=params, headers=headers) as pieces:
        for piece in pieces:
            left -= len(piece)
            if left < 0:
                raise Unreachable(f"the server at {transport.url} gives more than was asked for")
            yield piece
    if left:
        raise Unreachable(f"the server at {transport.url} gives {left} bytes too few")
