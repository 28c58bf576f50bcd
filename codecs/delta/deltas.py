"""Codes a tensor against its base, block by block, into one frame (FORMAT.md, "Frames")."""

from collections.abc import Sequence

from .. import frame as frames
from ..blocks.assembly import Body, Placed
from ..blocks.parallel import BLOCK_BYTES, choose_effort, find_place, put_block, take_block
from ..buffers import Bytes
from ..dtypes import find_dtype
from ..errors import CorruptFrame
from ..registry import Frame, Job
from ..row_map import Part, Rows, cut_parts
from ..threads import map_all
from . import blocks
from .blocks import DIFFERENCE, IDENTICAL, PARTS, PATCH, BlockJob
from .difference_widths import Wish

LAYOUTS: dict[str | None, frozenset[int]] = {
    "bitx": frozenset(),
    "difference": frozenset({DIFFERENCE}),
    "xor-context": frozenset({DIFFERENCE}),
    "sparse": frozenset({PATCH, IDENTICAL}),
    None: frozenset({IDENTICAL, PATCH, DIFFERENCE}),
}
"""The layouts of blocks that a codec may choose from; None for any codec."""


def choose_wishes(codec: str | None, level: str, columns: int, wide: bool) -> tuple[Wish, ...]:
    """Returns the ways to code differences that a level tries; ``wide``: elements of 4 or 8
    bytes.
    """
    if codec in ("sparse", "bitx"):
        return ()
    if codec == "xor-context":
        return (Wish(xored=True), Wish(fine=0, xored=True, low_bits=1))
    if level == "fast":
        return (Wish(fine=0),)
    best = Wish(columns=columns, centred=wide)
    if level == "default":
        return (best,)
    others = [Wish(centred=True), Wish(xored=True), Wish(fine=0, low_bits=1)]
    return (*others, best) if columns else tuple(others)


def encode_delta(job: Job, base: tuple[Bytes, bytes]) -> Frame | None:
    """Encodes a tensor of one byte or more against ``base`` and its digest into a frame.

    None where no block needs the base, or where the frame would be larger than a raw one. Where
    any codec may be used, it is the best for each block. A frame without blocks is short, and does
    not lie in ``job.out``.
    """
    data, dtype, codec, rows, digest = job.data, job.dtype, job.codec, job.rows, job.digest
    against, base_digest = base
    where = rows or ((0, 0, data.size),)
    # Groups of a quantised dtype are not cut in two.
    block_bytes = BLOCK_BYTES - BLOCK_BYTES % dtype.group_bytes
    starts = range(0, data.size, block_bytes)
    parts = [list(cut_parts(where, at, min(at + block_bytes, data.size))) for at in starts]
    if codec in (None, "identical") and all(_is_copy(data, against, cut) for cut in parts):
        head = frames.pack_flat("identical", dtype.name, data.size, digest, b"", base_digest, rows)
        return head if len(head) < data.size + frames.RAW_OVERHEAD_BYTES else None
    if codec == "identical":
        return None
    wishes = choose_wishes(codec, job.level, job.columns, dtype.item_bytes > 2)
    effort = choose_effort(job.level, "planes")
    thorough = job.level == "max" and codec is None
    each = BlockJob(dtype, effort, wishes, LAYOUTS[codec], thorough)

    def code(index: int, place: Bytes) -> int:
        start = index * block_bytes
        raw = data[start : start + block_bytes]
        return blocks.encode_parts(raw, against, parts[index], start, each, place)

    room = frames.blocked_head_bytes(len(parts), True, rows)
    body = Body(room, data.size, block_bytes, job.out)
    placed = body.encode(code, job.threads)
    if not any(blocks.needs_base(block.layout) for block in placed):
        return None
    head = frames.pack_blocked(
        codec or _name_codec(placed),
        dtype.name,
        data.size,
        digest,
        base_digest,
        block_bytes,
        [(block.stored_bytes, block.checksum) for block in placed],
        rows,
    )
    return body.finish(head) if body.saves(head, data.size) else None


def _is_copy(data: Bytes, base: Bytes, parts: Sequence[Part]) -> bool:
    for part in parts:
        piece = blocks.piece_of(base, part)
        if piece is None or not blocks.are_equal(data[part.start : part.stop], piece):
            return False
    return True


def _name_codec(placed: Sequence[Placed]) -> str:
    """Returns the codec that tells best what most of the stored bytes are."""
    taken = {"bitx": 0, "difference": 0, "sparse": 0}
    for block in placed:
        name = {PATCH: "sparse", DIFFERENCE: "difference", PARTS: "difference"}.get(block.layout)
        if name is None and blocks.needs_base(block.layout):
            name = "sparse" if block.layout == IDENTICAL else "bitx"
        if name is not None:
            taken[name] += block.stored_bytes
    return max(taken, key=lambda name: taken[name])


def decode_delta(
    header: frames.FrameHeader,
    frame: Bytes,
    start: int,
    base: Bytes,
    threads: int,
    out: Bytes,
) -> None:
    """Decodes the raw bytes of a frame with a base from ``start`` on into ``out`` (n,) uint8.

    Decodes the blocks that hold them and no others. ``base`` reaches as far as the row map says.
    Raises CorruptFrame or UnsupportedFrame.
    """
    where = header.rows or ((0, 0, header.raw_bytes),)
    if header.codec == "identical":
        _decode_identical(header, frame, start, base, where, out)
        return
    dtype = find_dtype(header.dtype)

    def decode(span: frames.BlockSpan) -> None:
        stored = take_block(frame, span)
        parts = list(cut_parts(where, span.start, span.stop))
        place = find_place(span, start, dtype, out)
        blocks.decode_parts(stored, dtype, base, parts, place)
        put_block(place, span, start, out)

    map_all(decode, list(header.spans(start, start + out.size)), threads)


def _decode_identical(
    header: frames.FrameHeader, frame: Bytes, start: int, base: Bytes, where: Rows, out: Bytes
) -> None:
    if frames.checksum_body(frame[header.body_offset :].data) != header.body_checksum:
        raise CorruptFrame("the body does not match its checksum")
    for part in cut_parts(where, start, start + out.size):
        piece = blocks.piece_of(base, part)
        if piece is None:
            raise CorruptFrame("a copy of the base has bytes that are not in it")
        out[part.start - start : part.stop - start] = piece
