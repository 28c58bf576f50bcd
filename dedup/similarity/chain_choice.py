"""Chooses which link of a chain a chunk is coded against.

A chunk may be a delta on the one before it, or on any that this rests on: nearer ones make it
smaller, lower ones leave more of the chain to those that come after, and are read with fewer
frames. Which is best is told by samples, encoded against each. A link counts for more than it
takes by its level: so a run of checkpoints becomes a tree whose branches are short, without anybody
knowing what will come. Of 21 checkpoints of one run, % of raw in chains of 4: 36.4 so, 35.1 for
the best such tree, 39.4 with a standalone one every 5, 52.2 for a star on the first.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...codecs.buffers import Bytes, view_bytes
from ...codecs.dtypes import find_dtype
from ...codecs.frame import frame_room
from ..model.files.entries import ChunkUse
from ..model.inputs import CHAIN_LENGTH
from ..reading.buffer_pool import BUFFERS
from ..reading.chunk_reader import Base, Buffer
from ..reading.timed_codecs import encode_into, encode_tensor

# What a delta on a link of the highest level that may be one would have to save beside one on a
# standalone chunk, as a share of its bytes. By trying 0 to 1 on the checkpoints of
# benchmarks/families/chains.py, with powers of 0.5 to 2.
_WEIGHT = 0.6
_POWER = 1.5

_SAMPLES, _SAMPLE_BYTES = 8, 16 * 1024

# Estimates this close may well be in another order really: both are encoded.
_CLOSE = 1.02
# Texts are patches of all of their base, of which samples say nothing.
_MOST_TEXTS = 3


def weigh(size: int, level: int) -> float:
    """Returns what a frame of so many bytes on a base of this level counts for."""
    return size * (1 + _WEIGHT * (level / CHAIN_LENGTH) ** _POWER)


def choose_links(raw: Buffer, dtype: str, bases: Sequence[Base]) -> list[Base]:
    """Returns the base that a chunk is best coded against, and the next where it comes close; none
    where it had better be standalone, so that a new chain begins."""
    distinct = list({base.digest: base for base in bases}.values())
    if len(distinct) < 2 and not any(base.level for base in distinct):
        return distinct
    if dtype == "U8":
        return distinct[:_MOST_TEXTS]
    data = view_bytes(raw)
    costs = [weigh(_estimate(data, dtype, view_bytes(b.raw)), b.level) for b in distinct]
    best = min(costs)
    chosen = distinct[costs.index(best)]
    if chosen.level and best >= _estimate(data, dtype, None):
        return []
    close = [b for b, cost in zip(distinct, costs, strict=True) if cost <= _CLOSE * best]
    return [chosen, *(base for base in close if base is not chosen)][:2]


def encode_best(
    use: ChunkUse,
    raw: Buffer,
    bases: Sequence[Base],
    level: str,
    threads: int | None = None,
) -> Buffer:
    """Returns the best frame of a chunk with the bytes `raw`: alone, or against one of the bases.
    `threads`: at most that many, None for every core."""
    known = {
        "level": level,
        "digest": use.digest,
        "columns": use.columns,
        "threads": threads,
    }

    def encode(**against: object) -> Buffer:
        room = BUFFERS.take(frame_room(len(raw)))
        return encode_into(room, raw, use.dtype, **known, **against)

    frames = [
        (
            base.level,
            encode(base=base.raw, base_digest=base.digest, depth=base.level + 1, rows=rows),
        )
        for base in choose_links(raw, use.dtype, bases)
        for rows in [_common_rows(len(raw), len(base.raw))]
    ]
    best = min(frames, key=lambda each: weigh(len(each[1]), each[0]), default=None)
    return encode() if best is None else best[1]


def _common_rows(size: int, base_size: int) -> list[tuple[int, int, int]] | None:
    """What a tensor has in common with a base that has fewer rows or more: what both begin with,
    as vocabularies grow at the end. None for a base of the same size."""
    return None if size == base_size else [(0, 0, min(size, base_size))]


def _estimate(raw: Bytes, dtype: str, base: Bytes | None) -> int:
    """Returns the bytes of a frame of samples of a chunk."""
    kind = find_dtype(dtype)
    unit = kind.group_bytes * kind.item_bytes
    size = raw.size if base is None else min(raw.size, base.size)
    length = _SAMPLE_BYTES - _SAMPLE_BYTES % unit
    if size <= _SAMPLES * length:
        starts = [0]
        length = size
    else:
        starts = [(size - length) * i // (_SAMPLES - 1) // unit * unit for i in range(_SAMPLES)]
    mine = np.concatenate([raw[start : start + length] for start in starts])
    if base is None:
        return len(encode_tensor(mine, dtype, digest=bytes(32)))
    theirs = np.concatenate([base[start : start + length] for start in starts])
    return len(
        encode_tensor(mine, dtype, base=theirs, digest=bytes(32), base_digest=bytes(32), threads=1)
    )
