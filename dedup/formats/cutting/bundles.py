"""Puts small tensors that lie side by side together, to be stored as one chunk.

What a chunk costs besides its frame's content does not shrink with it: 64 bytes of frame header, 33
in the pack's index, 39 in the manifest, 13 % of a tensor of 1 KiB, and from 4 KiB on a sketch.
Where a few small tensors lie between large ones, as in transformers, that is nothing, and each of
them is found again in any other file. Models that consist of thousands would grow by half.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

import xxhash

from ...model.files.segments import Bundle, Literal, Segment, Tensor, tensor_bytes

# A chunk of its own costs a tensor of this size 4 %.
SMALL_BYTES = 16 << 10

# Runs of fewer stay apart: those of MiniLM and llama models have up to three tensors, so that what
# such models share with other formats and shards is found tensor by tensor. (Where a shard gets
# every other tensor, and so all of the small ones, they are stored again: 93 KB of 74 MB.)
LEAST_TENSORS = 16

# What a bundle has on average; its own costs are 0.6 % of that.
_AIM_BYTES = 128 << 10
# A range of one tensor reads the bundle.
_MOST_BYTES = 1 << 20


# Among literals, as in archives, a chunk of its own costs 200 bytes, and a tensor of floats that is
# coded with what lies between, as bytes, an eighth of it.
TINY_BYTES = 1 << 10
_SCATTERED_AIM_BYTES = 256 << 10
_MOST_SCATTERED_BYTES = 512 << 10


def bundle_small(segments: list[Segment], chunk_bytes: int) -> list[Segment]:
    """Returns the segments of a file with long runs of small tensors put together in bundles, each
    of at most `chunk_bytes`."""
    most = min(_MOST_BYTES, chunk_bytes)
    found: list[Segment] = []
    for small, run in groupby(_bundle_scattered(segments, chunk_bytes), key=_small_dtype):
        listed = list(run)
        if small is None or len(listed) < LEAST_TENSORS:
            found += listed
        else:
            found += (Bundle(tuple(part)) for part in _cut([*_tensors(listed)], most))
    return found


def _bundle_scattered(segments: list[Segment], chunk_bytes: int) -> Iterator[Segment]:
    """Yields the segments with long runs of tiny tensors, of any dtype, that have literals between
    them put together in bundles with what lies between."""
    for tiny, run in groupby(segments, key=_is_tiny):
        listed = list(run)
        tensors = sum(isinstance(segment, Tensor) for segment in listed)
        if tiny and LEAST_TENSORS <= tensors <= 2 * (len(listed) - tensors):
            yield from _cut_scattered(listed, min(_MOST_SCATTERED_BYTES, chunk_bytes))
        else:
            yield from listed


def _is_tiny(segment: Segment) -> bool:
    if isinstance(segment, Literal):
        return True
    return segment.size < TINY_BYTES and _small_dtype(segment) is not None


def _cut_scattered(run: list[Segment], most: int) -> Iterator[Bundle | Literal]:
    """Cuts a run where what lies before a tensor says so: in archives it has the member's name.
    What comes before the first tensor stays as it is."""
    tensors: list[Tensor] = []
    gaps, size, before = [0], 0, b""
    for segment in run:
        starts = isinstance(segment, Tensor) and begins_bundle(
            before, segment.size + len(before), _SCATTERED_AIM_BYTES
        )
        if tensors and (starts or size + segment.size > most):
            yield Bundle(tuple(tensors), gaps=tuple(gaps))
            tensors, gaps, size = [], [0], 0
        if isinstance(segment, Tensor):
            tensors.append(segment)
            gaps.append(0)
            size, before = size + segment.size, b""
        elif isinstance(segment, Literal):
            before += segment.data
            if tensors:
                gaps[-1] += segment.size
                size += segment.size
            else:
                yield segment
    if tensors:
        yield Bundle(tuple(tensors), gaps=tuple(gaps))


def _small_dtype(segment: Segment) -> str | None:
    """The dtype of a tensor that may be bundled with others of it, None for all else."""
    if not isinstance(segment, Tensor) or segment.size >= SMALL_BYTES:
        return None
    return segment.dtype if tensor_bytes(segment.dtype, segment.shape) == segment.size else None


def _tensors(segments: list[Segment]) -> Iterator[Tensor]:
    return (segment for segment in segments if isinstance(segment, Tensor))


def _cut(tensors: list[Tensor], most: int) -> Iterator[list[Tensor]]:
    """Cuts a run. Where depends on the names: tunes of a model are cut as it is, so that deltas
    align, and shards that begin elsewhere have all but their first and last bundle in common."""
    part: list[Tensor] = []
    size = 0
    for tensor in tensors:
        if part and (size + tensor.size > most or begins_bundle(tensor.name.encode(), tensor.size)):
            yield part
            part, size = [], 0
        part.append(tensor)
        size += tensor.size
    yield part


def begins_bundle(name: bytes, size: int, aim_bytes: int = _AIM_BYTES) -> bool:
    """True for one tensor or file in so many that bundles have `aim_bytes` on average."""
    return xxhash.xxh3_64_intdigest(name) * aim_bytes < size << 64
