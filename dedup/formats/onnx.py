"""Takes ONNX models apart: a walk over the protobuf to the tensors whose elements lie in one piece.

Only the fields on the way to a tensor are followed, by their numbers; everything else is skipped
by its length. Sources: onnx.proto of the ONNX project; "Encoding", the protobuf documentation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from ..model.files.segments import Segment, Tensor, tensor_bytes
from .cutting.reader import Cursor, ReadableFile, Unreadable
from .protobuf import BYTES, VARINT, read_key, read_varint
from .source import MAX_DIMENSIONS, cover, make_tensor

_MAX_DEPTH = 32
_MAX_TEXT_BYTES = 4096
_MAX_DIMS_BYTES = 640
# Nodes and attributes below hold no tensor worth a frame; skipping them is most of the speed.
_LEAST_NODE_BYTES = 256

_MODEL, _GRAPH, _NODE, _ATTRIBUTE, _FUNCTION, _TRAINING, _SPARSE, _TENSOR = range(8)
# Message, field number: the message that the field holds.
_BELOW = {
    (_MODEL, 7): _GRAPH,
    (_MODEL, 20): _TRAINING,
    (_MODEL, 25): _FUNCTION,
    (_TRAINING, 1): _GRAPH,
    (_TRAINING, 2): _GRAPH,
    (_FUNCTION, 7): _NODE,
    (_GRAPH, 1): _NODE,
    (_GRAPH, 5): _TENSOR,
    (_GRAPH, 15): _SPARSE,
    (_NODE, 5): _ATTRIBUTE,
    (_ATTRIBUTE, 5): _TENSOR,
    (_ATTRIBUTE, 6): _GRAPH,
    (_ATTRIBUTE, 10): _TENSOR,
    (_ATTRIBUTE, 11): _GRAPH,
    (_ATTRIBUTE, 22): _SPARSE,
    (_ATTRIBUTE, 23): _SPARSE,
    (_SPARSE, 1): _TENSOR,
    (_SPARSE, 2): _TENSOR,
}

# Fields of a tensor.
_DIMS, _DATA_TYPE, _FLOATS, _NAME, _RAW, _DOUBLES, _EXTERNAL, _LOCATION = 1, 2, 4, 8, 9, 10, 13, 14
_PACKED_DTYPES = {_FLOATS: "F32", _DOUBLES: "F64"}

# Keys of the first fields of a model: its version; then producer and its version, domain, version
# of the model, documentation, graph, operators, metadata.
_IR_VERSION = 0x08
_NEXT_KEYS = frozenset((0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A, 0x42, 0x72))

_DTYPES = {
    1: "F32",
    2: "U8",
    3: "I8",
    4: "U16",
    5: "I16",
    6: "I32",
    7: "I64",
    9: "BOOL",
    10: "F16",
    11: "F64",
    12: "U32",
    13: "U64",
    16: "BF16",
    17: "F8_E4M3",
    19: "F8_E5M2",
}


@dataclass(slots=True)
class _Found:
    """What was read of one tensor; `start` and `size` of its elements in the file, if there."""

    name: str = ""
    data_type: int = 0
    shape: list[int] = field(default_factory=list)
    start: int = 0
    size: int = 0
    packed: str | None = None
    external: dict[str, str] = field(default_factory=dict)

    @property
    def dtype(self) -> str:
        """The element type, by our names where there is one."""
        return self.packed or _DTYPES.get(self.data_type, f"ONNX {self.data_type}")

    @property
    def bytes_of_shape(self) -> int | None:
        """The bytes that its elements take, None where its shape does not tell."""
        known = len(self.shape) <= MAX_DIMENSIONS and self.data_type in _DTYPES
        return tensor_bytes(self.dtype, tuple(self.shape)) if known else None


def recognise(name: str, head: bytes) -> bool:
    """Says whether a file may be an ONNX model. The format has no magic number, but writers begin
    with the version of the IR, a small number, and one of the fields that come next."""
    begins = len(head) > 2 and head[0] == _IR_VERSION and 0 < head[1] < 0x40
    return name.lower().endswith(".onnx") or (begins and head[2] in _NEXT_KEYS)


def segment(file: ReadableFile, size: int) -> list[Segment]:
    """Returns the segments of an ONNX model of `size` bytes; raises Unreadable where it is no
    protobuf that can be walked."""
    placed: list[tuple[int, list[Segment]]] = []
    for found in _walk(file, size):
        if found.size:
            tensor = make_tensor(found.name, found.dtype, found.shape, found.size)
            placed.append((found.start, [tensor]))
    return cover(file, size, placed)


def list_external(_name: str, file: ReadableFile, size: int) -> Iterator[tuple[str, int, Tensor]]:
    """Yields the tensors of a model that lie in other files: path as the model spells it, first
    byte, tensor. Raises Unreadable as `segment` does."""
    for found in _walk(file, size):
        entries = found.external
        # The length may be left out where the shape tells it.
        length = _natural(entries["length"]) if "length" in entries else found.bytes_of_shape
        if "location" in entries and length is not None:
            start = _natural(entries.get("offset", "0"))
            tensor = make_tensor(found.name, found.dtype, found.shape, length)
            yield entries["location"], start, tensor


def _natural(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise Unreadable(f"{text!r} is no place in a file")
    return int(text)


def _walk(file: ReadableFile, size: int) -> Iterator[_Found]:
    """Yields the tensors of a model, whatever graph, node or function they are in."""
    cursor = Cursor(file, size)
    open_messages = [(_MODEL, size)]
    while open_messages:
        message, end = open_messages[-1]
        if cursor.position == end:
            open_messages.pop()
            continue
        number, wire, length = read_key(cursor)
        below = _BELOW.get((message, number)) if wire == BYTES else None
        if cursor.position + length > end:
            raise Unreadable("a field is longer than its message")
        if below is None or (below in (_NODE, _ATTRIBUTE) and length < _LEAST_NODE_BYTES):
            cursor.skip(length)
        elif below == _TENSOR:
            yield _read_tensor(cursor, cursor.position + length)
        elif len(open_messages) == _MAX_DEPTH:
            raise Unreadable("messages in messages in messages")
        else:
            open_messages.append((below, cursor.position + length))


def _read_tensor(cursor: Cursor, end: int) -> _Found:
    found = _Found()
    while cursor.position < end:
        number, wire, length = read_key(cursor)
        if cursor.position + length > end:
            raise Unreadable("a field is longer than its tensor")
        stop = cursor.position + length
        if number == _DIMS and length <= _MAX_DIMS_BYTES:
            while cursor.position < stop:
                found.shape.append(read_varint(cursor))
        elif number == _DATA_TYPE and wire == VARINT:
            found.data_type = read_varint(cursor)
        elif number == _NAME and length <= _MAX_TEXT_BYTES:
            found.name = cursor.take(length).decode("utf-8", "replace")
        elif number == _RAW or (number in _PACKED_DTYPES and wire == BYTES):
            found.start, found.size = cursor.position, length
            found.packed = _PACKED_DTYPES.get(number)
        elif number == _EXTERNAL and wire == BYTES:
            _read_entry(cursor, stop, found.external)
        cursor.skip(stop - cursor.position)
    return found


def _read_entry(cursor: Cursor, end: int, entries: dict[str, str]) -> None:
    """Reads one key and value of where a tensor lies outside of the model."""
    texts = {1: "", 2: ""}
    while cursor.position < end:
        number, _, length = read_key(cursor)
        if length > min(_MAX_TEXT_BYTES, end - cursor.position) or len(entries) > 16:
            raise Unreadable("an entry that no model has")
        texts[number] = cursor.take(length).decode("utf-8", "replace")
    entries[texts[1]] = texts[2]
