"""Codes one block against its base: plans what suits it, writes the smallest (FORMAT.md, "Delta
blocks").

layout 1 | what the layout says | tail
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..blocks import blocks, layouts
from ..buffers import Bytes, Words, freeze, scratch
from ..dtypes import Dtype
from ..errors import CorruptFrame
from ..planes import WORDS
from ..rans.streams import Effort, Plan, Sink, StreamReader
from ..row_map import Part, piece_of
from .difference_widths import Wish, decode_difference, plan_difference
from .sparse import MOST_CHANGED, decode_patch, plan_patch

IDENTICAL, PATCH, DIFFERENCE, PARTS = range(8, 12)
"""Layouts that need the base; below 8, with or without bit 7, are those of ``blocks``."""
_CODED = np.dtype([("raw_bytes", "<u4"), ("stored_bytes", "<u4")])
_SMALL_BYTES = 1 << 16
"""Below this, everything is tried at every level: a tensor of 768 bytes takes 300 as zstd of its
XOR, and more than that for the states of an entropy coder."""
_ENOUGH = {"BF16": 0.45, "F16": 0.6, "F32": 0.7, "F64": 0.8}
"""A difference that takes less than this part of the raw bytes is not compared with what stands
alone, unless the level says so. Weights of no base take 66 % in BF16, 85 in F16, 82 in F32; those
of few values or with zeros at their ends take less, and show it in a sample."""
_ENOUGH_OTHERWISE = 0.3
_SAMPLE_WORDS = 256
_PROBE_BYTES = 256
_LEAST_BYTES = 2048
"""Below this no differences are planned: the states of the entropy coder alone take 256 bytes."""
_NAME_BYTES = 32
"""What it costs a frame to name its base, which a tensor of one small block has to earn."""


@dataclass(frozen=True, slots=True)
class BlockJob:
    """What an encoder may try: of which ``layouts``, at which ``effort``, with which ``wishes``.

    ``thorough``: compare with everything else, too.
    """

    dtype: Dtype
    effort: Effort
    wishes: tuple[Wish, ...]
    layouts: frozenset[int]
    thorough: bool


def encode_parts(
    raw: Bytes, base: Bytes, parts: Sequence[Part], start: int, job: BlockJob, out: Bytes
) -> int:
    """Codes one block, (n,) uint8 with n >= 1, of which ``parts`` name the places in ``base``.

    ``start``: the place of the block in its tensor. Writes to the front of ``out``, (n +
    blocks.BLOCK_SLACK,) uint8 or more, and returns the length.
    """
    if len(parts) == 1:
        return encode_part(raw, piece_of(base, parts[0]), start, job, out)
    spans = [(part, raw[part.start - start : part.stop - start]) for part in parts]
    stored = []
    for part, piece in spans:
        room = np.empty(piece.size + blocks.BLOCK_SLACK, np.uint8)
        used = encode_part(piece, piece_of(base, part), part.start, job, room)
        stored.append(room[:used])
    table = np.array([(p.size, s.size) for (_, p), s in zip(spans, stored, strict=True)], _CODED)
    head = bytes([PARTS]) + len(spans).to_bytes(4, "little") + table.tobytes()
    if len(head) + sum(piece.size for piece in stored) > raw.size + blocks.BLOCK_SLACK:
        return encode_part(raw, None, start, job, out)
    return _place(out, [head, *(piece.data for piece in stored)])


def _place(out: Bytes, pieces: Sequence[bytes | memoryview]) -> int:
    end = 0
    for piece in pieces:
        out[end : end + len(piece)] = np.frombuffer(piece, np.uint8)
        end += len(piece)
    return end


def encode_part(raw: Bytes, base: Bytes | None, start: int, job: BlockJob, out: Bytes) -> int:
    """Codes (n,) uint8, n >= 1, against ``base`` (n,), or alone where that is None or no use."""
    if base is None or raw.size < job.dtype.item_bytes:
        return blocks.encode_block(raw, job.dtype, None, job.effort, out)
    if IDENTICAL in job.layouts and are_equal(raw, base):
        out[0] = IDENTICAL
        return 1
    best = _plan_best(raw, base, start, job)
    if best is None:
        return blocks.encode_block(raw, job.dtype, None, job.effort, out)
    end = 0

    def sink(part: bytes | memoryview) -> None:
        nonlocal end
        out[end : end + len(part)] = np.frombuffer(part, np.uint8)
        end += len(part)

    best.write(sink)
    return end


def are_equal(one: Bytes, other: Bytes) -> bool:
    """Tells whether (n,) and (n,) uint8 are the same; most tensors differ at once."""
    return one[:_PROBE_BYTES].tobytes() == other[:_PROBE_BYTES].tobytes() and np.array_equal(
        one, other
    )


def _plan_best(raw: Bytes, base: Bytes, start: int, job: BlockJob) -> Plan | None:
    """Plans what is smallest; None where that is the block by itself."""
    size = job.dtype.item_bytes
    target, against = as_words(raw, size), as_words(base, size)
    tail = raw[raw.size - raw.size % size :].tobytes()
    plans, unchanged = _plan_differences(target, against, tail, start, job)
    if PATCH in job.layouts and (unchanged + 1) * MOST_CHANGED > target.size * (MOST_CHANGED - 1):
        patch = plan_patch(target, against)
        if patch is not None:
            plans.append(_framed(PATCH, patch, tail))
    best = min(plans, key=lambda plan: plan.coded_bytes, default=None)
    if best is not None and not _should_compare(best, target, job):
        return best
    xored = freeze(np.bitwise_xor(raw, base, out=scratch("xored", raw.size, np.uint8)))
    turned = layouts.plan_layout(xored, job.dtype, job.effort, memory="delta")
    if best is None or turned.coded_bytes < best.coded_bytes:
        best = _flagged(turned)
    alone = layouts.plan_layout(raw, job.dtype, job.effort).coded_bytes
    return None if alone <= best.coded_bytes + (_NAME_BYTES if start == 0 else 0) else best


def _plan_differences(
    target: Words, base: Words, tail: bytes, start: int, job: BlockJob
) -> tuple[list[Plan], int]:
    """Plans what the job wishes; also returns how many elements may equal the base, at most."""
    plans, unchanged = [], target.size
    if target.size * target.itemsize < _LEAST_BYTES or DIFFERENCE not in job.layouts:
        return plans, unchanged
    for index, wish in enumerate(job.wishes):
        if wish.columns:
            wish = replace(wish, phase=start // target.itemsize % wish.columns)
        planned = plan_difference(target, base, job.dtype, job.effort, wish, f"difference{index}")
        if planned is not None:
            plans.append(_framed(DIFFERENCE, planned[0], tail))
            unchanged = min(unchanged, planned[1].unchanged())
    return plans, unchanged


def _should_compare(best: Plan, target: Words, job: BlockJob) -> bool:
    raw_bytes = target.size * target.itemsize
    enough = _ENOUGH.get(job.dtype.name, _ENOUGH_OTHERWISE) * raw_bytes
    if job.thorough or raw_bytes < _SMALL_BYTES or best.coded_bytes > enough:
        return True
    sample = target[:: max(1, target.size // _SAMPLE_WORDS)]
    ends_in_zeros = int(np.bitwise_or.reduce(sample)) & 255 == 0
    return ends_in_zeros or np.unique(sample).size * 2 < sample.size


def _framed(layout: int, plan: Plan, tail: bytes) -> Plan:
    def write(sink: Sink) -> None:
        sink(bytes([layout]))
        plan.write(sink)
        sink(tail)

    return Plan(1 + plan.coded_bytes + len(tail), write)


def _flagged(plan: Plan) -> Plan:
    """Sets the bit of the first byte that says that the block is XORed with its base."""

    def write(sink: Sink) -> None:
        first = True

        def flag(part: bytes | memoryview) -> None:
            nonlocal first
            sink(bytes([part[0] | blocks.XORED]) + bytes(part[1:]) if first else part)
            first = False

        plan.write(flag)

    return Plan(plan.coded_bytes, write)


def as_words(raw: Bytes, size: int) -> Words:
    """Returns the whole elements of (n,) uint8 as words, copied where they are not aligned."""
    words = raw[: raw.size - raw.size % size].view(WORDS[size])
    return words if words.flags.aligned else freeze(words.copy())


def needs_base(layout: int) -> bool:
    """Tells whether a stored block that begins with the number ``layout`` needs the base."""
    return bool(layout & blocks.XORED) or layout in range(IDENTICAL, PARTS + 1)


def decode_parts(
    stored: Bytes, dtype: Dtype, base: Bytes, parts: Sequence[Part], out: Bytes
) -> None:
    """Decodes one stored block into every byte of ``out`` (n,) uint8; mirrors
    ``encode_parts``.

    Raises CorruptFrame or UnsupportedFrame.
    """
    if not stored.size:
        raise CorruptFrame("a stored block is empty")
    if stored[0] != PARTS:
        whole = parts[0] if len(parts) == 1 else None
        decode_part(stored, dtype, None if whole is None else piece_of(base, whole), out)
        return
    reader = StreamReader(stored, 1)
    count = int.from_bytes(reader.take(4).data, "little")
    if count != len(parts):
        raise CorruptFrame("a block is not cut where the row map cuts it")
    table = reader.take(count * _CODED.itemsize).view(_CODED)
    at = 0
    for part, sizes in zip(parts, table, strict=True):
        end = at + part.stop - part.start
        if end - at != sizes["raw_bytes"]:
            raise CorruptFrame("a block is not cut where the row map cuts it")
        piece = reader.take(int(sizes["stored_bytes"]))
        decode_part(piece, dtype, piece_of(base, part), out[at:end])
        at = end
    reader.finish()


def decode_part(stored: Bytes, dtype: Dtype, base: Bytes | None, out: Bytes) -> None:
    """Decodes what ``encode_part`` wrote into every byte of ``out`` (n,) uint8."""
    layout = int(stored[0]) if stored.size else 0
    if layout not in (IDENTICAL, PATCH, DIFFERENCE):
        blocks.decode_block(stored, dtype, base, out)
        return
    if base is None:
        raise CorruptFrame("a block needs a base where it has none")
    reader = StreamReader(stored, 1)
    if layout == IDENTICAL:
        out[:] = base
    else:
        _decode_words(layout, reader, dtype, base, out)
    reader.finish()


def _decode_words(layout: int, reader: StreamReader, dtype: Dtype, base: Bytes, out: Bytes) -> None:
    against = as_words(base, dtype.item_bytes)
    if not against.size:
        raise CorruptFrame("a block without elements is coded as such")
    whole = against.size * dtype.item_bytes
    words = out[:whole].view(WORDS[dtype.item_bytes])
    room = words if words.flags.aligned else np.empty_like(words)
    decode = decode_patch if layout == PATCH else None
    if decode is not None:
        decode(reader, against, room)
    else:
        decode_difference(reader, dtype, against, room)
    if room is not words:
        words[:] = room
    out[whole:] = reader.take(out.size - whole)
