"""The operations by number: to add one, write its module and list it here (FORMAT.md,
"Operations")."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import import_module
from typing import Any, Protocol, runtime_checkable

from .errors import InvalidRecipe
from .values import Raw, Values

# Number and version in a recipe, and the module that has it as OPERATION. Imported when it is
# first used, as each brings kernels to compile.
_MODULES: dict[tuple[int, int], str] = {
    (1, 1): "floats.cast",
    (2, 1): "scaled.quantise",
    (3, 1): "scaled.group_scales",
    (4, 1): "scaled.affine",
    (5, 1): "scaled.codebook",
    (6, 1): "scaled.nested_scales",
    (7, 1): "merges.elementwise",
    (8, 1): "merges.low_rank",
    (10, 1): "gguf.operation",
}

NUMBERS = tuple(_MODULES)
"""Number and version of every operation."""


class Operation(Protocol):
    """One operation: what it gives for which operands."""

    name: str

    def check(self, dtypes: Sequence[str], dtype: str, parameters: bytes) -> None:
        """Raises InvalidRecipe unless `predict` takes operands of `dtypes`, gives `dtype`, and
        understands the parameters."""
        ...

    def predict(
        self, operands: Sequence[Values], dtype: str, first: int, parameters: bytes, out: Raw
    ) -> None:
        """Fills `out`, (n item bytes,) uint8, with the output elements from `first` on; `operands`
        are what these need (Operand.ratio). Total for whatever `check` lets pass."""
        ...


@runtime_checkable
class Refining(Protocol):
    """An operation that predicts quantised groups better once part of them is known."""

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
        """Fills `out` with the groups that follow from the operands and from what is known of
        `groups`; total (codecs.quantised.staged.Refine). `kept`: what it may keep from one call to
        the next with the same operands."""
        ...


@cache
def find_operation(number: int, version: int) -> Operation:
    """Returns an operation. Raises InvalidRecipe for one that this reader does not know."""
    module = _MODULES.get((number, version))
    if module is None:
        raise InvalidRecipe(f"a recipe names operation {number}, version {version}: not known here")
    return import_module(f".{module}", __package__).OPERATION
