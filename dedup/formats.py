"""Which module takes which file apart.

A format is a module with two functions: `recognise(name) -> bool` and
`segment(file, size) -> list[Segment]`. To add one, write the module and list it here.
"""

from __future__ import annotations

from typing import BinaryIO

from . import safetensors
from .segments import Opaque, Segment

_FORMATS = (safetensors,)


def segment_file(name: str, file: BinaryIO, size: int) -> list[Segment]:
    """Returns the segments that cover a file of `size` bytes, in order, not yet hashed.

    A file of no known format is one opaque segment; an empty one has none. Raises InvalidFile
    where a file breaks the format its name claims.
    """
    for module in _FORMATS:
        if module.recognise(name):
            return module.segment(file, size)
    return [Opaque(size)] if size else []
