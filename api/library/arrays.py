"""Arrays of the bytes of tensors, and the bytes of arrays, for numpy and PyTorch.

What numpy has no type for comes as follows. BF16 and the eight-bit floats are arrays of `ml_dtypes`
where that is installed, else their bits (uint16, uint8) in the tensor's shape. Quantised types, and
all others that are not known here, are their bytes, (n,) uint8.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...dedup.errors import InvalidInput
from ...dedup.model.files.segments import count_elements

if TYPE_CHECKING:
    import torch

Framework = Literal["np", "pt"]

_NUMPY = {
    "BOOL": "?",
    "U8": "u1",
    "I8": "i1",
    "U16": "<u2",
    "I16": "<i2",
    "U32": "<u4",
    "I32": "<i4",
    "U64": "<u8",
    "I64": "<i8",
    "F16": "<f2",
    "F32": "<f4",
    "F64": "<f8",
    "C64": "<c8",
}
# By safetensors name: that in ml_dtypes, that in torch, and what holds the bits.
_SMALL_FLOATS = {
    "BF16": ("bfloat16", "bfloat16", "<u2"),
    "F8_E4M3": ("float8_e4m3fn", "float8_e4m3fn", "u1"),
    "F8_E5M2": ("float8_e5m2", "float8_e5m2", "u1"),
    "F8_E8M0": ("float8_e8m0fnu", "float8_e8m0fnu", "u1"),
}
_TORCH = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "U16": "uint16",
    "I16": "int16",
    "U32": "uint32",
    "I32": "int32",
    "U64": "uint64",
    "I64": "int64",
    "F16": "float16",
    "F32": "float32",
    "F64": "float64",
    "C64": "complex64",
    **{name: other for name, (_, other, _) in _SMALL_FLOATS.items()},
}


def is_bits(dtype: str) -> bool:
    """Says whether numpy alone has no type for it, but `ml_dtypes` has."""
    return dtype in _SMALL_FLOATS


def check_framework(framework: str) -> Framework:
    """Returns it if it is "np" or "pt", spelled as safetensors takes them, too. Raises
    InvalidInput."""
    known: dict[str, Framework] = {"np": "np", "numpy": "np", "pt": "pt", "torch": "pt"}
    if framework not in known:
        raise InvalidInput(f"there is no framework {framework!r} here", 'write "np" or "pt"')
    return known[framework]


def element_type(dtype: str) -> np.dtype[Any] | None:
    """Returns numpy's type for one of safetensors, or of its bits; None where it has neither."""
    if dtype in _NUMPY:
        return np.dtype(_NUMPY[dtype])
    if dtype not in _SMALL_FLOATS:
        return None
    name, _, bits = _SMALL_FLOATS[dtype]
    module = _ml_dtypes()
    return np.dtype(getattr(module, name, bits)) if module else np.dtype(bits)


def torch_type(dtype: str) -> torch.dtype | None:
    """Returns PyTorch's type for one of safetensors; None where it has none."""
    import torch

    return getattr(torch, _TORCH.get(dtype, ""), None)


def shape_array(raw: NDArray[np.uint8], dtype: str, shape: Sequence[int]) -> NDArray[Any]:
    """Returns the bytes (n,) of a tensor, as an array of its dtype and shape over the same
    memory."""
    found = element_type(dtype)
    if found is None or raw.size != found.itemsize * count_elements(shape):
        return raw
    return raw.view(found).reshape(tuple(shape))


def shape_tensor(
    raw: NDArray[np.uint8], dtype: str, shape: Sequence[int], device: str = "cpu"
) -> torch.Tensor:
    """As `shape_array`, as a tensor of PyTorch on a device."""
    import torch

    found = torch_type(dtype)
    made = torch.from_numpy(raw)
    if found is not None and raw.size == found.itemsize * count_elements(shape):
        made = (
            made.view(found).reshape(tuple(shape)) if raw.size else torch.empty(shape, dtype=found)
        )
    return made if device == "cpu" else made.to(device)


def array_bytes(value: Any) -> tuple[str, tuple[int, ...], NDArray[np.uint8]]:
    """Returns safetensors' dtype, the shape and the bytes (n,) of an array of numpy or ml_dtypes,
    or a tensor of PyTorch, C-order. Raises InvalidInput for anything else."""
    if type(value).__module__.partition(".")[0] == "torch" and hasattr(value, "detach"):
        return _tensor_bytes(value)
    if not isinstance(value, np.ndarray | np.generic):
        raise InvalidInput(f"a {type(value).__name__} is no array", "give arrays or tensors")
    array = np.asarray(value)
    for dtype, known in _named_types().items():
        if array.dtype.newbyteorder("<") == known:
            flat = np.ascontiguousarray(array, known).reshape(-1)
            return dtype, array.shape, flat.view(np.uint8)
    raise InvalidInput(f"arrays of {array.dtype} cannot be stored", "convert them first")


def _tensor_bytes(value: torch.Tensor) -> tuple[str, tuple[int, ...], NDArray[np.uint8]]:
    import torch

    name = str(value.dtype).removeprefix("torch.")
    dtype = next((known for known, other in _TORCH.items() if other == name), None)
    if dtype is None or value.layout != torch.strided:
        raise InvalidInput(f"tensors of {value.dtype}, {value.layout}, cannot be stored")
    flat = value.detach().to("cpu").contiguous().reshape(-1)
    return dtype, tuple(value.shape), flat.view(torch.uint8).numpy()


@cache
def _named_types() -> dict[str, np.dtype[Any]]:
    found = {name: np.dtype(code) for name, code in _NUMPY.items()}
    module = _ml_dtypes()
    if module:
        small = {
            name: getattr(module, other, None) for name, (other, _, _) in _SMALL_FLOATS.items()
        }
        found |= {name: np.dtype(other) for name, other in small.items() if other is not None}
    return found


@cache
def _ml_dtypes() -> Any:
    try:
        import ml_dtypes
    except ImportError:
        return None
    return ml_dtypes


def to_floats(raw: NDArray[np.uint8], dtype: str) -> NDArray[np.float64] | None:
    """Returns the elements of a tensor's bytes as float64; None for types that numpy has no values
    of."""
    if dtype == "BF16":
        return (raw.view("<u2").astype("<u4") << 16).view("<f4").astype(np.float64)
    found = element_type(dtype)
    if found is None or found.kind == "c" or (dtype in _SMALL_FLOATS and _ml_dtypes() is None):
        return None
    return raw.view(found).astype(np.float64)
