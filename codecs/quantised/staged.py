"""Codes quantised groups against a prediction that grows better with what is known of them
(FORMAT.md, "Staged blocks").

Factors are predicted from nothing, scales from the true factors, quants from the true factors and
scales. What computes predictions is not known here: it is passed in.
"""

from collections.abc import Callable
from functools import cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..buffers import Bytes, freeze
from ..dtypes import Dtype
from ..errors import CorruptFrame
from ..rans.streams import Effort, Plan, Sink, StreamReader, plan_guided
from .fields import gather, scatter_kernel
from .groups import find_layout, list_places

STAGED = 12
"""The number of this layout in a block."""

NOTHING, FACTORS, SCALES = 0, 1, 2
"""What is known of groups: nothing; their F16 factors; all but the quants."""

# How many planes of a dtype are factors, two for each; the last plane is the quants, those between
# are scales.
_FACTOR_PLANES = {
    **dict.fromkeys(("Q4_0", "Q5_0", "Q8_0", "IQ4_NL", "TQ1_0", "TQ2_0"), 2),
    **dict.fromkeys(("Q3_K", "Q6_K", "IQ4_XS"), 2),
    **dict.fromkeys(("Q4_1", "Q5_1", "Q2_K", "Q4_K", "Q5_K"), 4),
    **dict.fromkeys(("MXFP4", "NVFP4"), 0),
}


class Refine(Protocol):
    """Predicts groups of which part is known."""

    def __call__(self, known: int, groups: Bytes, out: Bytes, margins: Bytes) -> None:
        """Fills ``out`` with the prediction of ``groups``, both (n,) uint8, of which the fields
        that ``known`` says are true and all else is 0; of the rest only the fields of the next
        stage count.

        Where that is SCALES, ``margins``, one uint8 for each quant, is filled with how near the
        quant was to its neighbours: below 128 to the one below, from 128 on to the one above, the
        nearer the closer to 0 and to 255.
        """
        ...


_UNFOLDED = freeze(
    np.array([-(n + 1) // 2 if n % 2 else n // 2 for n in range(256)]).astype(np.uint8)
)

Settle = Callable[[int, Bytes, Bytes], Bytes]
"""Gives the true symbols of a plane by its number, from the predicted ones and the margins."""


def can_stage(dtype: Dtype) -> bool:
    """Says whether blocks of ``dtype`` have stages."""
    return dtype.name in _FACTOR_PLANES


def plan_staged(raw: Bytes, predicted: Bytes, dtype: Dtype, refine: Refine, effort: Effort) -> Plan:
    """Plans the stages of (n,) uint8, n >= 1, whole groups, of which ``predicted`` (n,) is the
    prediction of nothing."""
    last = len(find_layout(dtype.name).planes) - 1
    true = raw.reshape(-1, dtype.group_bytes)
    found: list[tuple[Bytes, Bytes]] = []

    def settle(number: int, guess: Bytes, margins: Bytes) -> Bytes:
        symbols = gather(true, dtype, number)
        guide = margins if number == last else np.full(symbols.size, number, np.uint8)
        found.append((_residual(dtype, number, symbols, guess), guide))
        return symbols

    _walk(dtype, np.zeros_like(true), predicted, refine, settle)
    parts = [np.concatenate(part) for part in zip(*found[:-1], strict=True)], found[-1]
    streams = [plan_guided(freeze(plane), freeze(guide), effort) for plane, guide in parts]

    def write(sink: Sink) -> None:
        sink(bytes([STAGED]))
        for stream in streams:
            stream.write(sink)

    return Plan(1 + sum(stream.coded_bytes for stream in streams), write)


def decode_staged(reader: StreamReader, dtype: Dtype, refine: Refine, out: Bytes) -> None:
    """Decodes what `plan_staged` planned into every byte of ``out`` (n,) uint8; ``reader`` stands
    behind the layout's number. Raises CorruptFrame or UnsupportedFrame."""
    if not can_stage(dtype) or out.size % dtype.group_bytes:
        raise CorruptFrame("a block has stages where its dtype has none")
    planes = find_layout(dtype.name).planes
    groups = out.reshape(-1, dtype.group_bytes)
    groups[:] = 0
    counts = [len(groups) * len(plane) for plane in planes]
    numbers = np.repeat(np.arange(len(planes) - 1, dtype=np.uint8), counts[:-1])
    fields = reader.take_plane(numbers.size, freeze(numbers))
    ends = np.cumsum(counts)

    def settle(number: int, guess: Bytes, margins: Bytes) -> Bytes:
        if number < len(planes) - 1:
            residual = fields[ends[number] - counts[number] : ends[number]]
        else:
            residual = reader.take_plane(counts[number], freeze(margins))
        return _restore(dtype, number, residual, guess)

    _walk(dtype, groups, None, refine, settle)


def _walk(
    dtype: Dtype, groups: Bytes, predicted: Bytes | None, refine: Refine, settle: Settle
) -> None:
    """Fills ``groups``, (n, group_bytes) uint8, zeros, plane by plane, each predicted from those
    before it; ``predicted``: the prediction of nothing where there is one already."""
    planes = find_layout(dtype.name).planes
    last, factors = len(planes) - 1, _FACTOR_PLANES[dtype.name]
    margins = np.empty(len(groups) * len(planes[last]), np.uint8)
    known, room = freeze(groups.reshape(-1)), np.empty(groups.size, np.uint8)
    first = room if predicted is None else predicted
    if predicted is None:
        refine(NOTHING, known, room, margins)
    for number in range(len(planes)):
        if number == last:
            refine(SCALES, known, room, margins)
        elif number == factors and number:
            refine(FACTORS, known, room, margins)
        guess = room if number == last or number >= factors > 0 else first
        symbols = settle(number, gather(guess.reshape(groups.shape), dtype, number), margins)
        places = list_places(dtype.name, number)
        scatter_kernel(freeze(symbols.reshape(len(groups), -1)), places, groups)


def _residual(dtype: Dtype, number: int, symbols: Bytes, guess: Bytes) -> Bytes:
    """Returns what must be added to the predicted symbols, of so many bits as they have: 0, -1, 1,
    -2 and so on as 0, 1, 2, 3."""
    return _fold(_bits(dtype, number))[symbols - guess]


def _restore(dtype: Dtype, number: int, residual: Bytes, guess: Bytes) -> Bytes:
    bits = _bits(dtype, number)
    if int(residual.max()) >> bits:
        raise CorruptFrame("a block adds to a field what it has no bits for")
    return (guess + _UNFOLDED[residual]) & np.uint8((1 << bits) - 1)


def _bits(dtype: Dtype, number: int) -> int:
    """Returns the bits of a symbol of a plane."""
    place = list_places(dtype.name, number)[0]
    return int(place[6]) + int(place[5]).bit_count()


@cache
def _fold(bits: int) -> NDArray[np.uint8]:
    """Returns the number of each difference modulo 256, which counts modulo 2**bits."""
    apart = np.arange(256) % (1 << bits)
    below = apart >= 1 << (bits - 1)
    return freeze(np.where(below, 2 * ((1 << bits) - apart) - 1, 2 * apart).astype(np.uint8))
