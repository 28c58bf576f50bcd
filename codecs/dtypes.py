"""The element types a frame can name (FORMAT.md, "Dtypes")."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Exponent:
    """Where a float keeps its exponent, as the coder of differences sees elements.

    ``shift``, ``mask``: find the exponent in the top 16 bits of an element (in all 8 of a byte).
    ``mantissa``: bits below the exponent there. ``bias``: what the exponent of a float32 of equal
    value is larger by. ``lift``: the shift that makes a float32 of a float of up to four bytes,
    -1 for all else.
    """

    shift: int
    mask: int
    mantissa: int
    bias: int = 0
    lift: int = -1


@dataclass(frozen=True, slots=True)
class Dtype:
    """One element type: its safetensors name, its id in a frame, its size, and where its exponent
    is if it is a float.

    ``is_float``: whether planes are cut with the sign moved below the exponent (FORMAT.md,
    "Planes"), as they are for floats of two bytes and more. ``is_signed``: whether an integer has a
    sign. ``group_bytes``, ``group_elements``: of a quantised dtype the bytes of one group, whose
    fields are cut apart (FORMAT.md, "Fields"), and the elements that they stand for; to everything
    else such a tensor is plain bytes. 1 for others.
    """

    name: str
    id: int
    item_bytes: int
    exponent: Exponent | None = None
    is_float: bool = False
    is_signed: bool = False
    group_bytes: int = 1
    group_elements: int = 1


_F16 = Exponent(10, 31, 10, lift=13)
_BF16 = Exponent(7, 255, 7, lift=16)
_F32 = Exponent(7, 255, 7, lift=0)
_F64 = Exponent(4, 2047, 4, bias=-896)

# All that weightvault knows of a dtype. To add one, add a line here and to FORMAT.md, and its name
# in the formats that have it.
_ALL = (
    Dtype("U8", 0, 1),
    Dtype("BOOL", 1, 1),
    Dtype("I8", 2, 1, is_signed=True),
    Dtype("U16", 3, 2),
    Dtype("I16", 4, 2, is_signed=True),
    Dtype("U32", 5, 4),
    Dtype("I32", 6, 4, is_signed=True),
    Dtype("U64", 7, 8),
    Dtype("I64", 8, 8, is_signed=True),
    Dtype("F8_E4M3", 9, 1, Exponent(3, 15, 3, lift=20)),
    Dtype("F8_E5M2", 10, 1, Exponent(2, 31, 2, lift=21)),
    Dtype("F16", 11, 2, _F16, is_float=True),
    Dtype("BF16", 12, 2, _BF16, is_float=True),
    Dtype("F32", 13, 4, _F32, is_float=True),
    Dtype("F64", 14, 8, _F64, is_float=True),
)
BY_NAME = {dtype.name: dtype for dtype in _ALL}

# By ggml's own numbers, plus 64; then the elements and the bytes of a group.
_QUANTISED = (
    ("Q4_0", 66, 32, 18),
    ("Q4_1", 67, 32, 20),
    ("Q5_0", 70, 32, 22),
    ("Q5_1", 71, 32, 24),
    ("Q8_0", 72, 32, 34),
    ("Q2_K", 74, 256, 84),
    ("Q3_K", 75, 256, 110),
    ("Q4_K", 76, 256, 144),
    ("Q5_K", 77, 256, 176),
    ("Q6_K", 78, 256, 210),
    ("Q8_K", 79, 256, 292),
    ("IQ2_XXS", 80, 256, 66),
    ("IQ2_XS", 81, 256, 74),
    ("IQ3_XXS", 82, 256, 98),
    ("IQ1_S", 83, 256, 50),
    ("IQ4_NL", 84, 32, 18),
    ("IQ3_S", 85, 256, 110),
    ("IQ2_S", 86, 256, 82),
    ("IQ4_XS", 87, 256, 136),
    ("IQ1_M", 93, 256, 56),
    ("TQ1_0", 98, 256, 54),
    ("TQ2_0", 99, 256, 66),
    ("MXFP4", 103, 32, 17),
    ("NVFP4", 104, 64, 36),
    ("Q1_0", 105, 128, 18),
)
QUANTISED = {
    name: Dtype(name, id_, 1, group_bytes=size, group_elements=elements)
    for name, id_, elements, size in _QUANTISED
}
ALL_DTYPES = {**BY_NAME, **QUANTISED}
"""All dtypes by name."""
BY_ID = {dtype.id: dtype for dtype in (*_ALL, *QUANTISED.values())}


def find_dtype(name: str) -> Dtype:
    """Returns the dtype called ``name``; raises ValueError when there is none."""
    dtype = ALL_DTYPES.get(name)
    if dtype is None:
        known = ", ".join(ALL_DTYPES)
        raise ValueError(f"unknown dtype {name!r}; known: {known}")
    return dtype
