"""What we keep of a xorb for as long as clients may refer to it: the hashes and sizes of its
chunks (FORMAT.md, "Xorbs")."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from itertools import accumulate

from ..errors import Corrupt
from .hashes import HASH_BYTES, format_hash, hash_chunk, hash_xorb

_ENTRY = struct.Struct("<32sI")


class XorbIndex:
    """The chunks of a xorb in order; `ends` are the offsets at which they end, in raw bytes."""

    __slots__ = ("_hashes", "ends", "hash")

    def __init__(self, digest: bytes, chunks: Sequence[tuple[bytes, int]]) -> None:
        self.hash = digest
        self.ends = list(accumulate(size for _, size in chunks))
        self._hashes = b"".join(chunk for chunk, _ in chunks)

    def __len__(self) -> int:
        return len(self.ends)

    @property
    def size(self) -> int:
        """Raw bytes of all chunks."""
        return self.ends[-1]

    def offset(self, chunk: int) -> int:
        """Returns where a chunk begins, or where the last one ends."""
        return self.ends[chunk - 1] if chunk else 0

    def hashes(self, first: int, stop: int) -> bytes:
        """Returns the hashes of the chunks [first, stop), back to back."""
        return self._hashes[first * HASH_BYTES : stop * HASH_BYTES]

    def chunks(self, first: int = 0, stop: int | None = None) -> Iterator[tuple[bytes, int]]:
        """Yields the hash and the raw bytes of the chunks [first, stop)."""
        for i in range(first, len(self) if stop is None else stop):
            yield self.hashes(i, i + 1), self.ends[i] - self.offset(i)

    def matches(self, chunk: int, data: bytes | bytearray | memoryview) -> bool:
        """Says whether `data` are the raw bytes of a chunk."""
        return hash_chunk(data) == self.hashes(chunk, chunk + 1)


def pack_index(index: XorbIndex) -> bytes:
    """Returns the bytes that are stored."""
    return b"".join(_ENTRY.pack(digest, size) for digest, size in index.chunks())


def parse_index(digest: bytes, data: bytes) -> XorbIndex:
    """Reads the index of the xorb `digest`. Raises Corrupt unless it hashes to that."""
    if not data or len(data) % _ENTRY.size:
        raise Corrupt(f"the index of xorb {format_hash(digest)} has {len(data)} bytes")
    chunks = list(_ENTRY.iter_unpack(data))
    if hash_xorb(chunks) != digest:
        raise Corrupt(f"the index of xorb {format_hash(digest)} is damaged")
    return XorbIndex(digest, chunks)
