"""What the formats share: bounded reads, parts of files as files, and covering a file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from ..errors import InvalidManifest
from ..model.files.outlines import check_tensor_size
from ..model.files.segments import Segment, Tensor
from .cutting.content_chunks import split_opaque
from .cutting.reader import ReadableFile, Unreadable

# No format has tensors of more dimensions, and no name worth keeping is longer.
MAX_DIMENSIONS = 64
MAX_NAME_CHARACTERS = 1024
_MAX_DTYPE_CHARACTERS = 64


@dataclass(frozen=True, slots=True)
class Member:
    """A file inside a file: its name, its first byte, its bytes there; `plain` are those it has
    once inflated, None for one that is stored as it is."""

    name: str
    start: int
    size: int
    plain: int | None = None


TakeApart = Callable[[str, "ReadableFile", int], "list[Segment]"]
"""Returns the segments of a member of an archive: its name, its bytes as a file, their number."""


def make_tensor(name: str, dtype: str, shape: Iterable[int], size: int) -> Tensor:
    """Returns a tensor of `size` bytes; raises Unreadable where its facts cannot be true."""
    dimensions = tuple(shape)
    # Lone surrogates, which some formats can spell, have no UTF-8.
    name = name[:MAX_NAME_CHARACTERS].encode(errors="replace").decode()
    if len(dimensions) > MAX_DIMENSIONS or not all(0 <= n < 1 << 63 for n in dimensions):
        raise Unreadable(f"tensor {name!r} has no proper shape")
    if not dtype or len(dtype) > _MAX_DTYPE_CHARACTERS or not dtype.isprintable():
        raise Unreadable(f"tensor {name!r} has no proper dtype")
    tensor = Tensor(name, dtype, dimensions, size)
    try:
        check_tensor_size(tensor)
    except InvalidManifest as error:
        raise Unreadable(error.message) from error
    return tensor


def cover(
    file: ReadableFile, size: int, placed: Iterable[tuple[int, list[Segment]]]
) -> list[Segment]:
    """Returns segments that cover all `size` bytes: those placed, and what lies between them.

    `placed`: the first byte of each run of segments, in any order. A run that overlaps one before
    it, lies outside of the file or is empty is left out, and its bytes are opaque.
    """
    segments: list[Segment] = []
    position = 0
    for start, run in _without_overlaps(placed, size):
        segments.extend(split_opaque(file, position, start))
        segments.extend(run)
        position = start + sum(s.size for s in run)
    segments.extend(split_opaque(file, position, size))
    return segments


def _without_overlaps(
    placed: Iterable[tuple[int, list[Segment]]], size: int
) -> Iterator[tuple[int, list[Segment]]]:
    position = 0
    for start, run in sorted(placed, key=lambda place: place[0]):
        end = start + sum(s.size for s in run)
        if position <= start < end <= size:
            yield start, run
            position = end
