"""Codes of a source by scales and zero points that are given (FORMAT.md, "Operations: scaled
codes")."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field

import numpy as np
from numpy.typing import NDArray

from .....codecs.buffers import freeze
from .....codecs.jit.cached import njit
from ..errors import InvalidRecipe
from ..floats.arithmetic import ARITHMETIC, round_all
from ..floats.formats import NAMES, Floats, fit, read_floats, write_floats
from ..values import Raw, Values
from . import packing
from .places import LITERAL, Place, spread

DIVIDE, MULTIPLY, BY_INVERSE, BY_INVERSE_TIMES, BY_QUOTIENT = range(5)
"""How an element x is scaled by s and the constant c: x / s, x * s, x * (1 / s),
x * ((1 / s) * c), x * (c / s)."""
NO_ZERO, ONE_ZERO, ZEROS, PACKED_ZEROS = range(4)
_EIGHT_BITS = ("F8_E4M3", "F8_E5M2", "I8", "U8")
_INTEGERS = {"I8": np.int8, "U8": np.uint8, "I32": np.int32}
_STRUCT = struct.Struct("<BBBBBBffiii16s6Q")


@dataclass(frozen=True, slots=True)
class Scheme:
    """The parameters of `quantise`.

    `arithmetic`: the dtype that every step is rounded to. `rule`: DIVIDE to BY_QUOTIENT.
    `constant`: c. `scale`: the only one, where `place` is LITERAL. `zero`: NO_ZERO to PACKED_ZEROS;
    `zero_constant` is added to each zero point. `adds_first`: zero points are added before
    rounding. `low`, `high`: the range of codes. `bits`: of a packed code, 0 for whole elements;
    `order`: see `packing`, of packed zero points, too.
    """

    arithmetic: str = "F32"
    rule: int = DIVIDE
    constant: float = 1.0
    scale: float = 1.0
    place: Place = field(default_factory=lambda: Place(LITERAL))
    zero: int = NO_ZERO
    zero_constant: int = 0
    adds_first: bool = False
    low: int = -128
    high: int = 127
    bits: int = 0
    order: bytes = b""

    def pack(self) -> bytes:
        """Returns the parameters' bytes."""
        kind, *numbers = astuple(self.place)
        arithmetic = ARITHMETIC.index(self.arithmetic)
        flags = self.zero | self.adds_first << 7
        bytes_ = arithmetic, self.rule, kind, flags, self.bits, 0
        values = self.constant, self.scale, self.zero_constant, self.low, self.high
        return _STRUCT.pack(*bytes_, *values, self.order.ljust(packing.PLACES, b"\0"), *numbers)


def parse_scheme(parameters: bytes) -> Scheme:
    """Mirrors `Scheme.pack`. Raises InvalidRecipe for what it does not write."""
    if len(parameters) != _STRUCT.size:
        raise InvalidRecipe("parameters of another length than a scheme's")
    arithmetic, rule, kind, flags, bits, nothing, *rest = _STRUCT.unpack(parameters)
    constant, scale, zero_constant, low, high, order, *numbers = rest
    if arithmetic >= len(ARITHMETIC) or rule > BY_QUOTIENT or nothing:
        raise InvalidRecipe("a scheme with unknown rules")
    place = Place(kind, *numbers)
    place.check()
    zero = flags & 127
    if zero > PACKED_ZEROS or not -(1 << 16) <= zero_constant <= 1 << 16 or low > high:
        raise InvalidRecipe("a scheme with impossible zero points")
    name, adds_first = ARITHMETIC[arithmetic], bool(flags >> 7)
    numbers = (zero, zero_constant, adds_first, low, high, bits, order)
    return Scheme(name, rule, constant, scale, place, *numbers)


