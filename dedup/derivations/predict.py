"""Runs a recipe: reads its inputs and gives the prediction, any range of it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from ...codecs.dtypes import Dtype, find_dtype
from ...codecs.rans.streams import StreamReader
from .operations.errors import InvalidRecipe
from .operations.floats.formats import NAMES, read_floats, write_floats
from .operations.registry import Refining, find_operation
from .operations.values import Raw, Values
from .recipe import Axes, Grid, Operand, Piece, Recipe, Rows
from .selection import Selection

Load = Callable[[bytes, int], Raw]
"""Gives the raw bytes of an input by its digest and length, (n,) uint8, verified."""
LoadPart = Callable[[bytes, int, int, int], Raw]
"""Gives those from one byte to another, by digest, length, start and stop."""

# A recipe may not name work out of proportion to what it gives: inputs of so many bytes for each
# byte of output, and so many more.
MOST_INPUT_SHARE = 64
FREE_INPUT_BYTES = 64 << 20
# What is arranged is in memory as a whole.
MOST_ARRANGED_BYTES = 256 << 20
# Inputs that are kept at hand while blocks are made in order.
_KEPT_INPUT_BYTES = 64 << 20


class Prediction:
    """What a recipe gives for a chunk of `raw_bytes` of `dtype`. Not for several threads at once.

    Raises InvalidRecipe where the recipe does not fit itself or the chunk; nothing is read before
    a range is asked for. `arranged` keeps an arranged operand for others that have it, too.
    """

    def __init__(
        self,
        recipe: Recipe,
        dtype: str,
        raw_bytes: int,
        load: Load,
        load_part: LoadPart | None = None,
        arranged: dict[Operand, Raw] | None = None,
    ) -> None:
        self._recipe = recipe
        self._dtype = find_dtype(dtype)
        self._operation = find_operation(recipe.operation, recipe.version)
        self._elements = _count(self._dtype, raw_bytes)
        _check_work(recipe, raw_bytes)
        given = [operand.rounded or _read_dtype(operand) for operand in recipe.operands]
        self._operation.check(given, dtype, recipe.parameters)
        kept = {} if arranged is None else arranged
        self._readers = [
            _Reader(each, self._elements, load, load_part, kept) for each in recipe.operands
        ]
        # A block that is refined is read once.
        self._read_last: tuple[tuple[int, int], list[Values]] | None = None
        self._kept: dict[int, Any] = {}

    def fill(self, start: int, out: Raw) -> None:
        """Fills `out` with the predicted bytes from `start` on; whole elements (whole groups of a
        quantised dtype) from end to end."""
        first, operands = self._read(start, out.size)
        name = self._dtype.name
        self._operation.predict(operands, name, first, self._recipe.parameters, out)

    @property
    def can_refine(self) -> bool:
        """Whether the operation predicts better what is known in part."""
        return isinstance(self._operation, Refining)

    def refine(self, start: int, known: int, groups: Raw, out: Raw, margins: Raw) -> None:
        """Fills `out` with the groups from `start` on, of which `groups` are known in part
        (codecs.quantised.staged.Refine)."""
        assert isinstance(self._operation, Refining)
        _, operands = self._read(start, out.size)
        self._operation.refine(operands, self._dtype.name, known, groups, out, margins, self._kept)

    def encode_zeros(self, raw: Raw, predicted: Raw, columns: int) -> tuple[bytes, Raw] | None:
        """Codes which elements of a block are zero where the predicted ones are not, and returns
        the prediction with these, too; None where there are none."""
        from .masks.masks import encode_zeros

        return encode_zeros(Values(self._dtype.name, predicted), raw, columns)

    def decode_zeros(self, reader: StreamReader, predicted: Raw) -> Raw:
        """Returns the prediction with the zeros that `encode_zeros` coded. Raises CorruptFrame."""
        from .masks.masks import decode_zeros

        return decode_zeros(Values(self._dtype.name, predicted), reader)

    def _read(self, start: int, size: int) -> tuple[int, list[Values]]:
        """Returns the first element of a range of bytes, and what it needs of the operands."""
        first, count = _count(self._dtype, start), _count(self._dtype, size)
        if self._read_last is None or self._read_last[0] != (first, count):
            operands = [reader.read(first, first + count) for reader in self._readers]
            self._read_last = (first, count), operands
            self._kept = {}
        return first, self._read_last[1]


def _count(dtype: Dtype, raw_bytes: int) -> int:
    """How many elements bytes are. Raises InvalidRecipe for a part of one."""
    unit = dtype.group_bytes * dtype.item_bytes
    if raw_bytes % unit:
        raise InvalidRecipe(f"{raw_bytes} bytes are no whole elements of {dtype.name}")
    return raw_bytes // unit * dtype.group_elements


def _read_dtype(operand: Operand) -> str:
    dtype = find_dtype(operand.dtype)
    return "F32" if dtype.group_elements > 1 else dtype.name


def _check_work(recipe: Recipe, raw_bytes: int) -> None:
    total = sum(operand.raw_bytes for operand in recipe.operands)
    if total > MOST_INPUT_SHARE * raw_bytes + FREE_INPUT_BYTES:
        raise InvalidRecipe(f"a recipe reads {total} bytes to give {raw_bytes}")
    for operand in recipe.operands:
        held = operand.arrangement is not None or not operand.ratio[0]
        if held and operand.raw_bytes > MOST_ARRANGED_BYTES:
            raise InvalidRecipe(f"a recipe arranges {operand.raw_bytes} bytes at once")


def whole_operand(operand: Operand) -> Operand:
    """Returns the operand of which one is a part: all elements, arranged, as they are stored."""
    return Operand(operand.dtype, operand.pieces, arrangement=operand.arrangement)


class _Reader:
    """Reads ranges of one operand, for an output of `elements`."""

    def __init__(
        self,
        operand: Operand,
        elements: int,
        load: Load,
        load_part: LoadPart | None,
        arranged: dict[Operand, Raw],
    ) -> None:
        self._operand = operand
        self._dtype = find_dtype(operand.dtype)
        self._load = load
        self._load_part = load_part
        self._kept: OrderedDict[bytes, Raw] = OrderedDict()
        self._arranged = arranged
        if operand.rounded is not None and _read_dtype(operand) not in NAMES:
            raise InvalidRecipe(f"a recipe rounds {operand.dtype}")
        self._total = _count(self._dtype, operand.raw_bytes)
        _check_arrangement(operand, self._total)
        taken = operand.arrangement
        self._selection = Selection(taken) if isinstance(taken, Rows | Grid) else None
        start, end = self._range(0, elements)
        if not start <= end <= self._arranged_elements():
            raise InvalidRecipe("a recipe needs more of an operand than there is")

    def read(self, first: int, stop: int) -> Values:
        """Returns what the output elements [first, stop) need."""
        values, rounded = self._read(first, stop), self._operand.rounded
        if rounded is None:
            return values
        elements = read_floats(values.dtype, values.raw)
        out = np.empty(elements.size * find_dtype(rounded).item_bytes, np.uint8)
        write_floats(elements, rounded, False, out)
        return Values(rounded, out)

    def _read(self, first: int, stop: int) -> Values:
        start, end = self._range(first, stop)
        if self._operand.arrangement is None:
            return self._given(start, end)
        if self._selection is not None:
            return self._selection.read(start, end, self._given)
        key = whole_operand(self._operand)
        arranged = self._arranged.get(key)
        if arranged is None:
            arranged = self._arranged[key] = self._arrange()
        width = find_dtype(_read_dtype(self._operand)).item_bytes
        given = arranged[start * width : end * width]
        return Values(_read_dtype(self._operand), given)

    def _arranged_elements(self) -> int:
        arrangement = self._operand.arrangement
        return self._total if arrangement is None else arrangement.elements

    def _range(self, first: int, stop: int) -> tuple[int, int]:
        numerator, denominator = self._operand.ratio
        offset = self._operand.offset
        if not numerator:
            return offset, self._arranged_elements()
        return offset + first * numerator // denominator, offset - (
            -stop * numerator // denominator
        )

    def _given(self, start: int, end: int) -> Values:
        """Returns elements as they are stored, dequantised where they are in groups."""
        if self._dtype.group_elements == 1:
            width = self._dtype.item_bytes
            return Values(self._dtype.name, self._bytes(start * width, end * width))
        from .operations.dequantise import dequantise

        group, size = self._dtype.group_elements, self._dtype.group_bytes
        first, last = start // group, -(-end // group)
        values = np.empty((last - first) * group, np.float32)
        dequantise(self._dtype.name, self._bytes(first * size, last * size), values)
        return Values("F32", values[start - first * group : end - first * group].view(np.uint8))

    def _bytes(self, start: int, stop: int) -> Raw:
        parts = list(self._parts(start, stop))
        return parts[0] if len(parts) == 1 else np.concatenate([*parts, np.empty(0, np.uint8)])

    def _parts(self, start: int, stop: int) -> Iterator[Raw]:
        at = 0
        for piece in self._operand.pieces:
            first, last = max(start - at, 0), min(stop - at, piece.raw_bytes)
            if first < last:
                yield self._piece_part(piece, first, last)
            at += piece.raw_bytes

    def _piece_part(self, piece: Piece, first: int, last: int) -> Raw:
        if self._load_part is None:
            return self._piece(piece.digest, piece.raw_bytes)[first:last]
        found = self._load_part(piece.digest, piece.raw_bytes, first, last)
        if found.size != last - first:
            raise InvalidRecipe("an input has another length than its recipe says")
        return found

    def _piece(self, digest: bytes, raw_bytes: int) -> Raw:
        raw = self._kept.get(digest)
        if raw is None:
            raw = self._kept[digest] = self._load(digest, raw_bytes)
            while len(self._kept) > 1 and _sum_bytes(self._kept) > _KEPT_INPUT_BYTES:
                self._kept.popitem(last=False)
        if raw.size != raw_bytes:
            raise InvalidRecipe("an input has another length than its recipe says")
        return raw

    def _arrange(self) -> Raw:
        given = self._given(0, self._total)
        width = find_dtype(given.dtype).item_bytes
        items = np.ascontiguousarray(given.raw).reshape(-1, width)
        arrangement = self._operand.arrangement
        assert isinstance(arrangement, Axes)
        axes = (*arrangement.order, len(arrangement.order))
        shaped = items.reshape(*arrangement.shape, width).transpose(axes)
        return np.ascontiguousarray(shaped).reshape(-1)


def _sum_bytes(kept: Mapping[bytes, Raw]) -> int:
    return sum(raw.size for raw in kept.values())


def _check_arrangement(operand: Operand, total: int) -> None:
    arrangement = operand.arrangement
    if arrangement is None:
        return
    if isinstance(arrangement, Axes):
        fits = arrangement.elements == total
    else:
        # A row that is taken twice is held twice.
        fits = Selection(arrangement).fits(total) and arrangement.elements <= 2 * total
    if not fits or not total:
        raise InvalidRecipe("a recipe arranges an operand in a shape that it has not got")
