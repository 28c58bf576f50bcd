"""Cuts opaque bytes into segments by their content, so that what files share is found in both."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ....store.cancel import check_cancelled
from ...model.files.segments import MAX_LITERAL_BYTES, Literal, Opaque, Segment
from .reader import ReadableFile

LEAST_BYTES = 16 * 1024
AVERAGE_BYTES = 64 * 1024
MOST_BYTES = 256 * 1024
"""A chunk costs about 170 bytes in header, index and manifest: 0.3 % of the average. Each change
costs about one and a half chunks."""

# Limits of the hash whose logarithms are two bits of the average's further, as the paper's
# normalised chunking has it.
_RARE = 1 << 46
_FREQUENT = 1 << 50
_BUFFER_BYTES = 4 * 1024 * 1024

INLINE_BYTES = 1536
"""Runs up to this length are kept as literals: a frame of its own, with digest, header and index
entry, costs more than they take in the manifest, which is compressed as a whole. What lies between
tensors is much alike: of MiniLM as HDF5 17 KB are stored at 1,536 where 35 KB were at 256."""


def split_opaque(file: ReadableFile, start: int, stop: int) -> list[Segment]:
    """Returns segments for the bytes [start, stop) of a file: literals where they are few, else
    those of `cut_opaque`."""
    if stop - start <= INLINE_BYTES:
        return list(_inline(file, start, stop - start))
    return cut_opaque(file, start, stop)


def cut_opaque(file: ReadableFile, start: int, stop: int) -> list[Segment]:
    """Returns opaque segments of one content-defined chunk each for the bytes [start, stop)."""
    size = stop - start
    if size <= 0:
        return []
    if size <= LEAST_BYTES:
        return [Opaque(size)]
    return [Opaque(n) for n in _chunk_sizes(file, start, stop)]


def _inline(file: ReadableFile, start: int, size: int) -> Iterator[Segment]:
    file.seek(start)
    data = file.read(max(0, size))
    for at in range(0, len(data), MAX_LITERAL_BYTES):
        yield Literal(data[at : at + MAX_LITERAL_BYTES])


def _chunk_sizes(file: ReadableFile, start: int, stop: int) -> Iterator[int]:
    # Compiling the kernels takes a moment that files without opaque parts need not spend.
    from .gear import cut

    sizes = (LEAST_BYTES, AVERAGE_BYTES, MOST_BYTES)
    while start < stop:
        check_cancelled()
        file.seek(start)
        data = np.frombuffer(file.read(min(_BUFFER_BYTES, stop - start)), np.uint8)
        final = start + data.size >= stop
        cuts = cut(data, sizes, _RARE, _FREQUENT, final=final)
        if not cuts.size:
            # The file became shorter meanwhile, which whoever hashes it finds out.
            yield stop - start
            return
        yield from np.diff(cuts, prepend=0).tolist()
        start += int(cuts[-1])
