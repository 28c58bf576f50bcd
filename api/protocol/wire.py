"""What server and client must agree on: header names, limits, and how frames travel in a body.

A frames body is, for each frame, its length as unsigned 64-bit little-endian integer and then its
bytes; nothing follows the last one. Whoever reads it knows how many frames it asked for, so a body
that ends early is seen.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from ...dedup.errors import Unreachable
from ...dedup.model.files.segments import CHUNK_BYTES

VERSION_HEADER = "X-Weightvault-Version"
COMMIT_HEADER = "X-Weightvault-Commit"
COMMIT_ID_HEADER = "X-Weightvault-Commit-Id"
DTYPE_HEADER = "X-Weightvault-Dtype"
SHAPE_HEADER = "X-Weightvault-Shape"

MAX_DIGESTS = 10_000
"""Digests in one request: 640 KB of JSON, and one second of catalogue work at most."""

MAX_OFFERS = 4
"""Chunks that a client offers as bases of one that it asks for."""

MAX_SKETCHES = 500
"""Sketches in one request: up to 1,200 characters each, and half a second of catalogue work."""

REPOS_A_PAGE = 1000
"""Repos in one answer, at most, where pages are asked for."""

MAX_JSON_BODY_BYTES = 1 << 20
"""Bytes of one JSON body: MAX_DIGESTS of them and their punctuation."""

MAX_PACK_BYTES = 1 << 30
"""Bytes of one pack; packs are cut at about 64 MiB."""

MAX_MANIFEST_BODY_BYTES = 1 << 26
"""Bytes of one manifest body: enough for two million chunks, and read into memory as a whole."""

# A frame never takes more than its chunk and a header; a chunk never more than CHUNK_BYTES.
MAX_FRAME_BYTES = CHUNK_BYTES + (1 << 20)

BROKEN_OFF_HINT = "run the command again: what is complete is kept"

_LENGTH = struct.Struct("<Q")


def pack_length(frame: bytes) -> bytes:
    """Returns what goes before a frame in a frames body."""
    return _LENGTH.pack(len(frame))


def split_frames(pieces: Iterator[bytes], count: int) -> Iterator[bytes]:
    """Yields the `count` frames of a body that arrives as `pieces` of any length.

    Raises Unreachable when the body ends early, goes on after the last frame, or announces a
    frame longer than MAX_FRAME_BYTES; nothing is allocated by an announced length before that.
    """
    reader = _Reader(pieces)
    for _ in range(count):
        (length,) = _LENGTH.unpack(reader.take(_LENGTH.size))
        if length > MAX_FRAME_BYTES:
            raise Unreachable(
                f"the server announced a frame of {length} bytes; none exceeds {MAX_FRAME_BYTES}",
                "the address may lead to another service or another version of weightvault",
            )
        yield reader.take(length)
    if reader.has_more():
        raise Unreachable("the server sent more frames than it was asked for")


class _Reader:
    """Cuts a stream of pieces into the lengths asked for, holding one piece too many at most."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._held = bytearray()

    def take(self, length: int) -> bytes:
        while len(self._held) < length:
            piece = next(self._pieces, None)
            if piece is None:
                raise Unreachable(
                    "the server broke off in the middle of a download",
                    BROKEN_OFF_HINT,
                )
            self._held += piece
        taken = bytes(memoryview(self._held)[:length])
        del self._held[:length]
        return taken

    def has_more(self) -> bool:
        return bool(self._held) or any(self._pieces)
