"""What operations are given: the elements of one operand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Raw = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Values:
    """Elements of an operand: `raw`, (elements times item bytes,) uint8, read as `dtype`.

    Quantised operands are dequantised before, so their dtype is F32.
    """

    dtype: str
    raw: Raw
