"""What the catalogue keeps of a manifest so that reports can say where bytes go without reading it:
the formats of files, and which chunks are whose."""

from __future__ import annotations

from collections import defaultdict

from ....store.catalogue.tables.rows import FileRow
from ..file_kinds import kind_of
from .entries import FileEntry
from .manifest import Manifest
from .segments import Bundle, Literal, Segment, Tensor

TENSOR = 1
"""The bit of commit_chunks.uses that says that a tensor has the chunk."""


def file_row(entry: FileEntry) -> FileRow:
    """Returns what the catalogue keeps of a file."""
    tensors = list(entry.tensors)
    return FileRow(
        entry.path,
        entry.size,
        entry.digest,
        entry.recipe(),
        len(tensors),
        kind_of(entry.path).number,
        sum(tensor.size for tensor in tensors),
        sum(segment.size for segment in entry.segments if isinstance(segment, Literal)),
    )


def chunk_uses(manifest: Manifest) -> dict[bytes, int]:
    """Returns the digests of a manifest's chunks with the bits that commit_chunks.uses has."""
    uses: defaultdict[bytes, int] = defaultdict(int)
    for entry in manifest.files:
        form = 1 << kind_of(entry.path).number
        for segment in entry.segments:
            if not isinstance(segment, Literal):
                for digest in segment.chunks:
                    uses[digest] |= form | _kind(segment)
    return dict(uses)


def _kind(segment: Segment) -> int:
    return TENSOR if isinstance(segment, Tensor | Bundle) else 0
