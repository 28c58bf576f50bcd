"""The scale or zero point of each group of a source (FORMAT.md, "Operations: scaled codes")."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .....codecs.buffers import freeze
from ..errors import InvalidRecipe
from ..floats.arithmetic import ARITHMETIC, round_all
from ..floats.formats import NAMES, Floats, read_floats, write_floats
from ..values import Raw, Values
from .groups import find_ends, find_peaks

QUOTIENT, PRODUCT, INVERSE_OF_PRODUCT, INVERSE_OF_QUOTIENT, RANGE, ZERO_POINT = range(6)
"""With a the largest magnitude, c the constant, and l and h the least and the largest element or 0:
a / c, a * (1 / c), 1 / ((1 / a) * c), 1 / (c / a), (h - l) / c, and low - l / scale."""
MOST_GROUP = 1 << 26
_STRUCT = struct.Struct("<BBffiiI")
_INTEGERS = {"I8": np.int8, "U8": np.uint8, "I32": np.int32}


@dataclass(frozen=True, slots=True)
class Grouping:
    """The parameters of `group_scales`.

    `rule`: QUOTIENT to ZERO_POINT. `constant`: c. `floor`: no scale is less. `low`, `high`: the
    range of zero points. `group`: elements in a group, so that the operand is read with the ratio
    group : 1.
    """

    group: int
    rule: int = QUOTIENT
    constant: float = 127.0
    arithmetic: str = "F32"
    floor: float = 0.0
    low: int = 0
    high: int = 255

    def pack(self) -> bytes:
        """Returns the parameters' bytes."""
        arithmetic = ARITHMETIC.index(self.arithmetic)
        numbers = self.constant, self.floor, self.low, self.high, self.group
        return _STRUCT.pack(arithmetic, self.rule, *numbers)


def parse_grouping(parameters: bytes) -> Grouping:
    """Mirrors `Grouping.pack`. Raises InvalidRecipe for what it does not write."""
    if len(parameters) != _STRUCT.size:
        raise InvalidRecipe("parameters of another length than a grouping's")
    arithmetic, rule, constant, floor, low, high, group = _STRUCT.unpack(parameters)
    if arithmetic >= len(ARITHMETIC) or rule > ZERO_POINT or low > high:
        raise InvalidRecipe("a grouping with unknown rules")
    if not 0 < group <= MOST_GROUP:
        raise InvalidRecipe(f"groups of {group}")
    return Grouping(group, rule, constant, ARITHMETIC[arithmetic], floor, low, high)


class GroupScales:
    """One operand, the source, `group` elements for each output element."""

    name = "group scales"

    def check(self, dtypes: Sequence[str], dtype: str, parameters: bytes) -> None:
        """Raises InvalidRecipe unless `predict` is total for these."""
        grouping = parse_grouping(parameters)
        targets = tuple(_INTEGERS) if grouping.rule == ZERO_POINT else NAMES
        if len(dtypes) != 1 or dtypes[0] not in NAMES or dtype not in targets:
            raise InvalidRecipe(f"scales of {', '.join(dtypes)} in {dtype}")

    def predict(
        self, operands: Sequence[Values], dtype: str, first: int, parameters: bytes, out: Raw
    ) -> None:
        """Fills `out` with the scales or zero points of groups from `first` on."""
        grouping = parse_grouping(parameters)
        source = read_floats(operands[0].dtype, operands[0].raw)
        if grouping.rule == ZERO_POINT:
            kind = _INTEGERS[dtype]
            found = _zero_points(source, grouping, out.size // np.dtype(kind).itemsize)
            out[:] = found.astype(kind).view(np.uint8)
        else:
            width = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}.get(dtype, 1)
            write_floats(_scales(source, grouping, out.size // width), dtype, False, out)


OPERATION = GroupScales()


def _scales(source: Floats, grouping: Grouping, count: int) -> Floats:
    constant, one = np.float32(grouping.constant), np.float32(1)

    def rounded(values: Floats) -> Floats:
        return round_all(values, grouping.arithmetic)

    with np.errstate(all="ignore"):
        if grouping.rule >= RANGE:
            low, high = _ends(source, grouping, count)
            found = rounded(rounded(high - low) / constant)
        else:
            peaks = find_peaks(source, grouping.group, count)
            if grouping.rule == QUOTIENT:
                found = rounded(peaks / constant)
            elif grouping.rule == PRODUCT:
                found = rounded(peaks * rounded(one / np.full(1, constant)))
            elif grouping.rule == INVERSE_OF_PRODUCT:
                found = rounded(one / rounded(rounded(one / peaks) * constant))
            else:
                found = rounded(one / rounded(constant / peaks))
    floor = np.float32(grouping.floor)
    return freeze(np.where(found < floor, floor, found).astype(np.float32))


def _ends(source: Floats, grouping: Grouping, count: int) -> tuple[Floats, Floats]:
    low, high = find_ends(source, grouping.group, count)
    nothing = np.float32(0)
    return np.where(low < 0, low, nothing), np.where(high > 0, high, nothing)


def _zero_points(source: Floats, grouping: Grouping, count: int) -> np.ndarray:
    scales = _scales(source, grouping, count)
    low, _ = _ends(source, grouping, count)
    with np.errstate(all="ignore"):
        steps = round_all(low / scales, grouping.arithmetic)
        found = np.rint(round_all(np.float32(grouping.low) - steps, grouping.arithmetic))
    found = np.where(np.isnan(found), np.float32(0), found)
    return np.clip(found.astype(np.float64), grouping.low, grouping.high)
