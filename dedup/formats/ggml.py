"""Takes model files of ggml from before GGUF apart (`ggml-base.bin` of whisper.cpp, older llamas).

Layout: magic, a version but for the oldest, numbers that describe the model, for whisper the
filters of its spectrogram, the vocabulary, and tensors up to the end: number of dimensions, length
of the name, type, dimensions (the fastest first), name, and the data, aligned in the youngest. How
many numbers there are depends on the model, and nothing says which it is: of those that are known
the first is taken that leads through tensors to the last byte. Sources: convert-pt-to-ggml.py of
the whisper.cpp project; convert-ggml-to-gguf.py of the llama.cpp project.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..model.files.segments import GROUPS, ITEM_BYTES, Segment, count_elements
from .cutting.reader import Cursor, ReadableFile, Unreadable
from .gguf import TYPE_NAMES
from .source import MAX_NAME_CHARACTERS, cover, make_tensor

_GGML, _GGMF, _GGJT = b"lmgg", b"fmgg", b"tjgg"
_ALIGNMENT = 32
_MAX_DIMENSIONS = 4
_MAX_TOKENS = 1 << 20
_MAX_TOKEN_BYTES = 1 << 10


@dataclass(frozen=True, slots=True)
class _Layout:
    """How a file begins: `numbers` of the model, of which the first is that of its tokens; whether
    `filters` follow; whether tokens are `counted` once more and have a `score`."""

    numbers: int
    filters: bool
    counted: bool
    scored: bool


# whisper, llama, GPT-2 and its kin.
_LAYOUTS = {
    _GGML: (
        _Layout(11, filters=True, counted=True, scored=False),
        _Layout(7, filters=False, counted=False, scored=False),
        _Layout(6, filters=False, counted=True, scored=False),
    ),
    _GGMF: (_Layout(7, filters=False, counted=False, scored=True),),
    _GGJT: (_Layout(7, filters=False, counted=False, scored=True),),
}


def recognise(_name: str, head: bytes) -> bool:
    """Says whether a file that starts with `head` is a model of ggml."""
    return head[:4] in _LAYOUTS


def segment(file: ReadableFile, size: int) -> list[Segment]:
    """Returns the segments of a file of `size` bytes; raises Unreadable where no model that is
    known is laid out so."""
    magic = Cursor(file, size).take(4)
    for layout in _LAYOUTS[magic]:
        cursor = Cursor(file, size)
        cursor.skip(4 if magic == _GGML else 8)
        try:
            _skip_header(cursor, layout)
            return cover(file, size, list(_read_tensors(cursor, aligned=magic == _GGJT)))
        except Unreadable:
            if cursor.work.left <= 0:
                raise
    raise Unreadable("no model of ggml that is known")


def _skip_header(cursor: Cursor, layout: _Layout) -> None:
    tokens = cursor.take_int(4)
    cursor.skip(4 * (layout.numbers - 1))
    if layout.filters:
        cursor.skip(4 * cursor.take_int(4) * cursor.take_int(4))
    if layout.counted:
        tokens = cursor.take_int(4)
    if tokens > _MAX_TOKENS:
        raise Unreadable(f"a vocabulary of {tokens} tokens")
    for _ in range(tokens):
        length = cursor.take_int(4)
        if length > _MAX_TOKEN_BYTES:
            raise Unreadable(f"a token of {length} bytes")
        cursor.skip(length + (4 if layout.scored else 0))


def _read_tensors(cursor: Cursor, *, aligned: bool) -> Iterator[tuple[int, list[Segment]]]:
    """Yields tensors up to the end of the file, each with its first byte."""
    while cursor.position < cursor.size:
        dimensions, length, kind = (cursor.take_int(4) for _ in range(3))
        if not 1 <= dimensions <= _MAX_DIMENSIONS or length > MAX_NAME_CHARACTERS:
            raise Unreadable("no tensor where one should be")
        shape = [cursor.take_int(4) for _ in range(dimensions)][::-1]
        name = cursor.take(length).decode("utf-8", "replace")
        dtype = TYPE_NAMES.get(kind)
        if dtype is None:
            raise Unreadable(f"a tensor of unknown type {kind}")
        elements, group_bytes = GROUPS.get(dtype) or (1, ITEM_BYTES[dtype])
        if shape[-1] % elements:
            raise Unreadable("a tensor of parts of groups")
        if aligned:
            cursor.skip(-cursor.position % _ALIGNMENT)
        size = count_elements(shape) // elements * group_bytes
        start = cursor.position
        cursor.skip(size)
        if size:
            yield start, [make_tensor(name, dtype, shape, size)]
