"""Quantised operands as the floats that they stand for: a quantised copy can be an input."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from .errors import InvalidRecipe
from .gguf import dequantise as gguf
from .gguf.layout import KINDS
from .values import Raw

# By dtype, what fills (n,) float32 from the (groups times group bytes,) uint8 that hold them.
_READERS: dict[str, Callable[[Raw, NDArray[np.float32]], None]] = {
    kind: partial(gguf.dequantise, kind) for kind in KINDS
}


def dequantise(dtype: str, groups: Raw, out: NDArray[np.float32]) -> None:
    """Fills `out` with the values of whole groups. Raises InvalidRecipe for a dtype whose values
    this reader does not know."""
    reader = _READERS.get(dtype)
    if reader is None:
        raise InvalidRecipe(f"the values of {dtype} are not known here")
    reader(groups, out)
