"""Quantising as an operation that recipes name (FORMAT.md, "Operations: GGUF")."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import InvalidRecipe
from ..floats.formats import NAMES, read_floats
from ..values import Raw, Values
from .arithmetic import FACTORS
from .blocks import quantise, quants_given_scales, scales_given_factors
from .layout import KINDS
from .margins import measure_margins


class Quantise:
    """Each block is computed from the operand's elements in the same place. No parameters."""

    name = "gguf"

    def check(self, dtypes: Sequence[str], dtype: str, parameters: bytes) -> None:
        """Takes one float operand; raises InvalidRecipe for anything else."""
        if len(dtypes) != 1 or dtypes[0] not in NAMES or dtype not in KINDS:
            raise InvalidRecipe(f"{', '.join(dtypes)} quantised to {dtype}")
        if parameters:
            raise InvalidRecipe("a type of GGUF with parameters")

    def predict(
        self, operands: Sequence[Values], dtype: str, first: int, parameters: bytes, out: Raw
    ) -> None:
        """Fills `out` with the blocks of the operand."""
        quantise(dtype, read_floats(operands[0].dtype, operands[0].raw), out)

    def refine(
        self,
        operands: Sequence[Values],
        dtype: str,
        known: int,
        groups: Raw,
        out: Raw,
        margins: Raw,
    ) -> None:
        """Fills `out` with the blocks whose factors, or all but quants, are those of `groups`."""
        source = read_floats(operands[0].dtype, operands[0].raw)
        if known == FACTORS:
            scales_given_factors(dtype, source, groups, out)
        else:
            quants_given_scales(dtype, source, groups, out)
            measure_margins(dtype, source, out, margins)


OPERATION = Quantise()
