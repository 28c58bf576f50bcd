"""Takes flax checkpoints (MessagePack) apart: a walk to the arrays that flax packs.

An array is an extension of type 1 that holds another document: its shape, the name of its dtype
and its bytes. Sources: the MessagePack specification; flax.serialization of the flax project.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..model.file_kinds import KINDS
from ..model.files.segments import Segment, Tensor
from .cutting.reader import Cursor, ReadableFile, Unreadable
from .source import MAX_NAME_CHARACTERS, cover, make_tensor

_ARRAY_EXTENSION = 1
_MAX_DEPTH = 64

_DTYPES = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "uint16": "U16",
    "int16": "I16",
    "uint32": "U32",
    "int32": "I32",
    "uint64": "U64",
    "int64": "I64",
    "float16": "F16",
    "bfloat16": "BF16",
    "float32": "F32",
    "float64": "F64",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
}

# First byte of a value: bytes of the integer or float behind it, or of the length behind it.
_NUMBERS = {
    0xCA: 4,
    0xCB: 8,
    0xCC: 1,
    0xCD: 2,
    0xCE: 4,
    0xCF: 8,
    0xD0: 1,
    0xD1: 2,
    0xD2: 4,
    0xD3: 8,
}
_TEXTS = {0xD9: 1, 0xDA: 2, 0xDB: 4}
_RUNS = {0xC4: 1, 0xC5: 2, 0xC6: 4}
_ARRAYS = {0xDC: 2, 0xDD: 4}
_MAPS = {0xDE: 2, 0xDF: 4}
_EXTENSIONS = {0xC7: 1, 0xC8: 2, 0xC9: 4}
_FIXED_EXTENSIONS = {0xD4: 1, 0xD5: 2, 0xD6: 4, 0xD7: 8, 0xD8: 16}


@dataclass(frozen=True, slots=True)
class _Value:
    """One value: its kind, how many values or bytes it holds, and an extension's type."""

    kind: str
    size: int = 0
    extension: int = 0


@dataclass(slots=True)
class _Level:
    """A map or array that is being read: values left, and the name of what comes next."""

    name: str
    left: int
    is_map: bool
    key: str | None = None


def recognise(name: str, head: bytes) -> bool:
    """Says whether a file may be a flax checkpoint. MessagePack has no magic, but these are maps,
    and begin with a key."""
    if name.lower().endswith(KINDS["flax"].endings):
        return True
    kind = head[:1]
    # Maps of up to 15 entries, of 16 bits and of 32 bits of them.
    key = {b"\xde": 3, b"\xdf": 5}.get(kind, 1 if b"\x81" <= kind <= b"\x8f" else None)
    return key is not None and len(head) > key and _is_text(head[key])


def _is_text(first: int) -> bool:
    return 0xA1 <= first <= 0xBF or first == 0xD9


def segment(file: ReadableFile, size: int) -> list[Segment]:
    """Returns the segments of a flax checkpoint of `size` bytes; raises Unreadable where it is no
    MessagePack that can be walked."""
    cursor = Cursor(file, size)
    return cover(file, size, [(start, [tensor]) for start, tensor in _walk(cursor)])


def _walk(cursor: Cursor) -> Iterator[tuple[int, Tensor]]:
    levels = [_Level("", 1, False)]
    while levels:
        level = levels[-1]
        if not level.left:
            levels.pop()
            continue
        value = _read_value(cursor)
        if level.is_map and level.key is None:
            level.key = _read_text(cursor, value)
            continue
        name = _join(level.name, level.key)
        level.key = None
        level.left -= 1
        if value.kind in ("map", "array"):
            if len(levels) == _MAX_DEPTH:
                raise Unreadable("maps in maps in maps")
            levels.append(_Level(name, value.size, value.kind == "map"))
        elif value.kind == "extension" and value.extension == _ARRAY_EXTENSION:
            yield from _read_array(cursor, name, value.size)
        else:
            cursor.skip(value.size)


def _join(name: str, key: str | None) -> str:
    return (f"{name}/{key}" if name and key else name or key or "")[:MAX_NAME_CHARACTERS]


def _read_text(cursor: Cursor, value: _Value) -> str:
    if value.kind not in ("text", "number") or value.size > MAX_NAME_CHARACTERS:
        raise Unreadable("a map with a key that is no short text")
    return cursor.take(value.size).decode("utf-8", "replace")


def _read_array(cursor: Cursor, name: str, size: int) -> Iterator[tuple[int, Tensor]]:
    """Yields first byte and tensor of an array of `size` bytes, and moves behind it."""
    end = cursor.position + size
    if _read_value(cursor) == _Value("array", 3):
        shape = _read_shape(cursor)
        dtype = _read_text(cursor, _read_value(cursor))
        data = _read_value(cursor)
        if data.kind == "bytes" and cursor.position + data.size == end and data.size:
            tensor = make_tensor(name, _DTYPES.get(dtype, dtype), shape, data.size)
            yield cursor.position, tensor
    if not cursor.position <= end <= cursor.size:
        raise Unreadable("an array is longer than what holds it")
    cursor.position = end


def _read_shape(cursor: Cursor) -> list[int]:
    value = _read_value(cursor)
    if value.kind != "array" or value.size > 64:
        raise Unreadable("an array without a shape")
    return [_read_natural(cursor) for _ in range(value.size)]


def _read_natural(cursor: Cursor) -> int:
    first = cursor.take_int(1)
    if first < 0x80:
        return first
    if first not in (0xCC, 0xCD, 0xCE, 0xCF):
        raise Unreadable("a shape of something else than lengths")
    return int.from_bytes(cursor.take(_NUMBERS[first]), "big")


def _read_value(cursor: Cursor) -> _Value:
    """Reads the head of a value; what it holds follows."""
    first = cursor.take_int(1)
    if first < 0x80 or first >= 0xE0 or first in (0xC0, 0xC2, 0xC3):
        return _Value("number")
    if first < 0xC0:
        kind = "map" if first < 0x90 else "array" if first < 0xA0 else "text"
        return _Value(kind, first & (0x1F if kind == "text" else 0x0F))
    if first in _NUMBERS:
        return _Value("number", _NUMBERS[first])
    if first in _FIXED_EXTENSIONS:
        return _Value("extension", _FIXED_EXTENSIONS[first], cursor.take_int(1))
    for kind, widths in (("text", _TEXTS), ("bytes", _RUNS), ("array", _ARRAYS), ("map", _MAPS)):
        if first in widths:
            return _Value(kind, int.from_bytes(cursor.take(widths[first]), "big"))
    if first in _EXTENSIONS:
        size = int.from_bytes(cursor.take(_EXTENSIONS[first]), "big")
        return _Value("extension", size, cursor.take_int(1))
    raise Unreadable(f"a value that starts with {first:#x}")
