"""Guesses weights that a stored adapter was merged into: a base plus the product of two small
matrices."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..operations.floats.formats import NAMES as FLOATS
from ..operations.merges import low_rank
from ..operations.values import Values
from .kinds import Formula, Part, Pool, Ranked, View, view_as_is
from .tensors import StoredTensor, Target

MERGE = (8, 1)
"""Number and version of the operation."""
_DTYPES = ("F32", "BF16", "F16")
_MOST_RANK = 512
_SAMPLED_ROWS = 32
_MOST_BASES = 3
_MOST_PAIRS = 24
# How much alike a product and the change are, at least: rounding to bf16 may add more than that.
_LEAST_LIKE = 0.2
_LEAST_EQUAL = 0.9
_PAIRS = "adapters"
Floats = NDArray[np.float64]
Pairs = dict[tuple[int, ...], list[tuple[StoredTensor, StoredTensor]]]


class Adapters:
    """A matrix that is another one and a product of two small ones."""

    any_size = True

    def takes(self, dtype: str) -> bool:
        """See Kind.takes."""
        return dtype in _DTYPES

    def views(self, target: Target) -> Iterator[View]:
        """Yields nothing: casts look for the target as it is, too."""
        yield from ()

    def guesses(self, target: Target, pool: Pool) -> Iterator[Ranked]:
        """Yields the pair and the scale that give most of the start of the target."""
        tensor = target.tensor
        pairs = _pairs(pool).get(tensor.shape, []) if len(tensor.shape) == 2 else []
        if not pairs:
            return

        def admits(source: StoredTensor) -> bool:
            return source.dtype == tensor.dtype and source.shape == tensor.shape

        matches = list(pool.matches(target, view_as_is(target, admits, arranged=False)))
        matches.sort(key=lambda match: (match.distance, match.source.name != tensor.name))
        pairs = sorted(pairs, key=lambda pair: -_likeness(tensor.name, pair[0].name))
        for match in matches[:_MOST_BASES]:
            if match.arrangement is None:
                found = _find(target, match.source, pairs[:_MOST_PAIRS])
                if found is not None:
                    yield (0.0, -tensor.bits, False), found
                    return


def _pairs(pool: Pool) -> Pairs:
    """Returns the small matrices that stand beside each other, by the shape of their product."""
    kept = pool.kept.get(_PAIRS)
    if kept is None:
        kept = pool.kept[_PAIRS] = _find_pairs(pool)
    assert isinstance(kept, dict)
    return kept


def _find_pairs(pool: Pool) -> Pairs:
    small = [
        tensor
        for tensor in pool.all_tensors()
        if tensor.dtype in FLOATS and len(tensor.shape) == 2 and min(tensor.shape) <= _MOST_RANK
    ]
    lefts: dict[tuple[str, int], list[StoredTensor]] = defaultdict(list)
    for tensor in small:
        if tensor.shape[1] < tensor.shape[0]:
            lefts[_stem(tensor.name), tensor.shape[1]].append(tensor)
    pairs: Pairs = defaultdict(list)
    for right in small:
        for left in lefts.get((_stem(right.name), right.shape[0]), ()):
            pairs[left.shape[0], right.shape[1]].append((right, left))
    return dict(pairs)


def _stem(name: str) -> str:
    """Returns a name without what tells the two matrices of an adapter apart."""
    for one, other in (("lora_A", "lora_B"), ("lora_down", "lora_up"), ("lora.down", "lora.up")):
        name = name.replace(other, one)
    return name


def _likeness(name: str, other: str) -> int:
    """Returns how many words of two names are the same."""
    return len(set(name.split(".")) & set(other.split(".")))


@dataclass(frozen=True, slots=True)
class _Sample:
    """Some rows of a target and its base, and how much more the target is."""

    rows: int
    columns: int
    wanted: Values
    base: Values
    more: Floats


def _find(
    target: Target, base: StoredTensor, pairs: Sequence[tuple[StoredTensor, StoredTensor]]
) -> Formula | None:
    sample = _read_sample(target, base)
    if sample is None:
        return None
    for right, left in pairs:
        scale = _scale(target, sample, right, left)
        if scale is None:
            continue
        share, parameters = max(_tries(target, sample, right, left, scale))
        if share < _LEAST_EQUAL:
            continue
        return _formula(target.tensor, (base, right, left), *parameters)
    return None


def _formula(
    target: StoredTensor,
    operands: tuple[StoredTensor, StoredTensor, StoredTensor],
    product: str,
    change: str,
    scale: float,
) -> Formula:
    base, right, left = operands
    rank, columns = right.shape
    parts = Part(base), Part(right, (0, 1)), Part(left, (0, 1))

    def parameters(first: int) -> bytes:
        return low_rank.pack_low_rank(rank, columns, scale, product, change, first)

    return Formula(MERGE, parts, parameters, target)


def _read_sample(target: Target, base: StoredTensor) -> _Sample | None:
    tensor = target.tensor
    columns = tensor.shape[1]
    rows = min(_SAMPLED_ROWS, tensor.shape[0])
    if tensor.count(tensor.pieces[0].raw_bytes) < rows * columns:
        return None
    places = np.arange(rows * columns, dtype=np.intp)
    mine, theirs = target.values(places), target.read.values(base)(places)
    more = (mine.astype(np.float64) - theirs).reshape(rows, columns)
    raw = [target.read.raw(each, 0, rows * columns) for each in (tensor, base)]
    wanted, given = Values(tensor.dtype, raw[0]), Values(base.dtype, raw[1])
    return _Sample(rows, columns, wanted, given, more) if np.isfinite(more).all() else None


def _scale(
    target: Target, sample: _Sample, right: StoredTensor, left: StoredTensor
) -> float | None:
    """Returns the factor of a product that the change is like; None where it is not."""
    rank = right.shape[0]
    a = _matrix(target, right)
    b = _matrix(target, left, sample.rows)
    product = b @ a
    norm, size = float((product**2).sum()), float((sample.more**2).sum())
    if not 0 < norm < np.inf or not size:
        return None
    scale = float((product * sample.more).sum()) / norm
    # Below 0 the target is what the adapter was merged into. The other way round is exact.
    if scale * np.sqrt(norm / size) < _LEAST_LIKE:
        return None
    # alpha / r, or alpha / sqrt(r): alpha is most often a whole number.
    for divisor in (rank, np.sqrt(rank)):
        alpha = np.rint(scale * divisor)
        if alpha and abs(alpha - scale * divisor) <= 0.02 * abs(alpha):
            return float(alpha / divisor)
    return scale


def _matrix(target: Target, tensor: StoredTensor, rows: int | None = None) -> Floats:
    count = (tensor.shape[0] if rows is None else rows) * tensor.shape[1]
    values = target.read.values(tensor)(np.arange(count, dtype=np.intp))
    return values.astype(np.float64).reshape(-1, tensor.shape[1])


def _tries(
    target: Target, sample: _Sample, right: StoredTensor, left: StoredTensor, scale: float
) -> Iterator[tuple[float, tuple[str, str, float]]]:
    """Yields roundings of the product and of the change, and the share of the sample that these
    give."""
    rank, columns = right.shape
    sides = [Values(t.dtype, target.read.raw(t, 0, t.elements)) for t in (right, left)]
    operands = [sample.base, *sides]
    names = [each.dtype for each in operands]
    dtype = target.tensor.dtype
    for product, change in {("F32", "F32"), ("F32", dtype), (dtype, dtype)}:
        packed = low_rank.pack_low_rank(rank, columns, scale, product, change)
        low_rank.OPERATION.check(names, dtype, packed)
        out = np.empty(sample.wanted.raw.size, np.uint8)
        low_rank.OPERATION.predict(operands, dtype, 0, packed, out)
        equal = (out == sample.wanted.raw).reshape(-1, target.tensor.unit).all(axis=1)
        yield float(equal.mean()), (product, change, scale)


KIND = Adapters()
