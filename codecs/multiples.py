"""Codes wide floats that are small integers times a scale: ternary, int4 and int8 weights that are
kept in 16 or 32 bits (FORMAT.md, "Multiples").

A block has its scales, its integers, and what the elements are beside these, as a delta block.
"""

from functools import partial

import numpy as np

from . import frame as frames
from .blocks.assembly import Body
from .blocks.blocks import BLOCK_SLACK
from .blocks.layouts import decode_layout, plan_layout
from .blocks.parallel import BLOCK_BYTES, choose_effort, find_place, put_block, take_block
from .buffers import Bytes, freeze
from .delta import blocks
from .delta.blocks import BlockJob
from .delta.deltas import LAYOUTS, choose_wishes
from .dtypes import Dtype, find_dtype
from .errors import CorruptFrame
from .frame import FrameHeader
from .quantised.multiples import OVER, WIDTHS, count_groups, fill
from .quantised.scale_fits import Grouping, find_grouping, find_multiples
from .rans.streams import StreamReader, plan_stream
from .registry import Frame, Job
from .threads import map_all

MULTIPLES = 13
"""The number that a stored block begins with."""
_NAME = "multiples"


def encode(job: Job) -> list[Frame]:
    """Returns a frame where the elements are multiples, none where they are not."""
    name = job.dtype.name
    if name not in WIDTHS or job.codec not in (None, _NAME) or job.data.size % job.dtype.item_bytes:
        return []
    words = blocks.as_words(job.data, job.dtype.item_bytes)
    each = BLOCK_BYTES // job.dtype.item_bytes
    grouping = find_grouping(words, name, job.columns, each)
    if grouping is None:
        return []
    wishes = choose_wishes(None, "fast", 0, job.dtype.item_bytes > 2)
    effort = choose_effort(job.level, "planes")
    part = BlockJob(job.dtype, effort, wishes, LAYOUTS[None], False)
    count = -(-job.data.size // BLOCK_BYTES)
    body = Body(frames.blocked_head_bytes(count, False), job.data.size, BLOCK_BYTES)

    def code(index: int, place: Bytes) -> int:
        start = index * BLOCK_BYTES
        raw = job.data[start : start + BLOCK_BYTES]
        return _encode_block(raw, part, grouping.after(index * each), place)

    placed = body.encode(code, job.threads)
    table = [(block.stored_bytes, block.checksum) for block in placed]
    head = frames.pack_blocked(_NAME, name, job.data.size, job.digest, None, BLOCK_BYTES, table)
    return [body.finish(head)] if body.saves(head, job.data.size) else []


def _encode_block(raw: Bytes, job: BlockJob, grouping: Grouping, out: Bytes) -> int:
    """Codes one block to the front of ``out``, (n + BLOCK_SLACK,) uint8; returns its length. One
    that would not fit is coded as a block without multiples."""
    name = job.dtype.name
    symbols, scales = find_multiples(blocks.as_words(raw, job.dtype.item_bytes), name, grouping)
    given = fill(symbols, scales, grouping.rule, grouping.group, grouping.phase, name)
    rest = np.empty(raw.size + BLOCK_SLACK, np.uint8)
    used = blocks.encode_part(raw, freeze(given.view(np.uint8)), 0, job, rest)
    parts: list[bytes] = [bytes([MULTIPLES, grouping.rule])]
    parts += [number.to_bytes(4, "little") for number in (grouping.group, grouping.phase)]
    keep = partial(_keep, parts)
    plan_layout(freeze(scales.view(np.uint8)), find_dtype("F32"), job.effort).write(keep)
    plan_stream(symbols, job.effort).write(keep)
    parts.append(rest[:used].tobytes())
    stored = b"".join(parts)
    if len(stored) > raw.size + BLOCK_SLACK:
        return blocks.encode_part(raw, None, 0, job, out)
    out[: len(stored)] = np.frombuffer(stored, np.uint8)
    return len(stored)


def _keep(parts: list[bytes], part: bytes | memoryview) -> None:
    parts.append(bytes(part))


def decode(
    header: FrameHeader, frame: Bytes, start: int, _base: Bytes | None, threads: int, out: Bytes
) -> None:
    """Decodes the raw bytes from ``start`` on into ``out``, and of the frame only the blocks that
    hold them. Raises CorruptFrame or UnsupportedFrame."""
    dtype = find_dtype(header.dtype)

    def decode_span(span: frames.BlockSpan) -> None:
        place = find_place(span, start, dtype, out)
        _decode_block(take_block(frame, span), dtype, place)
        put_block(place, span, start, out)

    map_all(decode_span, list(header.spans(start, start + out.size)), threads)


def _decode_block(stored: Bytes, dtype: Dtype, out: Bytes) -> None:
    if not stored.size or stored[0] != MULTIPLES:
        blocks.decode_part(stored, dtype, None, out)
        return
    if dtype.name not in WIDTHS or out.size % dtype.item_bytes:
        raise CorruptFrame("a block has multiples where its dtype has none")
    reader = StreamReader(stored, 1)
    rule = int(reader.take(1)[0])
    group, phase = (int.from_bytes(reader.take(4).data, "little") for _ in range(2))
    count = out.size // dtype.item_bytes
    if rule > OVER or phase >= group:
        raise CorruptFrame("a block of multiples has groups that begin beyond their end")
    scales = np.empty(count_groups(count, group, phase), np.uint32)
    layout = int(reader.take(1)[0])
    decode_layout(layout, reader, find_dtype("F32"), scales.view(np.uint8))
    symbols = reader.take_plane(count)
    given = fill(symbols, scales, rule, group, phase, dtype.name)
    blocks.decode_part(stored[reader.offset :], dtype, freeze(given.view(np.uint8)), out)
