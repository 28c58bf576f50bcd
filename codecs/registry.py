"""The codecs: what each is called, how its frames are laid out, and which module codes it.

To add one, write its module and list it here. Such a module has two functions:

    encode(job: Job) -> list[Frame]
        the frames that pay for themselves; none is fine, and so are several to choose from
    decode(header, frame, start, base, threads, out) -> None
        the raw bytes of a frame from `start` on, into `out`; raises CorruptFrame
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

from .buffers import Bytes
from .dtypes import Dtype
from .row_map import Rows

Frame = bytes | memoryview
"""A whole frame: bytes of its own, or a view of memory that the caller keeps."""


@dataclass(frozen=True, slots=True)
class Job:
    """A tensor to encode: (n,) uint8 with its dtype and digest.

    ``base``: what it may be encoded against, with its digest. ``rows``: where its bytes stand in
    the base, () for the same place in one of equal length. ``codec``: the one to use, None for the
    best. ``columns``: elements in a row of the tensor, 0 where unknown. ``out``: memory for the
    frame, which a coder may use.
    """

    data: Bytes
    dtype: Dtype
    digest: bytes
    base: tuple[Bytes, bytes] | None
    rows: Rows
    codec: str | None
    level: str
    columns: int
    threads: int
    out: Bytes | None


@dataclass(frozen=True, slots=True)
class Codec:
    """One codec: its name, its id in a frame, and the module that encodes and decodes it.

    ``body_bytes``: how long the body of a flat frame must be, given the raw bytes of the tensor and
    the length that is there; None for a codec of blocks, whose table says it. ``needs_base``: its
    frames name a base. ``any_base``: of any length, and so never with a row map.
    ``needs_recipe``: its frames say how to compute what they are coded against, from any number of
    other tensors.
    """

    name: str
    id: int
    module: str
    body_bytes: Callable[[int, int], int] | None = None
    needs_base: bool = False
    needs_recipe: bool = False
    any_base: bool = False


def _one_element(raw_bytes: int, there: int) -> int:
    return there if 0 < there <= 8 and raw_bytes else 1


def _something(_: int, there: int) -> int:
    return max(1, there)


# In the order in which modules are tried; of frames of equal length the first is taken.
_ALL = (
    Codec("raw", 0, "flat", lambda raw_bytes, _: raw_bytes),
    Codec("constant", 1, "flat", _one_element),
    Codec("zstd-dictionary", 9, "texts", _something),
    Codec("zstd-patch", 10, "texts", _something, needs_base=True, any_base=True),
    Codec("multiples", 12, "multiples"),
    Codec("zstd", 2, "tensors"),
    Codec("planes", 3, "tensors"),
    Codec("bitx", 4, "tensors", needs_base=True),
    Codec("difference", 5, "tensors", needs_base=True),
    Codec("sparse", 6, "tensors", needs_base=True),
    Codec("identical", 7, "tensors", lambda *_: 0, needs_base=True),
    Codec("xor-context", 8, "tensors", needs_base=True),
    Codec("derived", 11, "derived", needs_recipe=True),
)
CODECS = {codec.name: codec for codec in sorted(_ALL, key=lambda codec: codec.id)}
"""By name, in the order of their ids."""
BY_ID = {codec.id: codec for codec in _ALL}
SHORTEST = "flat"
"""The module whose frames no other one can make smaller."""
CODERS = tuple(dict.fromkeys(codec.module for codec in _ALL if not codec.needs_recipe))
"""The modules, in the order in which they are tried; derived frames are asked for by themselves."""


@cache
def load_coder(module: str) -> Any:
    """Returns a codec's module. Only now it is imported, and what it needs compiled."""
    return import_module(f"..{module}", __name__)
