"""Casts among F64, F32, F16, BF16 and FP8 (FORMAT.md, "Operations: floats")."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import InvalidRecipe
from ..values import Raw, Values
from .formats import NAMES, read_floats, write_floats

SATURATE = 1
"""Flag: what is beyond the largest FP8 number becomes that number."""
THROUGH_F32 = 2
"""Flag: an F64 is rounded to F32 first and then once more, as torch does."""


class Cast:
    """Each output element is the operand's, rounded to nearest even. Parameters: one byte of
    flags."""

    name = "cast"

    def check(self, dtypes: Sequence[str], dtype: str, parameters: bytes) -> None:
        """Takes one float operand; raises InvalidRecipe for anything else."""
        if len(dtypes) != 1 or dtypes[0] not in NAMES or dtype not in NAMES:
            raise InvalidRecipe(f"a cast of {', '.join(dtypes)} to {dtype}")
        if len(parameters) != 1 or parameters[0] & ~(SATURATE | THROUGH_F32):
            raise InvalidRecipe("a cast with parameters that are none")

    def predict(
        self, operands: Sequence[Values], dtype: str, first: int, parameters: bytes, out: Raw
    ) -> None:
        """Fills `out` with the elements of the operand as `dtype`."""
        source = operands[0].dtype
        if source == dtype:
            same = operands[0].raw[: out.size]
            out[: same.size] = same
            out[same.size :] = 0
            return
        to_odd = not parameters[0] & THROUGH_F32 and dtype != "F32"
        values = read_floats(source, operands[0].raw, to_odd)
        write_floats(values, dtype, bool(parameters[0] & SATURATE), out)


OPERATION = Cast()
