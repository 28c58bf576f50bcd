"""What a tensor is like: its first values, and statistics of all of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...dedup.errors import InvalidInput
from ..errors import from_os_error
from .arrays import element_type, is_bits, shape_array, to_floats
from .tensor_source import TensorSource

_FIRST = 6
# Elements that are looked at together, as eight bytes each.
_TOGETHER = 1 << 20


@dataclass(frozen=True, slots=True)
class TensorStats:
    """Statistics of the elements that are numbers: `finite` of them, and of these the least, the
    largest, the mean and the standard deviation; `zeros` and `nans` among all."""

    finite: int
    least: float
    largest: float
    mean: float
    deviation: float
    zeros: int
    nans: int


@dataclass(frozen=True, slots=True)
class TensorFacts:
    """A tensor: the path of its file, dtype as that calls it, shape, bytes, first values."""

    name: str
    path: str
    dtype: str
    shape: tuple[int, ...]
    size: int
    first: tuple[float, ...]
    stats: TensorStats | None = None


def read_facts(source: TensorSource, name: str, *, stats: bool = False) -> TensorFacts:
    """Returns what a tensor is; with `stats` reads all of it. Raises TensorNotFound, and
    InvalidInput for statistics of what numpy has no values of."""
    place = source.place(name)
    tensor = place.tensor
    known = element_type(tensor.dtype)
    count = min(tensor.size, _FIRST * (known.itemsize if known else 0))
    values = to_floats(source.read_range(name, 0, count), tensor.dtype)
    first = tuple(float(v) for v in values) if values is not None else ()
    found = _measure(source.read(name), tensor.dtype) if stats else None
    return TensorFacts(name, place.path, tensor.dtype, tensor.shape, tensor.size, first, found)


def write_npy(source: TensorSource, name: str, path: Path) -> None:
    """Writes a tensor as a .npy file: what numpy has no type for as float32 of the same values.
    Raises InvalidInput where there is no such."""
    tensor = source.place(name).tensor
    raw = source.read(name)
    array = shape_array(raw, tensor.dtype, tensor.shape)
    if is_bits(tensor.dtype) or array.dtype.kind == "V":
        values = to_floats(raw, tensor.dtype)
        if values is None:
            raise _no_values(tensor.dtype)
        array = values.astype(np.float32).reshape(tensor.shape)
    try:
        with path.open("wb") as file:
            np.save(file, array, allow_pickle=False)
    except OSError as error:
        raise from_os_error(error, f"cannot write {path}") from error


def _measure(raw: NDArray[np.uint8], dtype: str) -> TensorStats:
    """Two passes, as the mean of large values costs the deviation its digits in one."""
    step = 8 * _TOGETHER
    pieces = [raw[at : at + step] for at in range(0, raw.size, step)]
    finite = zeros = nans = 0
    least, largest, total = math.inf, -math.inf, 0.0
    for values in (_values(piece, dtype) for piece in pieces):
        sound = values[np.isfinite(values)]
        finite += sound.size
        zeros += int(np.count_nonzero(values == 0))
        nans += int(np.count_nonzero(np.isnan(values)))
        least = min(least, float(sound.min(initial=math.inf)))
        largest = max(largest, float(sound.max(initial=-math.inf)))
        total += float(sound.sum())
    if not finite:
        return TensorStats(0, math.nan, math.nan, math.nan, math.nan, zeros, nans)
    mean, squares = total / finite, 0.0
    for values in (_values(piece, dtype) for piece in pieces):
        squares += float(np.square(values[np.isfinite(values)] - mean).sum())
    return TensorStats(finite, least, largest, mean, math.sqrt(squares / finite), zeros, nans)


def _values(raw: NDArray[np.uint8], dtype: str) -> NDArray[np.float64]:
    values = to_floats(raw, dtype)
    if values is None:
        raise _no_values(dtype)
    return values


def _no_values(dtype: str) -> InvalidInput:
    return InvalidInput(
        f"there are no values of {dtype} here", "eight-bit floats take `pip install ml-dtypes`"
    )
