"""Takes NumPy files (.npy) apart: the header, then one tensor.

Layout: magic, version, header length, and a header that spells a Python dictionary of `descr`,
`fortran_order` and `shape`. Source: "NEP 1: A simple file format for NumPy arrays".
"""

from __future__ import annotations

import re

from ..model.files.segments import Segment, count_elements
from .cutting.reader import ReadableFile, Unreadable, read_at
from .source import cover, make_tensor

_MAGIC = b"\x93NUMPY"
# NumPy refuses longer ones; those of plain arrays have 54 to 118 bytes.
_MAX_HEADER_BYTES = 10_000

# More than any length that fits 64 bits, which is then refused.
_MAX_DIGITS = 20

# As NumPy writes it, keys in this order. Reading it as Python could be made to take any depth;
# and nothing here can match in two ways, or a hostile header would make it try all of them.
_HEADER = re.compile(
    rb"\{'descr': '([<>|=]?)(\?|[a-zA-Z])(\d{0,9})', 'fortran_order': (False|True), "
    rb"'shape': \(([\d, L]*)\),? ?\}\s*"
)

DTYPES = {
    "?": "BOOL",
    "b1": "BOOL",
    "u1": "U8",
    "i1": "I8",
    "u2": "U16",
    "i2": "I16",
    "u4": "U32",
    "i4": "I32",
    "u8": "U64",
    "i8": "I64",
    "f2": "F16",
    "f4": "F32",
    "f8": "F64",
    # What NumPy makes of the types of ml_dtypes: of two bytes it is most often bfloat16.
    "V2": "BF16",
}
"""NumPy's names of little-endian element types, by the names that this project uses."""


# Complex numbers are pairs of these.
_HALVES = {"c8": "F32", "c16": "F64"}


def recognise(_name: str, head: bytes) -> bool:
    """Says whether a file that starts with `head` is an npy file."""
    return head.startswith(_MAGIC)


def segment(file: ReadableFile, size: int) -> list[Segment]:
    """Returns the segments of an npy file of `size` bytes; raises Unreadable where it breaks the
    format or its elements are no plain numbers.

    The tensor has no name. One in Fortran order has its dimensions reversed, as it lies there.
    """
    data_start, header = _read_header(file, size)
    match = _HEADER.fullmatch(header)
    if match is None:
        raise Unreadable("the header is not that of a plain array")
    order, kind, width, fortran, dimensions = (group.decode() for group in match.groups())
    shape = [int(n[:_MAX_DIGITS]) for n in re.findall(r"\d+", dimensions)]
    if fortran == "True":
        shape.reverse()
    count = count_elements(shape) * int(width or 1)
    if count > size - data_start:
        raise Unreadable("the array is longer than the file")
    known = DTYPES.get(kind + width) if order != ">" else None
    if order != ">" and kind + width in _HALVES:
        known = _HALVES[kind + width]
        shape.append(2)
    tensor = make_tensor("", known or order + kind + width, shape, count)
    return cover(file, size, [(data_start, [tensor])])


def _read_header(file: ReadableFile, size: int) -> tuple[int, bytes]:
    """Returns where the data starts, and the header's text."""
    fixed = read_at(file, 0, 12)
    length_bytes = 2 if fixed[6] == 1 else 4
    start = 8 + length_bytes
    length = int.from_bytes(fixed[8:start], "little")
    if length > min(_MAX_HEADER_BYTES, size - start):
        raise Unreadable(f"header of {length} bytes in a file of {size}")
    return start + length, read_at(file, start, length)
