"""Finds the scales and zero points of codes among the tensors beside them, by what they must be.

A code q stands for (q - z) s. Given some elements x of the source, x / (q - z) is near the scale of
each; a tensor that holds scales, or a multiple of them, or their inverses, is recognised by that.
Names only say where to look first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ....codecs.buffers import freeze
from ....codecs.dtypes import find_dtype
from ..operations.floats.arithmetic import round_all
from ..operations.floats.formats import NAMES as FLOATS
from ..operations.floats.formats import read_floats, write_floats
from ..operations.scaled import packing
from ..operations.scaled.places import Place
from .codes import Layout, find_place
from .tensors import StoredTensor, Target

Numbers = NDArray[np.float64]

# Tensors that are looked at before and after a target in the order of names, and others.
_NEAR_NAMES = 24
_MOST_OTHERS = 64
# Elements of scales and zero points that are read at most.
_MOST_READ = 1 << 22
# Codes are off by half, and a little more where the scale was rounded, too.
_FAR = 0.6
# A code of FP8 stands for what is up to 1/16 away, of E5M2 1/8.
_FAR_SHARE = {"F8_E4M3": 0.08, "F8_E5M2": 0.16}
# The share of codes that must be near.
_LEAST_NEAR = 0.93
_MOST_ZERO = 1 << 15
# Differences among the codes of a sample that tell nothing.
_BY_CHANCE = 0.01
# Codes but zero that scales are measured by.
_LEAST_USABLE = 16


@dataclass(frozen=True, slots=True)
class Sample:
    """Some codes of a target by their numbers, and the source's elements that they stand for."""

    numbers: NDArray[np.intp]
    codes: Numbers
    values: Numbers


@dataclass(frozen=True, slots=True)
class Zeros:
    """Zero points: `constant`, or what a tensor holds and `constant` beside it; packed like the
    codes or not."""

    constant: int = 0
    tensor: StoredTensor | None = None
    packed: bool = False


@dataclass(frozen=True, slots=True)
class Fit:
    """Scales that fit a sample: x is near stored * factor * (code - zero), or, if `inverse`, near
    (code - zero) * factor / stored. `steps`: what elements of the sample are divided by; `points`:
    their zero points."""

    tensor: StoredTensor
    place: Place
    zeros: Zeros
    factor: float
    inverse: bool
    near: float
    steps: Numbers
    points: Numbers


def find_fit(target: Target, layout: Layout, sample: Sample) -> Fit | None:
    """Returns the scales that fit best, None where none do."""
    best: Fit | None = None
    for tensor, place in _candidates(target, layout):
        stored = target.read.values(tensor)(np.arange(tensor.elements)).astype(np.float64)
        where = find_place(place, sample.numbers)
        if where.max() >= stored.size:
            continue
        points_of = _zero_points(target, layout, tensor, where, sample, stored)
        for zeros, points in points_of:
            fit = _measure(tensor, place, zeros, stored[where], points, sample, layout)
            if fit is not None and (best is None or fit.near > best.near + 0.01):
                best = fit
        if best is not None and best.near > 0.995:
            break
    return best


def _candidates(target: Target, layout: Layout) -> Iterator[tuple[StoredTensor, Place]]:
    """Yields tensors that may hold scales, those with the nearest names first."""
    seen: set[str] = set()
    for tensor in (*_by_name(target), *_by_count(target, layout)):
        if tensor.name in seen or tensor.dtype not in FLOATS or tensor.elements > _MOST_READ:
            continue
        seen.add(tensor.name)
        for place in layout.places(tensor.elements):
            yield tensor, place


def _by_name(target: Target) -> list[StoredTensor]:
    name = target.tensor.name
    near = target.companions.near(name, _NEAR_NAMES)
    return sorted(near, key=lambda tensor: -_shared(name, tensor.name))


def _shared(one: str, other: str) -> int:
    """Returns how many characters two names begin with alike."""
    for at, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return at
    return min(len(one), len(other))


