"""Where the chunks of a file lie: finds those of a range without going through all of them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

from ..model.files.entries import ChunkUse, FileEntry
from ..model.files.segments import Literal
from .chunk_reader import Slice
from .file_assembly import Part


class FileLayout:
    """The chunks and literal bytes of a file whose segments are cut at `chunk_bytes`, in order.

    For those who read many parts of one file: `file_parts` takes as long as the file has segments.
    """

    def __init__(self, entry: FileEntry, chunk_bytes: int) -> None:
        uses = entry.chunks(chunk_bytes)
        self._ends: list[int] = []
        self._pieces: list[bytes | ChunkUse] = []
        offset = 0
        for segment in entry.segments:
            if isinstance(segment, Literal):
                self._add(segment.data, offset + segment.size)
            else:
                for use in (next(uses) for _ in segment.chunks):
                    self._add(use, use.offset + use.size)
            offset += segment.size

    def _add(self, piece: bytes | ChunkUse, end: int) -> None:
        self._pieces.append(piece)
        self._ends.append(end)

    def parts(self, start: int, stop: int) -> Iterator[Part]:
        """Yields what covers the bytes [start, stop), as file_parts does."""
        for number in range(bisect_right(self._ends, start), len(self._ends)):
            piece, end = self._pieces[number], self._ends[number]
            size = len(piece) if isinstance(piece, bytes) else piece.size
            begin = end - size
            if begin >= stop:
                return
            first, last = max(start - begin, 0), min(stop - begin, size)
            if first < last:
                yield piece[first:last] if isinstance(piece, bytes) else Slice(piece, first, last)
