"""Which module takes which file apart.

A format is a module with two functions: `recognise(name, head) -> bool`, given the file's name and
its first HEAD_BYTES bytes, and `segment(file, size) -> list[Segment]`. To add one, write the
module and list it here.
"""

from __future__ import annotations

from functools import partial
from types import ModuleType

from ..errors import InvalidFile
from ..model.files.segments import Segment
from . import ggml, gguf, msgpack, npy, onnx, paddle, safetensors, tars, zips
from .cutting.content_chunks import cut_opaque, split_opaque
from .cutting.reader import HEAD_BYTES, ReadableFile, Unreadable, Window
from .hdf5 import hdf5
from .torch import numpy_pickles, torch_legacy

# An archive inside an archive inside an archive; one that holds itself is not followed for ever.
_MAX_DEPTH = 3

# The first that recognises a file takes it. Those without a magic number come last.
_FORMATS = (
    *(safetensors, gguf, ggml, npy, hdf5, torch_legacy, numpy_pickles, zips, tars),
    *(paddle, onnx, msgpack),
)
# Their `segment` also takes what takes a member apart.
_ARCHIVES = (zips, tars)
# By what people call them, where modules are called otherwise.
_NAMES = {zips: "zip", tars: "tar", torch_legacy: "torch", numpy_pickles: "pickle"}


def segment_file(name: str, file: ReadableFile, size: int) -> list[Segment]:
    """Returns the segments that cover a file of `size` bytes, in order, not yet hashed.

    What no format explains becomes opaque segments of content-defined chunks; an empty file has
    none. Every format is only tried, and a file that breaks it is opaque, whatever its name
    promises (formats/oddities.py says so).
    """
    # All that is read of it, at any depth, counts as one.
    return _segment(name, Window(file, 0, size), size, 0)


def find_format(name: str, file: ReadableFile) -> str:
    """Returns the name of the format that a file is tried as, "opaque" for none; what is in an
    archive has names of its own."""
    file.seek(0)
    kind = _recognise(name, file.read(HEAD_BYTES))
    if kind is None:
        return "opaque"
    return _NAMES.get(kind) or kind.__name__.rpartition(".")[2]


def _recognise(name: str, head: bytes) -> ModuleType | None:
    return next((module for module in _FORMATS if module.recognise(name, head)), None)


def _segment(name: str, file: ReadableFile, size: int, depth: int) -> list[Segment]:
    file.seek(0)
    kind = _recognise(name, file.read(HEAD_BYTES))
    try:
        if kind in _ARCHIVES:
            if depth < _MAX_DEPTH:
                return kind.segment(file, size, partial(_segment, depth=depth + 1))
        elif kind is not None:
            return kind.segment(file, size)
    except (Unreadable, InvalidFile):
        pass
    # A member of an archive may be two bytes; a file of its own is always worth a chunk.
    return split_opaque(file, 0, size) if depth else cut_opaque(file, 0, size)
