"""Guesses codes of four bits whose groups are coded from the source alone, and the scales of these
groups: bitsandbytes' NF4 and FP4, and MLX."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from heapq import nsmallest

import numpy as np
from numpy.typing import NDArray

from ..operations.floats.formats import NAMES as FLOATS
from ..operations.scaled.affine import BIASES, CODES, SCALES, pack_affine
from ..operations.scaled.codebook import (
    BY_INVERSE,
    DIVIDED,
    FP4,
    FP4_CROSSED,
    NF4,
    NF4_VALUES,
    pack_codebook,
)
from ..operations.scaled.group_scales import Grouping
from ..operations.scaled.nested_scales import pack_nested
from .kinds import Formula, Match, Part, Pool, Ranked, View, rank, with_rounded
from .tensors import StoredTensor, Target

GROUP_SCALES, AFFINE, CODEBOOK, NESTED = (3, 1), (4, 1), (5, 1), (6, 1)
"""Numbers and versions of the operations."""
_MOST_MATCHES = 2
_TWO_BYTES = 16
# What the codes of FP4 stand for, those with the sign bit after the others.
_FP4_SIZES = (0, 1 / 192, 2 / 3, 1, 1 / 3, 1 / 2, 1 / 6, 1 / 4)
_TABLES = {
    "nf4": np.array(NF4_VALUES, np.float32),
    "fp4": np.array([*_FP4_SIZES, *(-size for size in _FP4_SIZES)], np.float32),
}
_KINDS = {"nf4": (NF4,), "fp4": (FP4, FP4_CROSSED)}
# Longest description of how a matrix was quantised.
_MOST_STATE_BYTES = 4096
_MOST_GROUP = 1 << 16
_USUAL_GROUP = 64


class Bitsandbytes:
    """NF4 or FP4 codes, the peaks of their groups, and the codes of these peaks."""

    any_size = False

    def takes(self, dtype: str) -> bool:
        """See Kind.takes."""
        return dtype in ("U8", "F32")

    def views(self, target: Target) -> Iterator[View]:
        """Yields the values of the codes that the target is, or is beside."""
        matrix = _find_matrix(target)
        if matrix is not None:
            yield _view(target, matrix)

    def guesses(self, target: Target, pool: Pool) -> Iterator[Ranked]:
        """Yields what gives codes or peaks."""
        matrix = _find_matrix(target)
        if matrix is None:
            return
        found = pool.matches(target, _view(target, matrix))
        for match in nsmallest(_MOST_MATCHES, found, key=lambda m: rank(target.tensor, m)):
            if match.arrangement is None:
                for formula in _propose(target, matrix, match):
                    for guess in with_rounded(formula):
                        yield rank(target.tensor, match), guess


@dataclass(frozen=True, slots=True)
class _Matrix:
    """A matrix of codes of four bits: `codes`, the `shape` of its source, the name of its table,
    and the elements of a group. `nested`: groups of a block and offset, where peaks are codes."""

    codes: StoredTensor
    shape: tuple[int, ...]
    table: str
    group: int
    nested: tuple[int, float] | None


def _find_matrix(target: Target) -> _Matrix | None:
    """Returns the matrix that the target is part of, by the names that the library gives."""
    tensor, named = target.tensor, target.companions.named
    stem = tensor.name.removesuffix(".absmax")
    codes = named.get(stem)
    if codes is None or codes.dtype != "U8":
        return None
    if tensor.name == stem and codes.shape != (codes.elements, 1):
        return None
    for table in _TABLES:
        state = named.get(f"{stem}.quant_state.bitsandbytes__{table}")
        if state is not None and state.elements <= _MOST_STATE_BYTES:
            return _parse_state(codes, table, target.read.raw(state, 0, state.elements).tobytes())
    # Without a description: what is usual.
    return _Matrix(codes, (2 * codes.elements,), "nf4", _USUAL_GROUP, None)


def _parse_state(codes: StoredTensor, table: str, text: bytes) -> _Matrix | None:
    """Returns what a description says; None where it does not fit the codes."""
    try:
        state = json.loads(text)
        shape = tuple(int(side) for side in state["shape"])
        group = int(state["blocksize"])
        nested = None
        if "nested_offset" in state:
            nested = int(state["nested_blocksize"]), float(state["nested_offset"])
            struct.pack("<f", nested[1])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    matrix = _Matrix(codes, shape, table, group, nested)
    sizes = (group, nested[0]) if nested else (group,)
    fits = all(0 < size <= _MOST_GROUP for size in sizes) and group % 2 == 0
    return matrix if fits and len(shape) <= 8 and _count(shape) == 2 * codes.elements else None


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for side in shape:
        count *= side if 0 <= side < 1 << 40 else 0
    return count


def _view(target: Target, matrix: _Matrix) -> View:
    table = _TABLES[matrix.table]

    def read(places: NDArray[np.intp]) -> NDArray[np.float32]:
        both = target.read.items(matrix.codes, places // 2).reshape(-1)
        # The first of two is in the upper half.
        return table[np.where(places % 2, both & 15, both >> 4)]

    return View(matrix.shape, read, _is_float)


def _is_float(source: StoredTensor) -> bool:
    return source.dtype in FLOATS and source.bits >= _TWO_BYTES


def _propose(target: Target, matrix: _Matrix, match: Match) -> Iterator[Formula]:
    tensor, group = target.tensor, matrix.group
    if tensor.name == matrix.codes.name:
        for kind in _KINDS[matrix.table]:
            for scaling in (BY_INVERSE, DIVIDED):
                packed = pack_codebook(kind, group, scaling)
                yield _formula(target, CODEBOOK, match, 2, packed)
    elif matrix.nested is None:
        grouping = Grouping(group, constant=1.0)
        yield _formula(target, GROUP_SCALES, match, group, grouping.pack())
    else:
        block, offset = matrix.nested
        named = target.companions.named
        blocks = named.get(f"{matrix.codes.name}.nested_absmax")
        table = named.get(f"{matrix.codes.name}.nested_quant_map")
        if blocks is not None and table is not None:
            packed = pack_nested(offset, group, block)
            formula = _formula(target, NESTED, match, group, packed)
            more = (Part(blocks, (1, block)), Part(table, (0, 1)))
            yield replace(formula, parts=formula.parts + more)


class Mlx:
    """MLX's codes, scales or biases, all of which the source gives."""

    any_size = False

    def takes(self, dtype: str) -> bool:
        """See Kind.takes."""
        return dtype in ("U32", "F32", "F16", "BF16")

    def views(self, target: Target) -> Iterator[View]:
        """Yields the values of the codes that the target is, or is beside."""
        for groups in _find_groups(target):
            yield _view_groups(target, groups)

    def guesses(self, target: Target, pool: Pool) -> Iterator[Ranked]:
        """Yields what gives codes, scales or biases."""
        for groups in _find_groups(target):
            found = pool.matches(target, _view_groups(target, groups))
            gives = groups.part(target.tensor)
            each = 32 // groups.bits if gives == CODES else groups.group
            for match in nsmallest(_MOST_MATCHES, found, key=lambda m: rank(target.tensor, m)):
                if match.arrangement is None:
                    packed = pack_affine(gives, groups.bits, groups.group)
                    for guess in with_rounded(_formula(target, AFFINE, match, each, packed)):
                        yield rank(target.tensor, match), guess