class Quantise:
    """Operands: the source; scales, unless there is one literal; zero points, if the scheme says
    so."""

    name = "quantise"

    def check(self, dtypes: Sequence[str], dtype: str, parameters: bytes) -> None:
        """Raises InvalidRecipe unless `predict` is total for these."""
        scheme = parse_scheme(parameters)
        if scheme.bits:
            packing.check_order(dtype, scheme.bits, scheme.order)
        elif dtype not in _EIGHT_BITS:
            raise InvalidRecipe(f"codes in {dtype}")
        wanted: list[Sequence[str]] = [NAMES]
        if scheme.place.kind != LITERAL:
            wanted.append(NAMES)
        if scheme.zero >= ZEROS:
            wanted.append(tuple(_INTEGERS) if scheme.zero == ZEROS else tuple(packing.WORDS))
        fits = len(wanted) == len(dtypes) and all(
            d in w for d, w in zip(dtypes, wanted, strict=True)
        )
        if not fits:
            raise InvalidRecipe(f"codes of {', '.join(dtypes)}")
        if scheme.zero == PACKED_ZEROS:
            packing.check_order(dtypes[-1], scheme.bits, scheme.order)

    def predict(
        self, operands: Sequence[Values], dtype: str, first: int, parameters: bytes, out: Raw
    ) -> None:
        """Fills `out` with the codes of output elements from `first` on."""
        scheme = parse_scheme(parameters)
        width = packing.WORDS.get(dtype, 1)
        per = 8 * width // scheme.bits if scheme.bits else 1
        source = fit(read_floats(operands[0].dtype, operands[0].raw), out.size // width * per)
        scaled = _scale(source, operands, scheme, first, per)
        if dtype in ("F8_E4M3", "F8_E5M2"):
            write_floats(scaled, dtype, True, out)
            return
        zeros = _read_zeros(operands, scheme, first, per, source.size)
        if scheme.adds_first:
            scaled = round_all(scaled + zeros.astype(np.float32), scheme.arithmetic)
            zeros = freeze(np.zeros(1, np.int32))
        codes = out if not scheme.bits else np.empty(source.size, np.uint8)
        codes_kernel(scaled, zeros, scheme.low, scheme.high, codes)
        if scheme.bits:
            packing.pack_codes(codes, scheme.bits, scheme.order, width, out)


OPERATION = Quantise()


def _scale(
    source: Floats, operands: Sequence[Values], scheme: Scheme, first: int, per: int
) -> Floats:
    if scheme.place.kind == LITERAL:
        scales = np.array([scheme.scale], np.float32)
    else:
        scales = read_floats(operands[1].dtype, operands[1].raw)
    factors = find_factors(scales, scheme.rule, np.float32(scheme.constant), scheme.arithmetic)
    spread_out = spread(factors, scheme.place, first, per, source.size)
    out = np.empty(source.size, np.float32)
    scale_kernel(source, spread_out, scheme.rule == DIVIDE, out)
    return round_all(freeze(out), scheme.arithmetic)


def find_factors(scales: Floats, rule: int, constant: np.float32, arithmetic: str) -> Floats:
    """Returns what elements are divided or multiplied by."""
    if rule in (DIVIDE, MULTIPLY):
        return scales
    with np.errstate(all="ignore"):
        if rule == BY_QUOTIENT:
            return round_all(constant / scales, arithmetic)
        inverse = round_all(np.float32(1) / scales, arithmetic)
        if rule == BY_INVERSE:
            return inverse
        return round_all(inverse * constant, arithmetic)


def _read_zeros(
    operands: Sequence[Values], scheme: Scheme, first: int, per: int, count: int
) -> NDArray[np.int32]:
    if scheme.zero < ZEROS:
        only = scheme.zero_constant if scheme.zero == ONE_ZERO else 0
        return freeze(np.array([only], np.int32))
    given = operands[-1]
    if scheme.zero == PACKED_ZEROS:
        width = packing.WORDS[given.dtype]
        zeros = packing.unpack_codes(given.raw, scheme.bits, scheme.order, width)
    else:
        zeros = given.raw.view(_INTEGERS[given.dtype]).astype(np.int32)
    zeros = np.clip(zeros, -(1 << 16), 1 << 16) + np.int32(scheme.zero_constant)
    return spread(zeros.astype(np.int32), scheme.place, first, per, count)


@njit(nogil=True, cache=True, error_model="numpy")
def scale_kernel(source, factors, divide, out):
    """Divides or multiplies (n,) float32 by (n,) factors."""
    if divide:
        for i in range(source.size):
            out[i] = source[i] / factors[i]
    else:
        for i in range(source.size):
            out[i] = source[i] * factors[i]


@njit(nogil=True, cache=True)
def codes_kernel(scaled, zeros, low, high, out):
    """Rounds (n,) float32 to the nearest integers, ties to even, adds zero points, (n,) or (1,)
    int32, and clips; out: (n,) uint8, the low bits. NaN counts as zero."""
    step = 1 if zeros.size > 1 else 0
    far = np.float32(1 << 22)
    for i in range(scaled.size):
        value = scaled[i]
        value = value if value == value else np.float32(0)
        value = min(max(value, -far), far)
        code = np.int32(np.rint(value)) + zeros[i * step]
        out[i] = np.uint8(min(max(code, low), high))
