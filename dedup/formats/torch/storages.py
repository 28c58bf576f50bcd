"""Divides a PyTorch storage among the tensors that look at it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ...model.files.segments import ITEM_BYTES, Segment
from ..source import make_tensor
from .pickles import Storage, View

_KINDS = {
    "DoubleStorage": "F64",
    "FloatStorage": "F32",
    "HalfStorage": "F16",
    "BFloat16Storage": "BF16",
    "LongStorage": "I64",
    "IntStorage": "I32",
    "ShortStorage": "I16",
    "CharStorage": "I8",
    "ByteStorage": "U8",
    "UntypedStorage": "U8",
    "BoolStorage": "BOOL",
    "QInt8Storage": "I8",
    "QUInt8Storage": "U8",
    "QInt32Storage": "I32",
    "ComplexFloatStorage": "C64",
    "ComplexDoubleStorage": "C128",
}

_DTYPES = {
    "torch.float8_e4m3fn": "F8_E4M3",
    "torch.float8_e5m2": "F8_E5M2",
    "torch.uint16": "U16",
    "torch.uint32": "U32",
    "torch.uint64": "U64",
}


def storage_dtype(storage: Storage, views: Sequence[tuple[str, View]]) -> str:
    """Returns the element type of a storage: as its class says, or its one kind of tensor."""
    named = {view.dtype for _, view in views}
    dtype = named.pop() if len(named) == 1 else None
    if dtype is not None:
        return _DTYPES.get(dtype, dtype.removeprefix("torch."))
    return _KINDS.get(storage.kind, storage.kind)


def segment_storage(
    storage: Storage, views: Sequence[tuple[str, View]], size: int, dtype: str
) -> list[Segment]:
    """Returns tensors that cover a storage of `size` bytes: contiguous views by their names, and
    what no such view looks at as parts of the storage. Of views that overlap the first counts.

    Raises Unreadable for a dtype that no file would name.
    """
    item_bytes = ITEM_BYTES.get(dtype)
    if item_bytes is None or size % item_bytes:
        return [_segment_unknown(storage, views, size, dtype)]
    count = size // item_bytes
    segments: list[Segment] = []
    position = 0
    for name, view, shape in _tile(views, count):
        if view.offset > position:
            segments.append(_rest(storage, dtype, view.offset - position, item_bytes))
        segments.append(make_tensor(name, dtype, shape, view.count * item_bytes))
        position = view.offset + view.count
    if position < count:
        segments.append(_rest(storage, dtype, count - position, item_bytes))
    return segments


def _segment_unknown(
    storage: Storage, views: Sequence[tuple[str, View]], size: int, dtype: str
) -> Segment:
    """Returns a storage whose elements are of no known length: the one tensor that looks at all of
    it, or plain bytes."""
    for name, view in views:
        if len(views) == 1 and view.count == storage.count and dtype not in ITEM_BYTES:
            return make_tensor(name, dtype, view.shape_as_it_lies() or (storage.count,), size)
    return make_tensor(_storage_name(storage), "U8", (size,), size)


def _tile(
    views: Sequence[tuple[str, View]], count: int
) -> Iterator[tuple[str, View, tuple[int, ...]]]:
    """Yields views of `count` elements that have no gaps and do not overlap, by offset, and their
    shapes as they lie."""
    position = 0
    for name, view in sorted(views, key=lambda named: named[1].offset):
        fits = position <= view.offset and view.offset + view.count <= count
        shape = view.shape_as_it_lies() if view.count and fits else None
        if shape is not None:
            yield name, view, shape
            position = view.offset + view.count


def _rest(storage: Storage, dtype: str, count: int, item_bytes: int) -> Segment:
    return make_tensor(_storage_name(storage), dtype, (count,), count * item_bytes)


def _storage_name(storage: Storage) -> str:
    return f"storage {storage.key}"
