"""Takes safetensors files apart: the header as opaque bytes, then each tensor.

Layout: a u64 little-endian header length, the header (JSON), then the tensors' bytes, which the
header places by offsets relative to its end. Source: the format description in the safetensors
project's README.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from ..errors import InvalidFile, InvalidManifest
from ..model.files.outlines import check_tensor_size
from ..model.files.segments import Opaque, Segment, Tensor
from .cutting.reader import ReadableFile

# The limit of the reference implementation.
MAX_HEADER_BYTES = 100_000_000
MAX_DIMENSIONS = 64
_LENGTH_BYTES = 8


def recognise(_name: str, head: bytes) -> bool:
    """Says whether a file that starts with `head` may be a safetensors file, whatever its name."""
    length = int.from_bytes(head[:_LENGTH_BYTES], "little")
    # Writers pad the header behind its JSON, never before it.
    return 2 <= length <= MAX_HEADER_BYTES and head[_LENGTH_BYTES : _LENGTH_BYTES + 1] == b"{"


def segment(file: ReadableFile, size: int) -> list[Segment]:
    """Returns the segments of a safetensors file of `size` bytes.

    Bytes that no tensor claims become opaque segments. Raises InvalidFile where the file breaks
    the format: cut short, a header longer than the file, not JSON, a tensor named twice, tensors
    that overlap or lie outside of the file, sizes that do not match their shapes.
    """
    header = _read_header(file, size)
    data_start = _LENGTH_BYTES + len(header)
    segments: list[Segment] = [Opaque(data_start)]
    position = data_start
    for begin, tensor in _place_tensors(header, size - data_start):
        gap = data_start + begin - position
        if gap < 0:
            raise InvalidFile(f"tensor {tensor.name!r} overlaps the one before it")
        if gap:
            segments.append(Opaque(gap))
        segments.append(tensor)
        position += gap + tensor.size
    if position < size:
        segments.append(Opaque(size - position))
    return segments


def _read_header(file: ReadableFile, size: int) -> bytes:
    file.seek(0)
    length_bytes = file.read(_LENGTH_BYTES)
    if len(length_bytes) < _LENGTH_BYTES:
        raise InvalidFile(f"{size} bytes are too few for a safetensors file")
    length = int.from_bytes(length_bytes, "little")
    if length > MAX_HEADER_BYTES:
        raise InvalidFile(f"header length of {length} bytes; at most {MAX_HEADER_BYTES} allowed")
    if length > size - _LENGTH_BYTES:
        raise InvalidFile(
            f"header of {length} bytes in a file of {size}: it was cut short or is something else"
        )
    return file.read(length)


def _place_tensors(header: bytes, data_bytes: int) -> list[tuple[int, Tensor]]:
    """Returns the tensors with their first byte in the data, in the order they lie there."""
    try:
        outline = json.loads(header, object_pairs_hook=_distinct_names)
    except (ValueError, RecursionError) as error:
        raise InvalidFile(f"header is not JSON: {error}") from error
    if not isinstance(outline, dict):
        raise InvalidFile("header is not a JSON object")
    tensors = list(_tensors(outline, data_bytes))
    # Empty tensors lie between others: by end as well, or one could seem to overlap.
    return sorted(tensors, key=lambda placed: (placed[0], placed[0] + placed[1].size))


def _tensors(outline: dict[str, Any], data_bytes: int) -> Iterator[tuple[int, Tensor]]:
    for name, fields in outline.items():
        if name != "__metadata__":
            yield _tensor(name, fields, data_bytes)


def _tensor(name: str, fields: Any, data_bytes: int) -> tuple[int, Tensor]:
    try:
        dtype, shape = fields["dtype"], fields["shape"]
        begin, end = fields["data_offsets"]
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidFile(f"tensor {name!r} lacks a dtype, shape or offsets") from error
    if not _has_utf8(name) or (isinstance(dtype, str) and not _has_utf8(dtype)):
        raise InvalidFile(f"tensor {name!r} has a name or dtype that is not UTF-8")
    if not isinstance(dtype, str) or not isinstance(shape, list) or len(shape) > MAX_DIMENSIONS:
        raise InvalidFile(f"tensor {name!r} has no proper dtype and shape")
    if not all(_is_natural(n) for n in (begin, end, *shape)):
        raise InvalidFile(f"tensor {name!r} has a shape or offset that is no natural number")
    if not begin <= end <= data_bytes:
        raise InvalidFile(
            f"tensor {name!r} lies at bytes {begin} to {end}; the file holds {data_bytes}"
        )
    tensor = Tensor(name, dtype, tuple(shape), end - begin)
    try:
        check_tensor_size(tensor)
    except InvalidManifest as error:
        raise InvalidFile(error.message) from error
    return begin, tensor


def _has_utf8(text: str) -> bool:
    # JSON can spell halves of surrogate pairs, which no encoding has.
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _is_natural(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 63


def _distinct_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = dict(pairs)
    if len(names) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))
        raise InvalidFile(f"the header names {twice!r} twice")
    return names
