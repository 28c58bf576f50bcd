"""A file of a revision: its path, its segments, and where tensors and chunks lie in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from blake3 import blake3

from .segments import (
    CHUNK_BYTES,
    Bundle,
    Literal,
    Opaque,
    Segment,
    Share,
    Tensor,
    chunk_sizes,
    coding_facts,
    share_of,
)


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of a revision: path, size in bytes, BLAKE3-256 of its bytes, its segments, and
    whether its owner may execute it."""

    path: str
    size: int
    digest: bytes
    segments: tuple[Segment, ...]
    executable: bool = False

    @property
    def tensors(self) -> Iterator[Tensor]:
        """The file's tensors, in file order."""
        return (place.tensor for place in self.places())

    def places(self) -> Iterator[TensorPlace]:
        """Yields each tensor with its place in the file, in file order."""
        offset = 0
        for segment in self.segments:
            if isinstance(segment, Tensor):
                yield TensorPlace(segment, self.path, offset, segment.chunks, 0)
            elif isinstance(segment, Bundle):
                for tensor, start in segment.places():
                    yield TensorPlace(tensor, self.path, offset + start, segment.chunks, start)
            offset += segment.size

    def chunks(self, chunk_bytes: int = CHUNK_BYTES) -> Iterator[ChunkUse]:
        """Yields each chunk with its place in the file, in file order."""
        offset = 0
        for segment in self.segments:
            if not isinstance(segment, Literal):
                yield from _uses(segment, offset, chunk_bytes)
            offset += segment.size

    def recipe(self) -> bytes:
        """BLAKE3-256 over the file's segments: equal recipes rebuild equal bytes."""
        share = share_of(self.segments)
        if share is not None:
            place = b"%d %d %d " % (share.size, share.start, share.whole)
            return blake3(place + share.chunks[0]).digest()
        if len(self.segments) == 1 and isinstance(only := self.segments[0], Opaque):
            # Most files, a hundred thousand at a time.
            named = "".join(f',"{digest.hex()}"' for digest in only.chunks)
            return blake3(f"[[{only.size}{named}]]".encode()).digest()
        outline = json.dumps([_segment_key(s) for s in self.segments], separators=(",", ":"))
        return blake3(outline.encode()).digest()


@dataclass(frozen=True, slots=True)
class TensorPlace:
    """A tensor, the file it is in, its first byte there, the chunks that hold it, and its first
    byte in these."""

    tensor: Tensor
    path: str
    offset: int
    chunks: tuple[bytes, ...]
    start: int


@dataclass(frozen=True, slots=True)
class ChunkUse:
    """A chunk at a place in a file: digest, first byte in the file, bytes, dtype to code it as,
    and how many elements a row of its tensor has, where it has rows. Of a chunk that files share,
    the first byte lies before the file, at a negative place, unless it is the file's own."""

    digest: bytes
    offset: int
    size: int
    dtype: str
    columns: int | None = None


def _uses(
    segment: Opaque | Tensor | Bundle | Share, offset: int, chunk_bytes: int
) -> Iterator[ChunkUse]:
    if isinstance(segment, Share):
        offset -= segment.start
    dtype, columns = coding_facts(segment)
    sizes = chunk_sizes(segment, chunk_bytes)
    for digest, size in zip(segment.chunks, sizes, strict=True):
        yield ChunkUse(digest, offset, size, dtype, columns)
        offset += size


def _segment_key(segment: Segment) -> list[Any]:
    if isinstance(segment, Literal):
        return [segment.data.hex()]
    return [segment.size, *(d.hex() for d in segment.chunks)]
