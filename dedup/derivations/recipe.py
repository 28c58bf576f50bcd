"""Recipes: which operation gives a chunk, with which parameters, from which other chunks
(FORMAT.md, "Recipes").

operation id | operation version | parameters | operands
operand: dtype | ratio | offset | arrangement | pieces

Numbers are varints: seven bits a byte, the lowest first, the top bit set on all but the last.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import prod

from ...codecs.dtypes import BY_ID, find_dtype
from .operations.errors import InvalidRecipe

MAX_INPUTS = 16
MOST_PIECES = 256
MOST_PARAMETER_BYTES = 1 << 20
MOST_OPERANDS = 64
MOST_AXES = 6
MOST_RUNS = 1 << 20
MOST_PIECE_BYTES = 1 << 28
ROUNDED = (None, "BF16", "F16")
_KINDS = 4
_LIMIT = 1 << 48


@dataclass(frozen=True, slots=True)
class Piece:
    """A stored chunk that holds part of an operand: its digest, and how many raw bytes it has."""

    digest: bytes
    raw_bytes: int


@dataclass(frozen=True, slots=True)
class Axes:
    """An operand as an array of `shape`, with its axes in the order `order`, as numpy.transpose."""

    shape: tuple[int, ...]
    order: tuple[int, ...]

    @property
    def elements(self) -> int:
        """How many elements the arranged operand has."""
        return prod(self.shape)


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of `row_elements` elements taken out of an operand: runs of (first row, count)."""

    row_elements: int
    runs: tuple[tuple[int, int], ...]

    @property
    def elements(self) -> int:
        """How many elements the arranged operand has."""
        return self.row_elements * sum(count for _, count in self.runs)


@dataclass(frozen=True, slots=True)
class Grid:
    """Rows of `row_elements` elements taken out of an operand, and of each of them columns: runs of
    (first row or column, count)."""

    row_elements: int
    runs: tuple[tuple[int, int], ...]
    columns: tuple[tuple[int, int], ...]

    @property
    def elements(self) -> int:
        """How many elements the arranged operand has."""
        rows = sum(count for _, count in self.runs)
        return rows * sum(count for _, count in self.columns)


Arrangement = Axes | Rows | Grid


@dataclass(frozen=True, slots=True)
class Operand:
    """One operand: elements of `dtype` in the raw bytes of `pieces`, back to back.

    An operation that makes the output elements [a, b) is given the elements [offset + a n div d,
    offset + ceil(b n / d)) of the arranged operand, where (n, d) is `ratio`; all of it where n is
    0. With `rounded` ("BF16" or "F16") they are rounded to that dtype before: a copy may have been
    made of a narrower one of what is stored.
    """

    dtype: str
    pieces: tuple[Piece, ...]
    offset: int = 0
    ratio: tuple[int, int] = (1, 1)
    arrangement: Arrangement | None = None
    rounded: str | None = None

    @property
    def raw_bytes(self) -> int:
        """The bytes of all pieces."""
        return sum(piece.raw_bytes for piece in self.pieces)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a chunk is computed. `operation` and `version` name a definition that never changes."""

    operation: int
    version: int
    operands: tuple[Operand, ...]
    parameters: bytes = b""

    @property
    def inputs(self) -> tuple[bytes, ...]:
        """The digests of all pieces, each once, in the order in which they are named."""
        named = (piece.digest for operand in self.operands for piece in operand.pieces)
        return tuple(dict.fromkeys(named))


def pack_recipe(recipe: Recipe) -> bytes:
    """Returns the bytes of a recipe, but the digests of its inputs, which are the frame's."""
    places = {digest: place for place, digest in enumerate(recipe.inputs)}
    out = bytearray()
    _put(out, recipe.operation, recipe.version, len(recipe.parameters))
    out += recipe.parameters
    _put(out, len(recipe.operands))
    for operand in recipe.operands:
        _put(out, find_dtype(operand.dtype).id, *operand.ratio, operand.offset)
        _put_arrangement(out, operand.arrangement, _KINDS * ROUNDED.index(operand.rounded))
        _put(out, len(operand.pieces))
        for piece in operand.pieces:
            _put(out, places[piece.digest], piece.raw_bytes)
    return bytes(out)


def parse_recipe(packed: bytes, inputs: tuple[bytes, ...]) -> Recipe:
    """Returns the recipe of a frame that names `inputs`. Raises InvalidRecipe for anything that
    `pack_recipe` does not write; allocates no more than a few times the bytes that are there."""
    numbers = _Numbers(packed)
    operation, version = numbers.take(), numbers.take()
    parameters = numbers.take_bytes(numbers.take(MOST_PARAMETER_BYTES))
    count = numbers.take(MOST_OPERANDS)
    operands = tuple(_take_operand(numbers, inputs) for _ in range(count))
    numbers.finish()
    recipe = Recipe(operation, version, operands, parameters)
    if recipe.inputs != inputs:
        raise InvalidRecipe("a recipe uses its inputs in another order than it names them")
    return recipe


def _put(out: bytearray, *values: int) -> None:
    for value in values:
        left = value
        while left > 127:
            out.append(left & 127 | 128)
            left >>= 7
        out.append(left)


