"""Codes a tensor against what a recipe predicts of it, block by block
(FORMAT.md, "Derived frames").

A stored block is one of a delta whose base is the prediction, so a tensor that is predicted exactly
takes one byte a block. What computes predictions is not known here: it is passed in.
"""

from typing import Protocol

import numpy as np

from . import frame as frames
from .blocks.parallel import BLOCK_BYTES, choose_effort, find_place, put_block, take_block
from .buffers import Bytes
from .delta import blocks
from .delta.blocks import BlockJob
from .delta.deltas import LAYOUTS, choose_wishes
from .dtypes import find_dtype
from .errors import WrongBase
from .registry import Frame, Job


class Predictor(Protocol):
    """Gives what a recipe predicts of a tensor."""

    def fill(self, start: int, out: Bytes) -> None:
        """Fills ``out``, (n,) uint8, with the predicted bytes from ``start`` on."""
        ...


def block_size(dtype: str) -> int:
    """Returns the raw bytes of a block: whole groups of a quantised dtype."""
    group = find_dtype(dtype).group_bytes
    return BLOCK_BYTES - BLOCK_BYTES % group


def encode_derived(
    data: Bytes,
    dtype: str,
    digest: bytes,
    inputs: tuple[bytes, ...],
    recipe: bytes,
    predictor: Predictor,
    *,
    level: str = "default",
    most_bytes: int,
) -> Frame | None:
    """Encodes (n,) uint8, n >= 1, into a frame with the recipe; None where that would take more
    than ``most_bytes``, which is known as soon as the blocks so far do.
    """
    kind, size = find_dtype(dtype), block_size(dtype)
    wishes = choose_wishes(None, level, 0, kind.item_bytes > 2)
    each = BlockJob(kind, choose_effort(level, "planes"), wishes, LAYOUTS[None], level == "max")
    count = -(-data.size // size)
    room = np.empty(frames.frame_room(data.size), np.uint8)
    stored: list[bytes] = []
    left = most_bytes - len(recipe) - 32 * len(inputs)
    for start in range(0, data.size, size):
        raw = data[start : start + size]
        predicted = np.empty(raw.size, np.uint8)
        predictor.fill(start, predicted)
        predicted.flags.writeable = False
        used = blocks.encode_part(raw, predicted, start, each, room)
        stored.append(room[:used].tobytes())
        left -= used
        if left < 0:
            return None
    assert len(stored) == count
    table = [(len(block), frames.checksum_block(block)) for block in stored]
    head = frames.pack_derived(dtype, data.size, digest, inputs, recipe, size, table)
    frame = b"".join([head, *stored])
    return frame if len(frame) <= most_bytes else None


def decode_derived(
    header: frames.FrameHeader, frame: Bytes, start: int, predictor: Predictor, out: Bytes
) -> None:
    """Decodes the raw bytes from ``start`` on into ``out`` (n,) uint8: of the frame, and of the
    prediction, only the blocks that hold them. Raises CorruptFrame or UnsupportedFrame."""
    dtype = find_dtype(header.dtype)
    for span in header.spans(start, start + out.size):
        stored = take_block(frame, span)
        predicted = np.empty(span.stop - span.start, np.uint8)
        predictor.fill(span.start, predicted)
        predicted.flags.writeable = False
        place = find_place(span, start, dtype, out)
        blocks.decode_part(stored, dtype, predicted, place)
        put_block(place, span, start, out)


def encode(job: Job) -> list[Frame]:
    """Returns none: who has a recipe calls `encode_derived`."""
    return []


def decode(
    header: frames.FrameHeader,
    frame: Bytes,
    start: int,
    base: Bytes | None,
    threads: int,
    out: Bytes,
) -> None:
    """Raises WrongBase: who can run recipes calls `decode_derived`."""
    raise WrongBase("the frame is derived: what it is coded against has to be computed")
