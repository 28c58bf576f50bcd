"""The element types a frame can name (FORMAT.md, "Dtypes")."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Dtype:
    """One element type: its safetensors name, its id in a frame, its size, and whether it is a
    float.

    ``is_float`` decides whether planes are cut with the sign moved below the exponent (FORMAT.md,
    "Planes"). ``group_bytes``: of a quantised dtype the bytes of one group, whose fields are cut
    apart (FORMAT.md, "Fields"); to everything else such a tensor is plain bytes. 1 for others.
    """

    name: str
    id: int
    item_bytes: int
    is_float: bool = False
    group_bytes: int = 1


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

# By ggml's own numbers, plus 64.
_QUANTISED = (
    ("Q4_0", 66, 18),
    ("Q4_1", 67, 20),
    ("Q5_0", 70, 22),
    ("Q5_1", 71, 24),
    ("Q8_0", 72, 34),
    ("Q2_K", 74, 84),
    ("Q3_K", 75, 110),
    ("Q4_K", 76, 144),
    ("Q5_K", 77, 176),
    ("Q6_K", 78, 210),
    ("Q8_K", 79, 292),
    ("IQ2_XXS", 80, 66),
    ("IQ2_XS", 81, 74),
    ("IQ3_XXS", 82, 98),
    ("IQ1_S", 83, 50),
    ("IQ4_NL", 84, 18),
    ("IQ3_S", 85, 110),
    ("IQ2_S", 86, 82),
    ("IQ4_XS", 87, 136),
    ("IQ1_M", 93, 56),
    ("TQ1_0", 98, 54),
    ("TQ2_0", 99, 66),
    ("MXFP4", 103, 17),
    ("NVFP4", 104, 36),
    ("Q1_0", 105, 18),
)
QUANTISED = {name: Dtype(name, id_, 1, group_bytes=size) for name, id_, size in _QUANTISED}
BY_ID = {dtype.id: dtype for dtype in (*_ALL, *QUANTISED.values())}


def find_dtype(name: str) -> Dtype:
    """Returns the dtype called ``name``; raises ValueError when there is none."""
    dtype = BY_NAME.get(name) or QUANTISED.get(name)
    if dtype is None:
        known = ", ".join((*BY_NAME, *QUANTISED))
        raise ValueError(f"unknown dtype {name!r}; known: {known}")
    return dtype