def _put_arrangement(out: bytearray, arrangement: Arrangement | None, rounded: int) -> None:
    if arrangement is None:
        _put(out, rounded)
    elif isinstance(arrangement, Axes):
        _put(out, rounded + 1, len(arrangement.shape), *arrangement.shape, *arrangement.order)
    elif isinstance(arrangement, Rows):
        _put(out, rounded + 2, arrangement.row_elements)
        _put_runs(out, arrangement.runs)
    else:
        _put(out, rounded + 3, arrangement.row_elements)
        _put_runs(out, arrangement.runs)
        _put_runs(out, arrangement.columns)


def _put_runs(out: bytearray, runs: tuple[tuple[int, int], ...]) -> None:
    _put(out, len(runs))
    # Where a run starts, counted from where the one before it ended: mostly a small number.
    ends = [0, *(first + count for first, count in runs)]
    for (first, count), end in zip(runs, ends, strict=False):
        _put(out, 2 * (first - end) if first >= end else 2 * (end - first) - 1, count)


class _Numbers:
    """Takes numbers off the front of a recipe."""

    def __init__(self, packed: bytes) -> None:
        self._packed = packed
        self._at = 0

    def take(self, most: int = _LIMIT) -> int:
        """Returns the next number. Raises InvalidRecipe where there is none, or one beyond
        `most`."""
        value = shift = 0
        while True:
            byte = self.take_bytes(1)[0]
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
            if shift > 49:
                raise InvalidRecipe("a recipe has a number that is too long")
        if value > most or (byte == 0 and shift > 7):
            raise InvalidRecipe(f"a recipe has the number {value} where at most {most} is allowed")
        return value

    def take_bytes(self, count: int) -> bytes:
        """Returns the next bytes. Raises InvalidRecipe where there are not so many."""
        if count > len(self._packed) - self._at:
            raise InvalidRecipe("a recipe ends too early")
        self._at += count
        return self._packed[self._at - count : self._at]

    def finish(self) -> None:
        """Raises InvalidRecipe where something is left."""
        if self._at != len(self._packed):
            raise InvalidRecipe("a recipe has bytes after its end")

    @property
    def left(self) -> int:
        """How many bytes there are still."""
        return len(self._packed) - self._at


def _take_operand(numbers: _Numbers, inputs: tuple[bytes, ...]) -> Operand:
    dtype = BY_ID.get(numbers.take(255))
    if dtype is None:
        raise InvalidRecipe("a recipe names a dtype that this reader does not know")
    ratio = numbers.take(1 << 32), numbers.take(1 << 32)
    if not ratio[1]:
        raise InvalidRecipe("a recipe has an operand of no ratio")
    offset = numbers.take()
    rounded, kind = divmod(numbers.take(_KINDS * len(ROUNDED) - 1), _KINDS)
    arrangement = _take_arrangement(numbers, kind)
    count = numbers.take(min(MOST_PIECES, numbers.left))
    pieces = tuple(_take_piece(numbers, inputs) for _ in range(count))
    return Operand(dtype.name, pieces, offset, ratio, arrangement, ROUNDED[rounded])


def _take_piece(numbers: _Numbers, inputs: tuple[bytes, ...]) -> Piece:
    place, raw_bytes = numbers.take(), numbers.take(MOST_PIECE_BYTES)
    if place >= len(inputs):
        raise InvalidRecipe("a recipe uses an input that it does not name")
    return Piece(inputs[place], raw_bytes)


def _take_arrangement(numbers: _Numbers, kind: int) -> Arrangement | None:
    if kind == 0:
        return None
    if kind == 1:
        return _take_axes(numbers)
    row_elements = numbers.take()
    runs = tuple(_take_runs(numbers))
    return (
        Rows(row_elements, runs)
        if kind == 2
        else Grid(row_elements, runs, tuple(_take_runs(numbers)))
    )


def _take_axes(numbers: _Numbers) -> Axes:
    count = numbers.take(MOST_AXES)
    shape = tuple(numbers.take() for _ in range(count))
    order = tuple(numbers.take(MOST_AXES) for _ in range(count))
    if sorted(order) != list(range(count)) or prod(shape) > _LIMIT:
        raise InvalidRecipe("a recipe has axes that are none")
    return Axes(shape, order)


def _take_runs(numbers: _Numbers) -> Iterator[tuple[int, int]]:
    end = 0
    for _ in range(numbers.take(min(MOST_RUNS, numbers.left))):
        step, length = numbers.take(), numbers.take()
        first = end - (step + 1) // 2 if step % 2 else end + step // 2
        if first < 0:
            raise InvalidRecipe("a recipe has a run before the first row")
        yield first, length
        end = first + length


def merge_runs(rows: list[int]) -> tuple[tuple[int, int], ...]:
    """Returns rows by number as runs of (first row, count)."""
    starts = [0, *(i for i, (a, b) in enumerate(pairwise(rows), 1) if b != a + 1), len(rows)]
    return tuple((rows[a], b - a) for a, b in pairwise(starts) if b > a)
