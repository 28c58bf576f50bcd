"""Sums, differences, products and quotients of operands, element by element (FORMAT.md,
"Operations: merges")."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

from .....codecs.buffers import freeze
from .....codecs.jit.cached import njit
from ..errors import InvalidRecipe
from ..floats.arithmetic import ARITHMETIC, round_all
from ..floats.formats import NAMES, Floats, fit, read_floats, write_floats
from ..values import Raw, Values

OPERAND, CONSTANT, ADD, SUBTRACT, MULTIPLY, DIVIDE, FUSED = range(7)
"""What a step does: put an operand or a constant on the stack, or take two, or three for a b + c
rounded once, off it and put the result there."""
MOST_STEPS = 256
MOST_HEIGHT = 16
_STEP = struct.Struct("<Bf")
_TAKES = {ADD: 2, SUBTRACT: 2, MULTIPLY: 2, DIVIDE: 2, FUSED: 3}
_PIECE = 1 << 16
_WIDTHS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1}

Step = tuple[int, float]


def pack_steps(arithmetic: str, steps: Sequence[Step]) -> bytes:
    """Returns the parameters. A step is (OPERAND, its number), (CONSTANT, its value), or one of the
    others with 0."""
    return bytes([ARITHMETIC.index(arithmetic)]) + b"".join(_STEP.pack(*step) for step in steps)


def weighted_sum(weights: Sequence[float]) -> list[Step]:
    """Returns the steps of w[0] * a + w[1] * b + ..., from the left."""
    steps: list[Step] = []
    for number, weight in enumerate(weights):
        steps += [(OPERAND, number), (CONSTANT, weight), (MULTIPLY, 0)]
        steps += [(ADD, 0)] if number else []
    return steps


class Elementwise:
    """Operands: any number of floats (ratio 1 : 1)."""

    name = "elementwise"

    def check(self, dtypes: Sequence[str], dtype: str, parameters: bytes) -> None:
        """Raises InvalidRecipe unless the steps leave one number."""
        if dtype not in NAMES or any(each not in NAMES for each in dtypes):
            raise InvalidRecipe(f"arithmetic that gives {dtype}")
        steps, rest = divmod(len(parameters) - 1, _STEP.size)
        if rest or not 0 < steps <= MOST_STEPS or parameters[0] >= len(ARITHMETIC):
            raise InvalidRecipe("steps with unknown parameters")
        height = 0
        for kind, value in _STEP.iter_unpack(parameters[1:]):
            if kind > FUSED or (kind == OPERAND and value not in range(len(dtypes))):
                raise InvalidRecipe("a step that is none")
            needs = _TAKES.get(kind, 0)
            if needs > height:
                raise InvalidRecipe("a step takes more numbers than there are")
            height += 1 - needs
            if height > MOST_HEIGHT:
                raise InvalidRecipe("steps leave too many numbers")
        if height != 1:
            raise InvalidRecipe("steps that do not leave one number")

    def predict(
        self, operands: Sequence[Values], dtype: str, first: int, parameters: bytes, out: Raw
    ) -> None:
        """Fills `out` with what the steps give."""
        arithmetic = ARITHMETIC[parameters[0]]
        steps = list(_STEP.iter_unpack(parameters[1:]))
        width = _WIDTHS[dtype]
        for begin in range(0, out.size // width, _PIECE):
            stop = min(begin + _PIECE, out.size // width)
            result = _run(steps, arithmetic, operands, begin, stop)
            write_floats(result, dtype, False, out[begin * width : stop * width])


OPERATION = Elementwise()


def _run(
    steps: Sequence[Step], arithmetic: str, operands: Sequence[Values], begin: int, stop: int
) -> Floats:
    stack: list[Floats] = []
    with np.errstate(all="ignore"):
        for kind, value in steps:
            if kind == OPERAND:
                stack.append(_read(operands[int(value)], begin, stop))
            elif kind == CONSTANT:
                stack.append(np.full(stop - begin, value, np.float32))
            else:
                given = [stack.pop() for _ in range(_TAKES[kind])][::-1]
                stack.append(round_all(_apply(kind, given), arithmetic))
    return freeze(np.ascontiguousarray(stack[0]))


def _read(operand: Values, begin: int, stop: int) -> Floats:
    width = _WIDTHS[operand.dtype]
    values = read_floats(operand.dtype, operand.raw[begin * width : stop * width])
    return fit(values, stop - begin)


def _apply(kind: int, given: list[Floats]) -> Floats:
    if kind == ADD:
        return given[0] + given[1]
    if kind == SUBTRACT:
        return given[0] - given[1]
    if kind == MULTIPLY:
        return given[0] * given[1]
    if kind == DIVIDE:
        return given[0] / given[1]
    out = np.empty_like(given[0])
    first, second, third = (freeze(values) for values in given)
    fused_kernel(first, second, third, out)
    return out


@njit(nogil=True, cache=True, error_model="numpy")
def fused_kernel(first, second, third, out):
    """Writes a b + c of (n,) float32, rounded once.

    The product is exact in float64. The sum is rounded there to odd: where something was cut off,
    the last bit is set. Rounding that to float32 gives what rounding once would have given.
    """
    for i in range(out.size):
        product = np.float64(first[i]) * np.float64(second[i])
        added = np.float64(third[i])
        total = product + added
        back = total - product
        lost = (product - (total - back)) + (added - back)
        bits = np.float64(total).view(np.int64)
        if lost != 0.0 and abs(total) < np.inf and bits & 1 == 0:
            bits += 1 if (lost > 0.0) == (total > 0.0) else -1
        out[i] = np.float32(np.int64(bits).view(np.float64))
