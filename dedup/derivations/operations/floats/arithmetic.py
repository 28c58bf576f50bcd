"""Steps of arithmetic on many floats, each rounded to a dtype of its own."""

from __future__ import annotations

import numpy as np

from .....codecs.buffers import freeze
from .formats import Floats, read_floats, write_floats

ARITHMETIC = ("F32", "BF16", "F16")
"""The dtypes that results may be rounded to. PyTorch calculates with binary32 and rounds after
every operation where tensors are of two bytes."""


def round_all(values: Floats, dtype: str) -> Floats:
    """Rounds (n,) float32 to `dtype` and back; every NaN becomes the positive quiet one."""
    if dtype != "F32":
        raw = np.empty(2 * values.size, np.uint8)
        write_floats(values, dtype, False, raw)
        values = read_floats(dtype, raw)
    odd = np.isnan(values)
    if odd.any():
        values = np.where(odd, np.float32(np.nan), values)
    return freeze(values)
