"""The element types a frame can name (FORMAT.md, "Dtypes")."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Dtype:
    """One element type: its safetensors name, its id in a frame, its size, and whether it is a
    float.

    ``is_float`` decides whether planes are cut with the sign moved below the exponent (FORMAT.md,
    "Planes").
    """

    name: str
    id: int
    item_bytes: int
    is_float: bool = False


_ALL = (
    Dtype("U8", 0, 1),
    Dtype("BOOL", 1, 1),
    Dtype("I8", 2, 1),
    Dtype("U16", 3, 2),
    Dtype("I16", 4, 2),
    Dtype("U32", 5, 4),
    Dtype("I32", 6, 4),
    Dtype("U64", 7, 8),
    Dtype("I64", 8, 8),
    Dtype("F8_E4M3", 9, 1),
    Dtype("F8_E5M2", 10, 1),
    Dtype("F16", 11, 2, is_float=True),
    Dtype("BF16", 12, 2, is_float=True),
    Dtype("F32", 13, 4, is_float=True),
    Dtype("F64", 14, 8, is_float=True),
)
BY_NAME = {dtype.name: dtype for dtype in _ALL}
BY_ID = {dtype.id: dtype for dtype in _ALL}


def find_dtype(name: str) -> Dtype:
    """Returns the dtype called ``name``; raises ValueError when there is none."""
    try:
        return BY_NAME[name]
    except KeyError:
        raise ValueError(f"unknown dtype {name!r}; known: {', '.join(BY_NAME)}") from None
