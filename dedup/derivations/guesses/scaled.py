"""Guesses codes that a source gives with scales that lie beside them: FP8, integers of 8 and 4 bits
(compressed-tensors, ONNX, bitsandbytes, GPTQ, AWQ, torchao)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from heapq import nsmallest
from itertools import product

import numpy as np

from ..operations.floats.formats import NAMES as FLOATS
from ..operations.scaled.places import LITERAL
from ..operations.scaled.quantise import (
    BY_INVERSE,
    BY_INVERSE_TIMES,
    BY_QUOTIENT,
    DIVIDE,
    MULTIPLY,
    NO_ZERO,
    ONE_ZERO,
    PACKED_ZEROS,
    ZEROS,
    Scheme,
)
from .codes import PACKED, WHOLE, Layout, layouts, sample_codes
from .kinds import Formula, Match, Part, Pool, Ranked, View, rank
from .layouts import places_in_source
from .scales import Fit, Sample, find_fit, find_roundings
from .tensors import Target

QUANTISE = (2, 1)
"""Number and version of the operation."""
_SAMPLE = 512
# Sources whose scales are looked for.
_MOST_MATCHES = 3
# What stored numbers are divided by to give scales, besides 1: the largest code.
_DIVISORS = (127.0, 448.0, 127.5, 128.0, 57344.0, 240.0, 7.0, 7.5, 8.0, 15.0, 255.0)
# How far a factor that was measured may be off, and how many of those that are near are tried.
_SAME = 0.03
_MOST_DIVISORS = 2
_NARROW = ("BF16", "F16")
_TWO_BYTES = 16


class Scaled:
    """Codes of a float tensor."""

    any_size = False

    def takes(self, dtype: str) -> bool:
        """See Kind.takes."""
        return dtype in WHOLE or dtype in PACKED

    def views(self, target: Target) -> Iterator[View]:
        """Yields the codes in each way in which they may lie: their order is that of the values,
        but for where scales differ."""
        for layout in layouts(target.tensor):
            yield _view(target, layout)

    def guesses(self, target: Target, pool: Pool) -> Iterator[Ranked]:
        """Yields the operation with the scales and zero points that fit, and each rule by which
        programs apply these."""
        for layout in layouts(target.tensor):
            found = (
                match
                for match in pool.matches(target, _view(target, layout))
                if match.arrangement is None or layout.axes is None
            )
            for match in nsmallest(_MOST_MATCHES, found, key=lambda m: rank(target.tensor, m)):
                sample = _sample(target, layout, match)
                fit = find_fit(target, layout, sample)
                if fit is not None:
                    for source in _sources(target, layout, match, fit, sample):
                        for guess in _propose(target, layout, source, fit):
                            yield rank(target.tensor, match), guess


def _sources(
    target: Target, layout: Layout, match: Match, fit: Fit, sample: Sample
) -> Iterator[Part]:
    """Yields the source as an operand, rounded to what a copy of it may have been."""
    arrangement = layout.arrange(match.arrangement)
    is_wide = match.source.bits > _TWO_BYTES
    for rounded in find_roundings(fit, sample, target.tensor.dtype) if is_wide else (None,):
        yield Part(match.source, (layout.per, 1), arrangement, rounded)


def _view(target: Target, layout: Layout) -> View:
    return View(
        layout.shape,
        lambda places: layout.read_as_source(target, places),
        lambda source: source.dtype in FLOATS and source.bits >= _TWO_BYTES,
    )


def _sample(target: Target, layout: Layout, match: Match) -> Sample:
    numbers = sample_codes(layout, _SAMPLE)
    places = places_in_source(layout.arrange(match.arrangement), numbers)
    values = target.read.values(match.source)(places)
    codes = layout.read(target, numbers)
    return Sample(numbers, codes.astype(np.float64), values.astype(np.float64))


def _propose(target: Target, layout: Layout, source: Part, fit: Fit) -> Iterator[Formula]:
    base = _scheme(layout, fit)
    only = float(target.read.values(fit.tensor)(np.zeros(1, np.intp))[0])
    for scheme in _rules(base, source, fit, only):
        parts = [source]
        if scheme.place.kind != LITERAL:
            parts.append(Part(fit.tensor, (0, 1)))
        if fit.zeros.tensor is not None:
            parts.append(Part(fit.zeros.tensor, (0, 1)))
        yield Formula(QUANTISE, tuple(parts), _parameters(scheme, layout.per), target.tensor)


def _parameters(scheme: Scheme, per: int) -> Callable[[int], bytes]:
    """Returns what packs a scheme for a chunk that begins with some element."""

    def pack(first: int) -> bytes:
        return replace(scheme, place=replace(scheme.place, start=first * per)).pack()

    return pack


def _scheme(layout: Layout, fit: Fit) -> Scheme:
    """Returns all of a scheme but the rule."""
    zeros, bits = fit.zeros, layout.bits or 8
    kind = ONE_ZERO if zeros.constant else NO_ZERO
    if zeros.tensor is not None:
        kind = PACKED_ZEROS if zeros.packed else ZEROS
    low, high = (-128, 127) if layout.tensor.dtype == "I8" else (0, (1 << bits) - 1)
    return Scheme(
        place=fit.place,
        zero=kind,
        zero_constant=zeros.constant,
        low=low,
        high=high,
        bits=layout.bits,
        order=layout.order,
    )


def _rules(base: Scheme, source: Part, fit: Fit, only: float) -> Iterator[Scheme]:
    """Yields schemes with each rule that may apply scales that are stored so, the likeliest
    first."""
    widths = dict.fromkeys(("F32", source.rounded or source.tensor.dtype, fit.tensor.dtype))
    arithmetics = [dtype for dtype in widths if dtype == "F32" or dtype in _NARROW]
    for arithmetic, (rule, constant) in product(arithmetics, _how(fit)):
        scheme = replace(base, arithmetic=arithmetic, rule=rule, constant=constant)
        yield replace(scheme, scale=only) if base.place.kind == LITERAL else scheme
    if base.place.kind == LITERAL and not fit.inverse and abs(fit.factor - 1) < _SAME:
        # What elements were multiplied by, of which the inverse is stored.
        with np.errstate(all="ignore"):
            factor = np.float32(1) / np.float32(only)
        ends = np.float32(0), np.float32(np.inf)
        for near in (factor, *(np.nextafter(factor, end) for end in ends)):
            yield replace(base, rule=MULTIPLY, scale=float(near))
    if base.zero != NO_ZERO:
        for rule, _ in _how(fit):
            yield replace(base, rule=rule, adds_first=True, scale=only)


def _how(fit: Fit) -> list[tuple[int, float]]:
    """Returns rules and constants by which stored numbers, times the factor, are scales."""
    if abs(fit.factor - 1) < _SAME:
        return [(MULTIPLY, 1.0)] if fit.inverse else [(DIVIDE, 1.0), (BY_INVERSE, 1.0)]
    if fit.inverse:
        return []
    away = {divisor: abs(fit.factor * divisor - 1) for divisor in _DIVISORS}
    near = sorted((far, divisor) for divisor, far in away.items() if far < _SAME)
    return [
        (rule, divisor)
        for _, divisor in near[:_MOST_DIVISORS]
        for rule in (BY_QUOTIENT, BY_INVERSE_TIMES)
    ]


KIND = Scaled()
