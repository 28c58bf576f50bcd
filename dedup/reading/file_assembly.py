"""Puts files back together from their segments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..model.files.entries import ChunkUse, FileEntry
from ..model.files.segments import Literal
from .chunk_reader import Buffer, ChunkReader, Slice

Part = bytes | Slice


def file_parts(
    entry: FileEntry, chunk_bytes: int, start: int = 0, stop: int | None = None
) -> Iterator[Part]:
    """Yields what covers the bytes [start, stop) of a file, in order: literal bytes, slices."""
    end = entry.size if stop is None else stop
    uses = entry.chunks(chunk_bytes)
    offset = 0
    for segment in entry.segments:
        if not isinstance(segment, Literal):
            yield from _overlap(uses, len(segment.chunks), start, end)
        elif start < offset + segment.size and offset < end:
            yield segment.data[max(0, start - offset) : end - offset]
        offset += segment.size


def weave(parts: Iterable[Part], pieces: Iterator[Buffer]) -> Iterator[Buffer]:
    """Yields the parts' bytes; `pieces` are the bytes of their slices, in the same order."""
    for part in parts:
        yield part if isinstance(part, bytes) else next(pieces)


def read_parts(reader: ChunkReader, parts: Iterable[Part]) -> Iterator[Buffer]:
    """Yields the parts' bytes, their slices read and verified by `reader`."""
    listed = list(parts)
    return weave(listed, reader.read_slices(p for p in listed if isinstance(p, Slice)))


def _overlap(uses: Iterator[ChunkUse], count: int, start: int, stop: int) -> Iterator[Slice]:
    for _ in range(count):
        use = next(uses)
        begin, end = max(start - use.offset, 0), min(stop - use.offset, use.size)
        if begin < end:
            yield Slice(use, begin, end)