def _by_count(target: Target, layout: Layout) -> Iterator[StoredTensor]:
    tiles = -(-layout.rows // 128) * -(-layout.columns // 128)
    for count in dict.fromkeys((layout.rows, layout.columns, tiles)):
        yield from target.companions.by_elements.get(count, [])[:_MOST_OTHERS]


def _zero_points(
    target: Target,
    layout: Layout,
    scales: StoredTensor,
    where: NDArray[np.intp],
    sample: Sample,
    stored: Numbers,
) -> Iterator[tuple[Zeros, Numbers]]:
    """Yields zero points that may belong to scales, and that of each code of a sample."""
    nothing = np.zeros(sample.codes.size)
    if target.tensor.dtype == "I8" or target.tensor.dtype in FLOATS:
        yield Zeros(), nothing
    else:
        bits = layout.bits or 8
        yield Zeros(1 << (bits - 1)), nothing + (1 << (bits - 1))
    if target.tensor.dtype in FLOATS:
        return
    if scales.elements == 1 and stored[0] > 0:
        # A single zero point is easily found, and some formats keep it out of sight.
        with np.errstate(all="ignore"):
            point = float(np.rint(np.median(sample.codes - sample.values / stored[0])))
        if abs(point) <= _MOST_ZERO:
            yield Zeros(int(point)), nothing + point
    else:
        for tensor in _by_name(target):
            if tensor.name != target.tensor.name:
                yield from _zeros_in(target, layout, tensor, scales.elements, where)


def _zeros_in(
    target: Target, layout: Layout, tensor: StoredTensor, count: int, where: NDArray[np.intp]
) -> Iterator[tuple[Zeros, Numbers]]:
    """Yields a tensor as zero points, one for each of `count` scales, if it can hold them."""
    if tensor.dtype in ("I8", "U8", "I32") and tensor.elements == count:
        points = target.read.values(tensor)(where).astype(np.float64)
        if np.ptp(points):
            yield Zeros(0, tensor), points
    elif layout.bits and tensor.elements * layout.per == count:
        points = _unpack(target, layout, tensor, where)
        if points is not None:
            yield Zeros(1, tensor, packed=True), points + 1
            yield Zeros(0, tensor, packed=True), points


def _unpack(
    target: Target, layout: Layout, tensor: StoredTensor, where: NDArray[np.intp]
) -> Numbers | None:
    if tensor.dtype != target.tensor.dtype:
        return None
    order = layout.order.ljust(packing.PLACES, b"\0")
    raw = target.read.raw(tensor, 0, tensor.elements)
    width = find_dtype(tensor.dtype).item_bytes
    return packing.unpack_codes(raw, layout.bits, order, width)[where].astype(np.float64)


def _measure(
    tensor: StoredTensor,
    place: Place,
    zeros: Zeros,
    stored: Numbers,
    points: Numbers,
    sample: Sample,
    layout: Layout,
) -> Fit | None:
    codes = sample.codes - points
    usable = (codes != 0) & np.isfinite(stored) & (stored != 0)
    if usable.sum() < _LEAST_USABLE:
        return None
    best: Fit | None = None
    for inverse in (False, True):
        with np.errstate(all="ignore"):
            units = 1 / stored if inverse else stored
            ideal = codes[usable] * units[usable]
            measured = float((sample.values[usable] * ideal).sum() / (ideal * ideal).sum())
        # Measured is less than 1 where codes are few: of those that are rounded to one most are
        # smaller.
        for factor in (1.0, measured):
            with np.errstate(all="ignore"):
                steps = units * factor
            near = _share_near(sample.values, steps, codes, layout.tensor.dtype)
            if near >= _LEAST_NEAR and (best is None or near > best.near):
                best = Fit(tensor, place, zeros, factor, inverse, near, steps, points)
    return best


def find_roundings(fit: Fit, sample: Sample, dtype: str) -> list[str | None]:
    """Returns the dtypes that the source may have been rounded to before it was coded, None for
    none, those first that give the most of the codes."""
    shares: dict[str | None, float] = {}
    for rounded in (None, "BF16", "F16"):
        values = round_all(freeze(sample.values.astype(np.float32)), rounded or "F32")
        with np.errstate(all="ignore"):
            quotients = freeze((values / fit.steps).astype(np.float32))
        codes = [_code(each, dtype) for each in (quotients, round_all(quotients, "BF16"))]
        shares[rounded] = max(float(np.mean(each + fit.points == sample.codes)) for each in codes)
    least = max(shares.values()) - _BY_CHANCE
    kept = [rounded for rounded in shares if shares[rounded] >= least]
    return sorted(kept, key=lambda rounded: -shares[rounded])


def _code(values: NDArray[np.float32], dtype: str) -> Numbers:
    """Returns the codes of scaled values, but for the zero point."""
    if dtype not in FLOATS:
        return np.rint(values).astype(np.float64)
    raw = np.empty(values.size, np.uint8)
    write_floats(values, dtype, True, raw)
    return read_floats(dtype, raw).astype(np.float64)


def _share_near(values: Numbers, units: Numbers, codes: Numbers, dtype: str) -> float:
    """Returns the share of codes that are near what they should be."""
    share = _FAR_SHARE.get(dtype)
    with np.errstate(all="ignore"):
        steps = values / units
        away = np.abs(steps - codes)
        if share is None:
            ends = (codes == codes.max()) | (codes == codes.min())
            return float(np.mean((away <= _FAR) | (ends & (np.abs(steps) >= np.abs(codes)))))
        return float(np.mean(away <= share * np.abs(codes) + 2.0**-6))
