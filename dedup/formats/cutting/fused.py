"""Cuts tensors that hold several projections one below the other where these begin.

Some frameworks keep the query, key and value projections of a layer, or a gate and its up
projection, as one tensor: its rows are theirs, one after the other. Cut there, a part is a chunk
like the projection itself in files that keep them apart: the same one where the values are equal,
and found as its base, or as a delta on it, by its sketch where they are not. A cut that means
nothing costs some 200 bytes.
"""

from __future__ import annotations

import re
from dataclasses import replace

from ...model.files.segments import Segment, Tensor

# Below this, what a chunk costs besides its content is more than 1 % of a part's.
MIN_PART_BYTES = 16 * 1024

# Rows of queries, as many as there are columns, and of keys and values. Those that interleave them
# head by head (query_key_value of BLOOM and GPT-NeoX) are left whole.
_QKV = re.compile(r"(^|[._])(qkv|qkv_proj|w_?qkv|in_proj|attn_qkv)([._]?weight)?$", re.IGNORECASE)
_GATE_UP = re.compile(r"(^|[._])(ffn_)?(gate_up|gate_up_proj|w13)([._]weight)?$", re.IGNORECASE)


def cut_fused(segments: list[Segment]) -> list[Segment]:
    """Returns the segments of a file, fused tensors with the bytes of their parts."""
    return [
        replace(s, parts=parts) if isinstance(s, Tensor) and (parts := find_parts(s)) else s
        for s in segments
    ]


def find_parts(tensor: Tensor) -> tuple[int, ...]:
    """Returns the bytes of the projections that a tensor consists of; () for one that is whole.

    Its name says what kind of tensor it is, its shape where to cut. A shape alone says too little:
    feed-forward layers, too, may have three times as many rows as columns. And what is stored has
    no say: a tensor must be cut alike whenever it comes.
    """
    rows = _part_rows(tensor)
    if not any(rows) or tensor.size % sum(rows):
        return ()
    row_bytes = tensor.size // sum(rows)
    parts = tuple(count * row_bytes for count in rows)
    return parts if min(parts) >= MIN_PART_BYTES else ()


def _part_rows(tensor: Tensor) -> tuple[int, ...]:
    if len(tensor.shape) != 2:
        return ()
    rows, columns = tensor.shape
    shared, odd = divmod(rows - columns, 2)
    if _QKV.search(tensor.name) and 0 < shared <= columns and not odd:
        return columns, shared, shared
    if _GATE_UP.search(tensor.name) and rows % 2 == 0:
        return rows // 2, rows // 2
    return ()
