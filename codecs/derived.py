"""Codes a tensor against what a recipe predicts of it, block by block
(FORMAT.md, "Derived frames").

A stored block is one of a delta whose base is the prediction, so a tensor that is predicted exactly
takes one byte a block; or it is staged, where predictions grow better with what is known of a
block; or it says where elements were set to zero, and is a delta against the rest. What computes
predictions is not known here: it is passed in.
"""

from functools import partial
from typing import Protocol

import numpy as np

from . import frame as frames
from .blocks.blocks import BLOCK_SLACK
from .blocks.parallel import BLOCK_BYTES, choose_effort, find_place, put_block, take_block
from .buffers import Bytes
from .delta import blocks
from .delta.blocks import BlockJob
from .delta.deltas import LAYOUTS, choose_wishes
from .dtypes import Dtype, find_dtype
from .errors import CorruptFrame, WrongBase
from .quantised import staged
from .rans.streams import StreamReader
from .registry import Frame, Job

CUT = 14
"""The number of the layout that says where zeros are."""
_ENOUGH = 0.25
"""A block that says where zeros are and takes no more than this share is not compared."""


class Predictor(Protocol):
    """Gives what a recipe predicts of a tensor."""

    def fill(self, start: int, out: Bytes) -> None:
        """Fills ``out``, (n,) uint8, with the predicted bytes from ``start`` on."""
        ...

    @property
    def can_refine(self) -> bool:
        """Whether `refine` may be called."""
        ...

    def refine(self, start: int, known: int, groups: Bytes, out: Bytes, margins: Bytes) -> None:
        """Fills ``out`` with the bytes from ``start`` on, as they are predicted once part of them
        is known (`staged.Refine`)."""
        ...

    def encode_zeros(
        self, raw: Bytes, predicted: Bytes, columns: int
    ) -> tuple[bytes, Bytes] | None:
        """Codes which elements of a block are zero where the predicted ones are not; also returns
        the prediction with zeros there. None where there are none."""
        ...

    def decode_zeros(self, reader: StreamReader, predicted: Bytes) -> Bytes:
        """Returns the prediction with the zeros that `encode_zeros` coded. Raises CorruptFrame."""
        ...


def block_size(dtype: str, columns: int = 0) -> int:
    """Returns the raw bytes of a block: whole groups of a quantised dtype, whole rows of
    ``columns`` elements if that is not 0 and they are shorter."""
    kind = find_dtype(dtype)
    unit = columns * kind.item_bytes if kind.group_bytes == 1 else 0
    unit = unit if 0 < unit <= BLOCK_BYTES else kind.group_bytes * kind.item_bytes
    return BLOCK_BYTES - BLOCK_BYTES % unit


def encode_derived(
    data: Bytes,
    dtype: str,
    digest: bytes,
    inputs: tuple[bytes, ...],
    recipe: bytes,
    predictor: Predictor,
    *,
    level: str = "default",
    columns: int = 0,
    most_bytes: int,
) -> Frame | None:
    """Encodes (n,) uint8, n >= 1, into a frame with the recipe; None where that would take more
    than ``most_bytes``, which is known as soon as the blocks so far do.

    ``columns``: elements in a row, where it matters that blocks are of whole rows; else 0.
    """
    kind, size = find_dtype(dtype), block_size(dtype, columns)
    wishes = choose_wishes(None, level, 0, kind.item_bytes > 2)
    each = BlockJob(kind, choose_effort(level, "planes"), wishes, LAYOUTS[None], level == "max")
    room = np.empty(min(size, data.size) + BLOCK_SLACK, np.uint8)
    stored: list[bytes] = []
    left = most_bytes - len(recipe) - 32 * len(inputs)
    for start in range(0, data.size, size):
        raw = data[start : start + size]
        predicted = np.empty(raw.size, np.uint8)
        predictor.fill(start, predicted)
        predicted.flags.writeable = False
        block = None
        if columns and not blocks.are_equal(raw, predicted):
            block = _cut(raw, predicted, each, predictor, columns)
        if block is None or len(block) > _ENOUGH * raw.size:
            used = blocks.encode_part(raw, predicted, start, each, room)
            plain = _stage(raw, predicted, start, each, predictor, used) or room[:used].tobytes()
            block = plain if block is None else min(block, plain, key=len)
        stored.append(block)
        left -= len(stored[-1])
        if left < 0:
            return None
    table = [(len(block), frames.checksum_block(block)) for block in stored]
    head = frames.pack_derived(dtype, data.size, digest, inputs, recipe, size, table)
    frame = b"".join([head, *stored])
    return frame if len(frame) <= most_bytes else None


def _stage(
    raw: Bytes, predicted: Bytes, start: int, job: BlockJob, predictor: Predictor, most_bytes: int
) -> bytes | None:
    """Returns a block in stages; None where it has none, or would not take less than
    ``most_bytes``."""
    if most_bytes <= 1 or not predictor.can_refine or not staged.can_stage(job.dtype):
        return None
    refine = partial(predictor.refine, start)
    plan = staged.plan_staged(raw, predicted, job.dtype, refine, job.effort)
    if plan.coded_bytes >= most_bytes:
        return None
    parts: list[bytes] = []
    plan.write(lambda part: parts.append(bytes(part)))
    return b"".join(parts)


def _cut(
    raw: Bytes, predicted: Bytes, job: BlockJob, predictor: Predictor, columns: int
) -> bytes | None:
    """Returns a block that says where zeros are; None where there are none."""
    found = predictor.encode_zeros(raw, predicted, columns)
    if found is None:
        return None
    coded, left = found
    room = np.empty(raw.size + BLOCK_SLACK, np.uint8)
    used = blocks.encode_part(raw, left, 0, job, room)
    return bytes([CUT]) + coded + room[:used].tobytes()


def decode_derived(
    header: frames.FrameHeader, frame: Bytes, start: int, predictor: Predictor, out: Bytes
) -> None:
    """Decodes the raw bytes from ``start`` on into ``out`` (n,) uint8: of the frame, and of the
    prediction, only the blocks that hold them. Raises CorruptFrame or UnsupportedFrame."""
    dtype = find_dtype(header.dtype)
    for span in header.spans(start, start + out.size):
        stored = take_block(frame, span)
        place = find_place(span, start, dtype, out)
        if stored.size and stored[0] == staged.STAGED:
            _decode_stages(stored, dtype, span.start, predictor, place)
            put_block(place, span, start, out)
            continue
        predicted = np.empty(span.stop - span.start, np.uint8)
        predictor.fill(span.start, predicted)
        predicted.flags.writeable = False
        if stored.size and stored[0] == CUT:
            reader = StreamReader(stored, 1)
            left = predictor.decode_zeros(reader, predicted)
            blocks.decode_part(stored[reader.offset :], dtype, left, place)
        else:
            blocks.decode_part(stored, dtype, predicted, place)
        put_block(place, span, start, out)


def _decode_stages(
    stored: Bytes, dtype: Dtype, start: int, predictor: Predictor, out: Bytes
) -> None:
    if not predictor.can_refine:
        raise CorruptFrame("a block has stages where its operation has none")
    reader = StreamReader(stored, 1)
    staged.decode_staged(reader, dtype, partial(predictor.refine, start), out)
    reader.finish()


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
