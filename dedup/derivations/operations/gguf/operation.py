"""Quantising as an operation that recipes name (FORMAT.md, "Operations: GGUF")."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import InvalidRecipe
from ..floats.formats import NAMES, Floats, read_floats
from ..values import Raw, Values
from .arithmetic import FACTORS, NOTHING
from .blocks import predict_factors, quantise, quants_given_scales, scales_given_factors
from .layout import KINDS, find_geometry
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
        quantise(dtype, _source(operands[0], dtype, out), out)

    def refine(
        self,
        operands: Sequence[Values],
        dtype: str,
        known: int,
        groups: Raw,
        out: Raw,
        margins: Raw,
        kept: dict[int, Any],
    ) -> None:
        """Fills `out` with the blocks whose factors, or all but quants, are those of `groups`."""
        source = _source(operands[0], dtype, out)
        if known == NOTHING:
            predict_factors(dtype, source, out, kept)
        elif known == FACTORS:
            scales_given_factors(dtype, source, groups, out, kept, heads=True)
        else:
            quants_given_scales(dtype, source, groups, out, kept)
            measure_margins(dtype, source, out, margins)


def _source(operand: Values, dtype: str, out: Raw) -> Floats:
    """Returns the values of as many elements as the blocks of `out` have: kernels check no bounds,
    and a recipe of a stranger may name more or fewer. What is not there is 0."""
    geometry = find_geometry(dtype)
    count = out.size // geometry.block_bytes * geometry.elements
    values = read_floats(operand.dtype, operand.raw)
    if values.size == count:
        return values
    fitted = np.zeros(count, np.float32)
    fitted[: values.size] = values[:count]
    return fitted


OPERATION = Quantise()
