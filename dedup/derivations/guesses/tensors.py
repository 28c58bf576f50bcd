"""Tensors in the store, as targets and sources of recipes."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ....codecs.dtypes import find_dtype
from ..operations.values import Raw
from ..recipe import Piece

ReadValues = Callable[[NDArray[np.intp]], NDArray[np.float32]]
"""Gives the values of a tensor's elements by their places, (n,) each."""


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor in the store: dtype, shape, and the chunks of its raw bytes, back to back, in which
    it begins with the element `offset`: small tensors are stored several in one chunk."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    pieces: tuple[Piece, ...]
    offset: int = 0

    @property
    def elements(self) -> int:
        """How many elements it has."""
        return prod(self.shape)

    @property
    def unit(self) -> int:
        """How many bytes an element takes; a group of a quantised dtype."""
        dtype = find_dtype(self.dtype)
        return dtype.item_bytes * dtype.group_bytes

    @property
    def bits(self) -> float:
        """How many bits an element takes: the more, the better a source."""
        return 8 * self.unit / find_dtype(self.dtype).group_elements

    @property
    def raw_bytes(self) -> float:
        """How many bytes its elements take."""
        return self.elements * self.bits / 8

    def count(self, raw_bytes: int) -> int:
        """Returns how many elements so many bytes are."""
        return raw_bytes // self.unit * find_dtype(self.dtype).group_elements

    def covering(self, first: int, stop: int) -> tuple[tuple[Piece, ...], int]:
        """Returns the pieces that hold the elements [first, stop), and where they begin in
        these."""
        first, stop = self.offset + first, self.offset + stop
        kept: list[Piece] = []
        at = skipped = 0
        for piece in self.pieces:
            count = self.count(piece.raw_bytes)
            if at + count <= first:
                skipped = at + count
            elif at < stop:
                kept.append(piece)
            at += count
        return tuple(kept), first - skipped


class Companions:
    """The tensors of a revision, small ones too: by name, and by how many elements they have."""

    def __init__(self, tensors: Callable[[], Iterable[StoredTensor]]) -> None:
        self._list = tensors

    @cached_property
    def named(self) -> dict[str, StoredTensor]:
        """All of them by name."""
        return {tensor.name: tensor for tensor in self._list()}

    @cached_property
    def _names(self) -> list[str]:
        return sorted(self.named)

    def near(self, name: str, most: int) -> list[StoredTensor]:
        """Returns up to twice `most` tensors whose names start most as `name` does."""
        at = bisect_left(self._names, name)
        return [self.named[found] for found in self._names[max(0, at - most) : at + most]]

    @cached_property
    def by_elements(self) -> dict[int, list[StoredTensor]]:
        """All of them by their number of elements."""
        found: dict[int, list[StoredTensor]] = defaultdict(list)
        for tensor in self.named.values():
            found[tensor.elements].append(tensor)
        return found


class Reader(Protocol):
    """Reads what is stored."""

    def values(self, tensor: StoredTensor) -> ReadValues:
        """Returns what reads values of a tensor's elements; where these are integers, the
        integers."""
        ...

    def items(self, tensor: StoredTensor, places: NDArray[np.intp]) -> Raw:
        """Returns the bytes of elements, not of a quantised dtype, (n, bytes of one)."""
        ...

    def raw(self, tensor: StoredTensor, first: int, stop: int) -> Raw:
        """Returns the bytes of the elements [first, stop)."""
        ...


@dataclass(frozen=True, slots=True)
class FirstSketch:
    """The sketch that is stored of the first chunk of a float tensor: its bits compare the first
    2^exponent elements, `words` are some of these, little-endian (FORMAT.md, "Sketch")."""

    exponent: int
    bits: bytes
    words: bytes


@dataclass(frozen=True, slots=True)
class Target:
    """A tensor that may be computed from others: `values` reads its own elements, `companions` are
    the tensors of its revision, `read` reads these, sources, and itself. `sketch` is what is known
    without reading it."""

    tensor: StoredTensor
    values: ReadValues
    companions: Companions
    read: Reader
    sketch: FirstSketch | None = None
