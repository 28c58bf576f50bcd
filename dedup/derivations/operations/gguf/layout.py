"""The fields of each block type, and how its blocks are cut into them and put together again.

Where the bits of a field lie is what `codecs.quantised` knows of the same types.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .....codecs.buffers import Bytes
from .....codecs.dtypes import QUANTISED
from .....codecs.quantised.fields import gather_kernel, scatter_kernel
from .....codecs.quantised.groups import list_places

Symbols = NDArray[np.uint8] | NDArray[np.uint16]

FACTOR, SCALE, QUANT = range(3)
"""The stages of a block: each is predicted from the source and from the stages before it."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a block type.

    ``count``: values of it in a block. ``bits``: of a value; those of 16 bits are uint16, all else
    is uint8. ``stage``: FACTOR, SCALE or QUANT. ``planes``: what `codecs.quantised` calls it, the
    high byte first.
    """

    name: str
    count: int
    bits: int
    stage: int
    planes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Geometry:
    """How many elements a block stands for, and how many bytes it has."""

    elements: int
    block_bytes: int


_D = (("d", FACTOR, 2),)
_D_M = (("d", FACTOR, 2), ("m", FACTOR, 2))
_QUANTS = (("quants", QUANT, 1),)
_D_SCALES = (*_D, ("scales", SCALE, 1))
_MINIMA = (("d", FACTOR, 2), ("dmin", FACTOR, 2), ("scales", SCALE, 1), ("minima", SCALE, 1))
_SCALES_ALONE = (("scales", FACTOR, 1),)

# Name, stage and planes of each field, in the order of `codecs.quantised.groups`.
_FIELDS = {
    "Q4_0": _D + _QUANTS,
    "Q4_1": _D_M + _QUANTS,
    "Q5_0": _D + _QUANTS,
    "Q5_1": _D_M + _QUANTS,
    "Q8_0": _D + _QUANTS,
    "Q2_K": _MINIMA + _QUANTS,
    "Q3_K": _D_SCALES + _QUANTS,
    "Q4_K": _MINIMA + _QUANTS,
    "Q5_K": _MINIMA + _QUANTS,
    "Q6_K": _D_SCALES + _QUANTS,
    "IQ4_NL": _D + _QUANTS,
    "IQ4_XS": _D_SCALES + _QUANTS,
    "MXFP4": _SCALES_ALONE + _QUANTS,
    "NVFP4": _SCALES_ALONE + _QUANTS,
    "TQ1_0": _D + _QUANTS,
    "TQ2_0": _D + _QUANTS,
}

KINDS = tuple(_FIELDS)
"""The block types there are operations for, by ggml's names."""


def find_geometry(kind: str) -> Geometry:
    """Returns the size of a block; raises ValueError for a kind that is not one of `KINDS`."""
    if kind not in _FIELDS:
        raise ValueError(f"no operation quantises to {kind!r}; there are {', '.join(KINDS)}")
    dtype = QUANTISED[kind]
    return Geometry(dtype.group_elements, dtype.group_bytes)


@cache
def fields(kind: str) -> tuple[Field, ...]:
    """Returns the fields of a kind, factors first, quants last; raises ValueError for a kind that
    is not one of `KINDS`."""
    find_geometry(kind)
    found, plane = [], 0
    for name, stage, width in _FIELDS[kind]:
        places = list_places(kind, plane)
        high_bits = int(places[0, 5]).bit_count()
        bits = 16 if width == 2 else int(places[0, 6]) + high_bits
        planes = tuple(range(plane, plane + width))
        found.append(Field(name, len(places), bits, stage, planes))
        plane += width
    return tuple(found)


def split(kind: str, blocks: Bytes) -> dict[str, Symbols]:
    """Cuts whole blocks into their fields.

    ``blocks``: (n * block_bytes,) uint8. Returns for each field its values, (n * count,) uint8 or
    uint16, block after block. Raises ValueError where the last block is cut short.
    """
    groups = as_blocks(kind, blocks)
    parts: dict[str, Symbols] = {}
    for field in fields(kind):
        cut = [_gather(groups, kind, plane) for plane in field.planes]
        parts[field.name] = cut[0] if len(cut) == 1 else _widen(*cut)
    return parts


def join(kind: str, parts: Mapping[str, Symbols]) -> Bytes:
    """Puts blocks together again: mirrors `split`. Returns (n * block_bytes,) uint8.

    Raises ValueError where the fields are not those of as many blocks. Bits of a value above those
    of its field are dropped.
    """
    layout = fields(kind)
    count = len(parts[layout[0].name]) // layout[0].count
    if any(len(parts[field.name]) != count * field.count for field in layout):
        raise ValueError(f"the fields of {kind} belong to different numbers of blocks")
    groups = np.zeros((count, find_geometry(kind).block_bytes), np.uint8)
    for field in layout:
        values = parts[field.name]
        cut = [values] if len(field.planes) == 1 else [values >> 8, values & 0xFF]
        for plane, symbols in zip(field.planes, cut, strict=True):
            places = list_places(kind, plane)
            whole = np.ascontiguousarray(symbols, np.uint8).reshape(count, -1)
            scatter_kernel(whole, places, groups)
    return groups.reshape(-1)


def as_blocks(kind: str, data: Bytes) -> Bytes:
    """Returns a view of (n * block_bytes,) uint8 as (n, block_bytes); raises ValueError where it is
    none of so many."""
    return _as_rows(data, find_geometry(kind).block_bytes, f"bytes of {kind}")


def as_sources(kind: str, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns a view of (n * elements,) float32 as (n, elements); raises ValueError where it is
    none of so many."""
    return _as_rows(values, find_geometry(kind).elements, f"elements of {kind}")


def _as_rows(flat: Any, size: int, what: str) -> Any:
    if flat.ndim != 1 or flat.size % size or not flat.flags.c_contiguous:
        raise ValueError(f"{flat.shape} {what}: not one run of blocks of {size}")
    return flat.reshape(-1, size)


def _widen(high: NDArray[np.uint8], low: NDArray[np.uint8]) -> NDArray[np.uint16]:
    whole = high.astype(np.uint16)
    whole <<= np.uint16(8)
    whole |= low
    return whole


def _gather(groups: Bytes, kind: str, plane: int) -> NDArray[np.uint8]:
    places = list_places(kind, plane)
    symbols = np.empty((len(groups), len(places)), np.uint8)
    view = groups.view()
    view.flags.writeable = False
    gather_kernel(view, places, symbols)
    return symbols.reshape(-1)
