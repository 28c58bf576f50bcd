"""Checks what taking a file apart must hold to, whatever is in the file."""

from __future__ import annotations

import io
import tracemalloc

from weightvault.dedup.formats.registry import segment_file
from weightvault.dedup.model.files.outlines import check_tensor_size
from weightvault.dedup.model.files.segments import Literal, Segment, Tensor


def take_apart(name: str, data: bytes) -> list[Segment]:
    """The segments of a file, once they were seen to cover it and to fit a manifest."""
    segments = segment_file(name, io.BytesIO(data), len(data))
    offset = 0
    for part in segments:
        if isinstance(part, Literal):
            assert part.data == data[offset : offset + part.size]
        elif isinstance(part, Tensor):
            part.name.encode()
            check_tensor_size(part)
        offset += part.size
    assert offset == len(data)
    return segments


def tensors(name: str, data: bytes) -> list[Tensor]:
    return [part for part in take_apart(name, data) if isinstance(part, Tensor)]


def find_tensors(name: str, data: bytes) -> list[tuple[Tensor, bytes]]:
    """The tensors of a file with their raw bytes."""
    found, offset = [], 0
    for part in take_apart(name, data):
        if isinstance(part, Tensor):
            found.append((part, data[offset : offset + part.size]))
        offset += part.size
    return found


def take_apart_cheaply(name: str, data: bytes) -> list[Segment]:
    """As `take_apart`, within a bound of memory that a reader which believes lengths breaks by far;
    one that walks for ever runs into the time that any test has."""
    tracemalloc.start()
    try:
        segments = take_apart(name, data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 200 << 20
    return segments
