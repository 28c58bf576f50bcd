"""Reads elements of stored tensors here and there, as the values that they stand for."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from ...codecs.dtypes import find_dtype
from ..derivations.guesses.tensors import ReadValues, StoredTensor
from ..derivations.operations.dequantise import dequantise
from ..derivations.operations.floats.formats import NAMES as FLOATS
from ..derivations.operations.floats.formats import read_floats

# Of a target, its companion and its source, and many where they are small.
_KEPT_BYTES = 96 << 20

Raw = NDArray[np.uint8]


class StoredValues:
    """Reads tensors chunk by chunk (guesses.tensors.Reader); keeps a few chunks."""

    def __init__(self, load: Callable[[bytes, int], Raw]) -> None:
        self._load = load
        self._kept: OrderedDict[bytes, Raw] = OrderedDict()
        self._kept_bytes = 0

    def values(self, tensor: StoredTensor) -> ReadValues:
        """Returns what reads the values of a tensor's elements, where these are integers the
        integers, by their places."""

        def read(places: NDArray[np.intp]) -> NDArray[np.float32]:
            out = np.empty(places.size, np.float32)
            for mine, raw, inside in self._visit(tensor, places):
                out[mine] = _pick(tensor.dtype, raw, inside)
            return out

        return read

    def items(self, tensor: StoredTensor, places: NDArray[np.intp]) -> Raw:
        """Returns the bytes of a tensor's elements, not of a quantised dtype, (n, bytes of one)."""
        out = np.empty((places.size, tensor.unit), np.uint8)
        for mine, raw, inside in self._visit(tensor, places):
            out[mine] = raw[: raw.size // tensor.unit * tensor.unit].reshape(-1, tensor.unit)[
                inside
            ]
        return out

    def raw(self, tensor: StoredTensor, first: int, stop: int) -> Raw:
        """Returns the bytes of a tensor's elements [first, stop)."""
        pieces, offset = tensor.covering(first, stop)
        parts = [self._chunk(piece.digest, piece.raw_bytes) for piece in pieces]
        joined = np.concatenate([*parts, np.empty(0, np.uint8)])
        return joined[offset * tensor.unit :][: (stop - first) * tensor.unit]

    def _visit(
        self, tensor: StoredTensor, places: NDArray[np.intp]
    ) -> Iterator[tuple[NDArray[np.bool_], Raw, NDArray[np.intp]]]:
        """Yields each chunk that has some of the elements: which these are, its bytes, and where
        they lie in it."""
        sought, at = places + tensor.offset, 0
        for piece in tensor.pieces:
            count = tensor.count(piece.raw_bytes)
            mine = (sought >= at) & (sought < at + count)
            if mine.any():
                yield mine, self._chunk(piece.digest, piece.raw_bytes), sought[mine] - at
            at += count

    def _chunk(self, digest: bytes, raw_bytes: int) -> Raw:
        raw = self._kept.pop(digest, None)
        if raw is None:
            raw = self._load(digest, raw_bytes)
            self._kept_bytes += raw.size
        self._kept[digest] = raw
        while len(self._kept) > 1 and self._kept_bytes > _KEPT_BYTES:
            self._kept_bytes -= self._kept.popitem(last=False)[1].size
        return raw


def _pick(dtype: str, raw: Raw, places: NDArray[np.intp]) -> NDArray[np.float32]:
    found = find_dtype(dtype)
    if found.group_elements == 1:
        items = raw[: raw.size // found.item_bytes * found.item_bytes]
        picked = np.ascontiguousarray(items.reshape(-1, found.item_bytes)[places]).reshape(-1)
        if dtype in FLOATS:
            return read_floats(dtype, picked)
        sign = "i" if found.is_signed else "u"
        return picked.view(f"<{sign}{found.item_bytes}").astype(np.float32)
    groups = raw.reshape(-1, found.group_bytes)[places // found.group_elements]
    values = np.empty(places.size * found.group_elements, np.float32)
    dequantise(dtype, np.ascontiguousarray(groups).reshape(-1), values)
    rows = values.reshape(places.size, found.group_elements)
    return rows[np.arange(places.size), places % found.group_elements]
