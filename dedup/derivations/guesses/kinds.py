"""What a kind of guess is: how it looks at a target, and what it proposes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import Protocol

from ..operations.values import Raw
from ..recipe import MAX_INPUTS, Arrangement, Operand, Recipe
from .tensors import FirstSketch, ReadValues, StoredTensor, Target

_NARROW_BITS = 16


@dataclass(frozen=True, slots=True)
class View:
    """The values of what a target was computed from, as the target shows them, by their places in
    the `shape` that the source has or is turned into; `admits` says which tensors may be sources.
    `sketch`: what is known of these values without reading them. `arranged`: sources that lie in
    another way are looked for, too, dozens of ways each."""

    shape: tuple[int, ...]
    read: ReadValues
    admits: Callable[[StoredTensor], bool]
    sketch: FirstSketch | None = None
    arranged: bool = True

    @property
    def elements(self) -> int:
        """How many elements the source has."""
        return prod(self.shape)


def view_as_is(
    target: Target, admits: Callable[[StoredTensor], bool], *, arranged: bool = True
) -> View:
    """Returns the view of a target's own values."""
    return View(target.tensor.shape, target.values, admits, target.sketch, arranged)


@dataclass(frozen=True, slots=True)
class Match:
    """A tensor that a view is like, how it must be arranged, and what share of the sketch
    differs."""

    source: StoredTensor
    arrangement: Arrangement | None
    distance: float


class Pool(Protocol):
    """The tensors that a target may be computed from: those that were found by its views, those of
    its own revision, and of the revisions that its commit names."""

    @property
    def kept(self) -> dict[object, object]:
        """What kinds keep from one target to the next, under keys of their own."""
        ...

    def matches(self, target: Target, view: View) -> Iterator[Match]:
        """Yields those of as many elements that the view admits and is like."""
        ...

    def all_tensors(self) -> Iterator[StoredTensor]:
        """Yields all of them, of any shape, for kinds with `any_size`."""
        ...


class Guess(Protocol):
    """A way to compute a target from tensors in the store."""

    @property
    def sources(self) -> tuple[StoredTensor, ...]:
        """What tells most of the target, without its companions."""
        ...

    @property
    def inputs(self) -> tuple[StoredTensor, ...]:
        """All tensors that recipes read."""
        ...

    def recipe(self, first: int, raw: Raw) -> Recipe | None:
        """Returns the recipe of the elements of the target from `first` on, whose bytes are `raw`;
        None where there is none, as when it would name too many inputs."""
        ...


@dataclass(frozen=True, slots=True)
class Part:
    """An operand of a formula: for the elements [a, b) of the target, those from a n div d to
    b n div d of a tensor, arranged; all of it where n is 0 ((n, d) is `ratio`), rounded to a dtype
    or not."""

    tensor: StoredTensor
    ratio: tuple[int, int] = (1, 1)
    arrangement: Arrangement | None = None
    rounded: str | None = None

    def operand(self, first: int, count: int) -> Operand | None:
        """Returns the operand for `count` elements of the target from `first` on; None where they
        begin within what one element of the tensor is for."""
        tensor, (n, d) = self.tensor, self.ratio
        if first * n % d:
            return None
        start, stop = first * n // d, -(-(first + count) * n // d)
        if self.arrangement is not None or not n:
            # A tensor of a bundle is the last in what is read of it, as all of it is read.
            pieces, offset = tensor.pieces, tensor.offset + start
        else:
            pieces, offset = tensor.covering(start, stop)
        return Operand(tensor.dtype, pieces, offset, self.ratio, self.arrangement, self.rounded)


@dataclass(frozen=True, slots=True)
class Formula:
    """A guess: an operation by number and version, its operands, the first of which is the source,
    and its parameters, which may depend on where in the target a chunk begins."""

    operation: tuple[int, int]
    parts: tuple[Part, ...]
    parameters: Callable[[int], bytes]
    target: StoredTensor

    @property
    def sources(self) -> tuple[StoredTensor, ...]:
        """The first operand."""
        return (self.parts[0].tensor,)

    @property
    def inputs(self) -> tuple[StoredTensor, ...]:
        """All operands."""
        return tuple(part.tensor for part in self.parts)

    def recipe(self, first: int, raw: Raw) -> Recipe | None:
        """See Guess.recipe."""
        operands: list[Operand] = []
        for part in self.parts:
            operand = part.operand(first, self.target.count(raw.size))
            if operand is None:
                return None
            operands.append(operand)
        recipe = Recipe(*self.operation, tuple(operands), self.parameters(first))
        return recipe if len(recipe.inputs) <= MAX_INPUTS else None


def with_rounded(formula: Formula) -> Iterator[Formula]:
    """Yields a formula, and the same with its source rounded to narrower dtypes: what a copy was
    made of may be stored as a wider tensor that it was a copy of."""
    yield formula
    source, *others = formula.parts
    if source.tensor.bits > _NARROW_BITS:
        for dtype in ("BF16", "F16"):
            parts = (replace(source, rounded=dtype), *others)
            yield replace(formula, parts=parts)


Ranked = tuple[tuple[float, float, bool], Guess]
"""A guess, and how far down it stands: by the distance of its source, then the bits of it,
negative, then whether its name differs."""


class Kind(Protocol):
    """A kind of guess. `any_size`: its sources need not have as many elements as a view."""

    any_size: bool

    def takes(self, dtype: str) -> bool:
        """Tells whether a tensor of this dtype may be what this kind guesses."""
        ...

    def views(self, target: Target) -> Iterable[View]:
        """Yields how the target can be looked for by content; nothing is as good as nothing."""
        ...

    def guesses(self, target: Target, pool: Pool) -> Iterator[Ranked]:
        """Yields what may give the target from what is in the pool."""
        ...


def rank(target: StoredTensor, match: Match) -> tuple[float, float, bool]:
    """Returns how far down a guess from this match stands."""
    return match.distance, -match.source.bits, match.source.name != target.name
