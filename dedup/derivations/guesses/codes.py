"""How codes may lie in a tensor: an element each, or several in a word, along rows or columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from ..operations.scaled import packing
from ..operations.scaled.places import LITERAL, TILES, Place, by_rows, by_tiles
from ..recipe import Arrangement, Axes
from .layouts import places_in_target
from .tensors import StoredTensor, Target

WHOLE = ("F8_E4M3", "F8_E5M2", "I8", "U8")
"""Dtypes whose elements are codes."""
PACKED = {"U8": (4,), "I32": (4, 8), "U32": (4, 8)}
"""Dtypes whose elements may hold several codes, and of how many bits these may be."""
_PLAIN = bytes(range(8))
# Where AWQ puts the k-th of eight codes.
_AWQ = bytes([0, 4, 1, 5, 2, 6, 3, 7])
# Sides of square tiles that share a scale.
_TILE = 128


@dataclass(frozen=True, slots=True)
class Layout:
    """Codes of a tensor: of `bits` bits, 0 for whole elements, code k of a word from the bits
    `bits * order[k]` on. `shape`: that of the source, whose elements are codes in their order once
    they are arranged by `axes`. `rows`, `columns`: of the matrix that scales go by; `inner` rows
    are side by side in a word."""

    tensor: StoredTensor
    shape: tuple[int, ...]
    rows: int
    columns: int
    bits: int = 0
    order: bytes = b""
    axes: Axes | None = None
    inner: int = 1

    @property
    def per(self) -> int:
        """How many codes an element holds."""
        return 8 * self.tensor.unit // self.bits if self.bits else 1

    def read(self, target: Target, codes: NDArray[np.intp]) -> NDArray[np.float32]:
        """Returns the codes with these numbers, in the order of the tensor."""
        if not self.bits:
            return target.values(codes)
        items = target.read.items(self.tensor, codes // self.per).reshape(codes.size, -1)
        shifts = np.frombuffer(self.order, np.uint8)[codes % self.per].astype(np.int64) * self.bits
        picked = items[np.arange(codes.size), shifts // 8] >> (shifts % 8).astype(np.uint8)
        return (picked & np.uint8((1 << self.bits) - 1)).astype(np.float32)

    def read_as_source(self, target: Target, places: NDArray[np.intp]) -> NDArray[np.float32]:
        """Returns the codes of the source's elements at these places."""
        return self.read(target, places_in_target(self.axes, places))

    def arrange(self, arrangement: Arrangement | None) -> Arrangement | None:
        """Returns how a source must be arranged that lies in the view as `arrangement` says."""
        assert arrangement is None or self.axes is None
        return self.axes or arrangement

    def places(self, count: int) -> Iterator[Place]:
        """Yields where the scale of a code may stand if there are `count` of them."""
        rows, columns, inner = self.rows, self.columns, self.inner
        if count == 1:
            yield Place(LITERAL)
        elif inner == 1 and count and rows * columns % count == 0:
            # Rows, parts of rows, or several.
            yield by_rows(rows * columns // count)
        if count == columns and columns > 1:
            yield Place(TILES, 1, 0, 1, 0, columns * inner, inner)
        groups = count // columns
        if count % columns == 0 and groups > 1 and rows % groups == 0:
            height = rows // groups
            if height % inner == 0:
                yield Place(TILES, 1, 0, height * columns, columns, columns * inner, inner)
        tiles = -(-rows // _TILE) * -(-columns // _TILE)
        if inner == 1 and count == tiles and count not in (1, rows, columns):
            yield by_tiles(columns, _TILE, _TILE)


def layouts(tensor: StoredTensor) -> Iterator[Layout]:
    """Yields how codes may lie in a tensor."""
    shape = tensor.shape
    if not shape or not tensor.elements:
        return
    columns = shape[-1]
    rows = tensor.elements // columns
    if tensor.dtype in WHOLE:
        yield Layout(tensor, shape, rows, columns)
    for bits in PACKED.get(tensor.dtype, ()):
        per = packing.codes_per_word(tensor.dtype, bits)
        plain = _PLAIN[:per]
        wide = (*shape[:-1], columns * per)
        yield Layout(tensor, wide, rows, columns * per, bits, plain)
        if tensor.dtype == "U8":
            yield Layout(tensor, wide, rows, columns * per, bits, plain[::-1])
        elif len(shape) == 2:
            # GPTQ: neighbours on the side of the inputs, which are the rows here.
            axes = Axes((columns, rows, per), (1, 0, 2))
            turned = (columns, rows * per)
            yield Layout(tensor, turned, rows * per, columns, bits, plain, axes, per)
        if len(shape) == 2 and tensor.dtype != "U8" and bits == 4:
            turned = columns * per, rows
            axes = Axes(turned, (1, 0))
            yield Layout(tensor, turned, rows, columns * per, bits, _AWQ, axes)


def sample_codes(layout: Layout, most: int) -> NDArray[np.intp]:
    """Returns numbers of codes, spread over the first chunk of a tensor."""
    first = layout.tensor.count(layout.tensor.pieces[0].raw_bytes) * layout.per
    count = min(first, prod(layout.shape))
    # Steps that are no multiple of a row's length.
    picked = (np.arange(most, dtype=np.float64) + 0.5) * (count / most)
    jitter = np.random.default_rng(1).random(most) * (count / most)
    return np.minimum(picked + jitter, count - 1).astype(np.intp)


def find_place(place: Place, codes: NDArray[np.intp]) -> NDArray[np.intp]:
    """Returns the number of the scale of each code."""
    if place.kind == LITERAL:
        return np.zeros_like(codes)
    column = codes % place.width
    return codes // place.period * place.step + column // place.tile