@dataclass(frozen=True, slots=True)
class _Groups:
    """A matrix of MLX: codes of `bits` in words, a scale and a bias for each `group` of them."""

    codes: StoredTensor
    scales: StoredTensor
    biases: StoredTensor
    bits: int
    group: int

    @property
    def per(self) -> int:
        """How many codes a word holds."""
        return 32 // self.bits

    def part(self, tensor: StoredTensor) -> int:
        """Returns which part of the matrix a tensor is."""
        names = {self.codes.name: CODES, self.scales.name: SCALES, self.biases.name: BIASES}
        return names[tensor.name]


def _find_groups(target: Target) -> Iterator[_Groups]:
    """Yields the matrices that the target may be part of, by the names that the library gives."""
    name, named = target.tensor.name, target.companions.named
    stem, _, end = name.rpartition(".")
    if end not in ("weight", "scales", "biases"):
        return
    codes, scales, biases = (named.get(f"{stem}.{e}") for e in ("weight", "scales", "biases"))
    if codes is None or scales is None or biases is None or codes.dtype != "U32":
        return
    if scales.elements != biases.elements or scales.dtype not in FLOATS or not scales.elements:
        return
    for bits in (4, 8, 2):
        group, left = divmod(codes.elements * 32 // bits, scales.elements)
        if not left and group in (32, 64, 128):
            yield _Groups(codes, scales, biases, bits, group)


def _view_groups(target: Target, groups: _Groups) -> View:
    scales, biases = target.read.values(groups.scales), target.read.values(groups.biases)

    def read(places: NDArray[np.intp]) -> NDArray[np.float32]:
        words = target.read.items(groups.codes, places // groups.per).view("<u4").reshape(-1)
        shifts = (places % groups.per * groups.bits).astype(np.uint32)
        codes = words >> shifts & np.uint32((1 << groups.bits) - 1)
        place = places // groups.group
        with np.errstate(all="ignore"):
            return codes.astype(np.float32) * scales(place) + biases(place)

    shape = groups.codes.shape
    return View((*shape[:-1], shape[len(shape) - 1] * groups.per), read, _is_float)


def _formula(
    target: Target, operation: tuple[int, int], match: Match, each: int, parameters: bytes
) -> Formula:
    """Returns an operation that makes an element of the target of `each` elements of the source."""
    parts = (Part(match.source, (each, 1)),)
    return Formula(operation, parts, lambda _: parameters, target.tensor)


BITSANDBYTES, MLX = Bitsandbytes(), Mlx()
