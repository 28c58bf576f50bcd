"""Finds arrays of numpy in plain pickles (protocols 3 to 5), those of joblib among them; runs
nothing.

A pickle holds an array as a call of `_reconstruct`, whose state is shape, dtype, order and bytes,
or from protocol 5 on of `_frombuffer`. joblib writes an object that describes the array, and behind
it, in the midst of the pickle, padding and the bytes. What is compressed stays opaque. Sources:
`ndarray.__reduce__` and `__reduce_ex__` in numpy's methods.c; `NumpyArrayWrapper` in joblib's
numpy_pickle.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...model.files.segments import ITEM_BYTES, Segment, count_elements
from ..cutting.reader import Cursor, ReadableFile, Unreadable
from ..source import cover, make_tensor
from .opcodes import Global, Machine, Node
from .pickles import follow, get_item, list_found

_PROTO, _PROTOCOLS = 0x80, (3, 4, 5)
# Opcodes of bytes, and of how many bytes their length has.
_BYTES = {b"B": 4, b"\x8e": 8, b"\x96": 8}
_NEW_OBJECT, _BUILD = b"\x81", b"b"
# An array takes some 40; so many take 0.5 s at worst.
_MOST_OPCODES = 200_000
# Shorter runs are no arrays worth a frame, and what else is read of a pickle is short.
_LEAST_BYTES = 1 << 10
_MOST_TEXT_BYTES = 1 << 20
_RECONSTRUCTS = ("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct")
_FROM_BUFFERS = ("numpy.core.numeric._frombuffer", "numpy._core.numeric._frombuffer")
_WRAPPER = "joblib.numpy_pickle.NumpyArrayWrapper"
_DTYPES = {
    "b1": "BOOL",
    **{f"f{n}": f"F{8 * n}" for n in (2, 4, 8)},
    **{f"{kind}{n}": f"{kind.upper()}{8 * n}" for kind in "iu" for n in (1, 2, 4, 8)},
}


@dataclass(frozen=True, slots=True)
class _Run:
    """Bytes of a pickle that were not read: their place and number."""

    start: int
    size: int


class _Array(Node):
    """What will be an array, and is told by what is put into it."""


class _Wrapped(_Array):
    """An array that joblib describes, and that follows in the file."""


class _Pickle:
    """The bytes of a pickle, as the readers of opcodes take them."""

    def __init__(self, cursor: Cursor) -> None:
        self.cursor = cursor

    def read(self, count: int) -> bytes:
        """Returns as many bytes; raises Unreadable where they are not there, or too many."""
        if count > _MOST_TEXT_BYTES:
            raise Unreadable("a text longer than any of a model")
        return self.cursor.take(count)

    def readline(self) -> bytes:
        """Returns the bytes up to a line's end, that included."""
        line = bytearray()
        while not line.endswith(b"\n") and len(line) < _MOST_TEXT_BYTES:
            line += self.cursor.take(1)
        return bytes(line)


class _ArrayMachine(Machine):
    """Follows a pickle without reading long bytes."""

    def __init__(self) -> None:
        super().__init__(_call, lambda _: None)

    def step(self, code: bytes, file: Any) -> None:
        """See Machine.step."""
        if code in _BYTES:
            size = int.from_bytes(file.read(_BYTES[code]), "little")
            run = _Run(file.cursor.position, size)
            if size >= _LEAST_BYTES:
                file.cursor.skip(size)
            self.stack.append(run if size >= _LEAST_BYTES else file.read(size))
        elif code == _NEW_OBJECT and self.stack[-2:-1] == [Global(_WRAPPER)]:
            self.pop_many(2)
            self.stack.append(_Wrapped())
        else:
            super().step(code, file)
            if code == _BUILD and isinstance(self.stack[-1], _Wrapped):
                _skip_wrapped(self.stack[-1], file.cursor)


def recognise(_name: str, head: bytes) -> bool:
    """Says whether a file may be such a pickle."""
    return len(head) > 2 and head[0] == _PROTO and head[1] in _PROTOCOLS


def segment(file: ReadableFile, size: int) -> list[Segment]:
    """Returns the segments of a pickle of `size` bytes; raises Unreadable for what is none that can
    be followed."""
    cursor = Cursor(file, size)
    root = follow(_ArrayMachine(), _Pickle(cursor), cursor.work, _MOST_OPCODES)
    placed: list[tuple[int, list[Segment]]] = []
    for name, array in list_found(root, _Array):
        found = _describe(array)
        if found is not None:
            dtype, shape, run = found
            if count_elements(shape) * ITEM_BYTES[dtype] == run.size:
                placed.append((run.start, [make_tensor(name, dtype, shape, run.size)]))
    return cover(file, size, placed)


def _call(function: Any, arguments: Any) -> Any:
    name = function.name if isinstance(function, Global) else ""
    items = [(None, arguments)] if arguments else []
    return _Array(items) if name in _RECONSTRUCTS + _FROM_BUFFERS else Node(items)


def _describe(array: _Array) -> tuple[str, tuple[int, ...], _Run] | None:
    """Returns dtype, shape and place of an array whose bytes lie in the file as its elements do;
    None for others."""
    state = array.items[-1][1] if array.items else None
    if isinstance(state, _Run):
        dtype, shape, order, run = *_described(array), state
    elif isinstance(state, tuple) and len(state) == 5 and isinstance(state[4], _Run):
        _, shape, dtype, fortran, run = state
        order = "F" if fortran else "C"
    elif isinstance(state, tuple) and len(state) == 4 and isinstance(state[0], _Run):
        run, dtype, shape, order = state
    else:
        return None
    kind = _dtype_of(dtype)
    shape = (shape,) if type(shape) is int else shape
    if kind is None or not _is_shape(shape):
        return None
    return kind, shape[::-1] if order == "F" else shape, run


def _described(array: Node) -> tuple[Any, Any, Any]:
    return get_item(array, "dtype"), get_item(array, "shape"), get_item(array, "order")


def _skip_wrapped(array: _Wrapped, cursor: Cursor) -> None:
    """Skips the bytes of an array that joblib has described."""
    dtype, shape, _ = _described(array)
    kind = _dtype_of(dtype)
    if kind is None or not _is_shape(shape):
        raise Unreadable("an array of joblib of which nobody knows how long it is")
    if get_item(array, "numpy_array_alignment_bytes") is not None:
        cursor.skip(cursor.take_int(1))
    size = count_elements(shape) * ITEM_BYTES[kind]
    array.items.append((None, _Run(cursor.position, size)))
    cursor.skip(size)


def _is_shape(shape: Any) -> bool:
    return isinstance(shape, tuple) and all(type(n) is int and 0 <= n < 1 << 63 for n in shape)


def _dtype_of(node: Any) -> str | None:
    """Returns our name of a dtype: a call with its code, and a state with its order of bytes."""
    told = [value for _, value in node.items] if isinstance(node, Node) else []
    if not told or not all(isinstance(value, tuple) and value for value in told):
        return None
    order = told[1][1] if len(told) > 1 and len(told[1]) > 1 else "|"
    return _DTYPES.get(told[0][0]) if order in ("<", "|") and _is_text(told[0][0]) else None


def _is_text(value: Any) -> bool:
    return isinstance(value, str)
