"""The envelope of one coded tensor: header, block table, checksums (FORMAT.md, "Frames").

magic 4 | version 1 | codec 1 | dtype 1 | flags 1 | raw bytes 8 | BLAKE3 of raw 32
[BLAKE3 of base 32]                           flag bit 0, its depth less 1 in bits 3 to 5
[runs 4, then per run: to 8, from 8, bytes 8] flag bit 1
[inputs 1, BLAKE3 of each 32, recipe bytes 4, recipe] flag bit 2
flat codecs:     xxh3-64 of the body 8
blocked codecs:  block bytes 4, then per block: stored bytes 4, xxh3 low half 4
xxh3-64 of everything above 8
body
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import xxhash

from .dtypes import BY_ID as DTYPES
from .dtypes import find_dtype
from .errors import CorruptFrame, UnsupportedFrame
from .registry import BY_ID, CODECS
from .row_map import Rows, pack_rows, packed_bytes, parse_rows

Buffer = bytes | bytearray | memoryview

MAGIC = b"WVF\x9e"
VERSION = 1
CODEC_IDS = {codec.name: codec.id for codec in CODECS.values()}
CODEC_NAMES = {codec.id: codec.name for codec in CODECS.values()}
RAW_OVERHEAD_BYTES = 64
"""What a frame of codec ``raw`` adds to the tensor, and so the most that any frame may add."""
MAX_INPUTS = 16
"""Tensors that a derived frame may name."""
MAX_DEPTH = 8
"""Deltas in a chain: the last of them takes so many frames and a standalone one."""
MAX_BLOCK_BYTES = 1 << 24
"""Bounds what one table entry of 8 bytes can make a reader allocate."""

_FIXED = struct.Struct("<4sBBBBQ32s")
_ENTRY = struct.Struct("<II")
_HAS_BASE = 1
_HAS_ROWS = 2
_HAS_RECIPE = 4
_DEPTH_SHIFT = 3
_DEPTH_BITS = (MAX_DEPTH - 1) << _DEPTH_SHIFT
_FLAGS_OFFSET = 7
_MOST_RECIPE_BYTES = 1 << 22
_DIGEST_BYTES = 32
_CHECKSUM_BYTES = 8


@dataclass(frozen=True, slots=True)
class BlockSpan:
    """Where one stored block lies in its frame, and which raw bytes it decodes to."""

    index: int
    offset: int
    stored_bytes: int
    checksum: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """Everything a frame says about itself before its body.

    ``raw_bytes``: length of the tensor. ``digest``: BLAKE3-256 of it. ``base_digest``: BLAKE3-256
    of the base, None where the frame is standalone. ``depth``: 1 where the base must be standalone,
    up to MAX_DEPTH where it may be a delta of a lower depth. ``frame_bytes``: length of the whole
    frame. ``body_offset``: where the body starts. ``block_bytes``: raw bytes per block, 0 for flat
    codecs, whose body has one checksum, ``body_checksum``. ``block_table``: the packed table of a
    blocked codec. ``rows``: which of its bytes stand where in the base, () where base and tensor
    are of equal length and every byte stands in the same place. ``recipe``: how to compute what the
    blocks are coded against, from the chunks ``recipe_inputs``; this package does not read it.
    """

    codec: str
    dtype: str
    raw_bytes: int
    digest: bytes
    base_digest: bytes | None
    frame_bytes: int
    body_offset: int
    block_bytes: int = 0
    body_checksum: int = 0
    block_table: bytes = b""
    rows: Rows = ()
    recipe: bytes = b""
    recipe_inputs: tuple[bytes, ...] = ()
    depth: int = 1

    @property
    def inputs(self) -> tuple[bytes, ...]:
        """The digests of the tensors whose raw bytes decoding takes, in the frame's order."""
        return self.recipe_inputs if self.base_digest is None else (self.base_digest,)

    @property
    def is_derived(self) -> bool:
        """Whether the frame is a recipe over its inputs instead of a delta on one."""
        return bool(self.recipe_inputs)

    @property
    def level(self) -> int:
        """0 for a standalone frame, its depth for a delta, MAX_DEPTH + 1 for a derived one: above
        those of inputs."""
        return MAX_DEPTH + 1 if self.is_derived else self.depth * len(self.inputs)

    @property
    def base_bytes(self) -> int | None:
        """The length that the base must have; None where it may have any, or there is none."""
        free = self.base_digest is None or self.rows or CODECS[self.codec].any_base
        return None if free else self.raw_bytes

    def spans(self, start: int = 0, stop: int | None = None) -> Iterator[BlockSpan]:
        """Yields the blocks that hold any of the raw bytes from ``start`` to ``stop``, in order."""
        end = self.raw_bytes if stop is None else stop
        if start >= end:
            return
        first = start // self.block_bytes
        offset = self.body_offset
        for index, (stored_bytes, checksum) in enumerate(_ENTRY.iter_unpack(self.block_table)):
            begin = index * self.block_bytes
            if begin >= end:
                return
            if index >= first:
                finish = min(begin + self.block_bytes, self.raw_bytes)
                yield BlockSpan(index, offset, stored_bytes, checksum, begin, finish)
            offset += stored_bytes


def frame_room(raw_bytes: int) -> int:
    """Returns how much memory ``pipeline.encode_into`` needs for a tensor of ``raw_bytes``: what
    the longest frame takes, and the name of a base that is tried and of no use.
    """
    return raw_bytes + RAW_OVERHEAD_BYTES + _DIGEST_BYTES


def checksum_body(body: Buffer) -> int:
    """Returns the xxh3-64 that guards the body of a flat codec."""
    return xxhash.xxh3_64_intdigest(body)


def checksum_block(stored: Buffer) -> int:
    """Returns the low 32 bits of the xxh3-64 of one stored block."""
    return xxhash.xxh3_64_intdigest(stored) & 0xFFFFFFFF


def _pack_common(
    codec: str, dtype: str, raw_bytes: int, digest: bytes, base: bytes | None, rows: Rows = ()
) -> bytes:
    flags = 0 if base is None else _HAS_BASE
    flags |= _HAS_ROWS if rows else 0
    fixed = _FIXED.pack(
        MAGIC, VERSION, CODECS[codec].id, find_dtype(dtype).id, flags, raw_bytes, digest
    )
    return fixed + (base or b"") + (pack_rows(rows) if rows else b"")


def _seal(head: bytes) -> bytes:
    return head + xxhash.xxh3_64_intdigest(head).to_bytes(_CHECKSUM_BYTES, "little")


def pack_flat(
    codec: str,
    dtype: str,
    raw_bytes: int,
    digest: bytes,
    body: Buffer,
    base_digest: bytes | None = None,
    rows: Rows = (),
) -> bytes:
    """Returns all of a flat frame before its ``body``."""
    head = _pack_common(codec, dtype, raw_bytes, digest, base_digest, rows)
    head += checksum_body(body).to_bytes(_CHECKSUM_BYTES, "little")
    return _seal(head)


def blocked_head_bytes(count: int, has_base: bool, rows: Rows = ()) -> int:
    """Returns the length of what ``pack_blocked`` returns for ``count`` blocks."""
    common = _FIXED.size + has_base * _DIGEST_BYTES + (len(pack_rows(rows)) if rows else 0)
    return common + 4 + count * _ENTRY.size + _CHECKSUM_BYTES


def pack_blocked(
    codec: str,
    dtype: str,
    raw_bytes: int,
    digest: bytes,
    base_digest: bytes | None,
    block_bytes: int,
    blocks: Sequence[tuple[int, int]],
    rows: Rows = (),
) -> bytes:
    """Returns all of a blocked frame but its body; ``blocks``: (stored bytes, checksum) of each."""
    head = bytearray(_pack_common(codec, dtype, raw_bytes, digest, base_digest, rows))
    head += block_bytes.to_bytes(4, "little")
    for stored_bytes, checksum in blocks:
        head += _ENTRY.pack(stored_bytes, checksum)
    return _seal(bytes(head))


def set_depth(frame: bytearray | memoryview, depth: int) -> None:
    """Writes into a frame how deep it is, if it has a base: what its coder need not know.

    Raises ValueError for a depth that is not 1 to MAX_DEPTH.
    """
    if not 1 <= depth <= MAX_DEPTH:
        raise ValueError(f"a depth of {depth}; 1 to {MAX_DEPTH} are allowed")
    header = parse_header(frame)
    if header.base_digest is not None:
        frame[_FLAGS_OFFSET] = frame[_FLAGS_OFFSET] & ~_DEPTH_BITS | (depth - 1) << _DEPTH_SHIFT
        head = header.body_offset - _CHECKSUM_BYTES
        frame[: header.body_offset] = _seal(bytes(frame[:head]))


def pack_derived(
    dtype: str,
    raw_bytes: int,
    digest: bytes,
    inputs: Sequence[bytes],
    recipe: bytes,
    block_bytes: int,
    blocks: Sequence[tuple[int, int]],
) -> bytes:
    """Returns all of a derived frame but its body; ``blocks`` as for ``pack_blocked``."""
    fixed = _FIXED.pack(
        MAGIC, VERSION, CODECS["derived"].id, find_dtype(dtype).id, _HAS_RECIPE, raw_bytes, digest
    )
    named = bytes([len(inputs)]) + b"".join(inputs)
    head = bytearray(fixed + named + len(recipe).to_bytes(4, "little") + recipe)
    head += block_bytes.to_bytes(4, "little")
    for stored_bytes, checksum in blocks:
        head += _ENTRY.pack(stored_bytes, checksum)
    return _seal(bytes(head))


class _Cursor:
    """Takes fields off the front of a frame and knows when there are none left."""

    def __init__(self, frame: memoryview) -> None:
        self.frame = frame
        self.offset = 0

    def take(self, count: int, what: str) -> bytes:
        left = len(self.frame) - self.offset
        if count > left:
            raise CorruptFrame(f"frame ends inside its {what}: {count} bytes needed, {left} there")
        self.offset += count
        return bytes(self.frame[self.offset - count : self.offset])

    def take_int(self, count: int, what: str) -> int:
        return int.from_bytes(self.take(count, what), "little")


def parse_header(frame: Buffer, frame_bytes: int | None = None) -> FrameHeader:
    """Parses the header of a frame (any C-contiguous bytes-like) and checks every length in it.

    ``frame_bytes``: length of the whole frame where ``frame`` is only the front of it.

    Raises CorruptFrame for anything a writer would not have written, including a frame that is
    shorter or longer than its header says, and a front that is shorter than the header; and
    UnsupportedFrame for a version, codec or dtype this reader does not know.
    """
    view = memoryview(frame).cast("B")
    cursor = _Cursor(view)
    magic, version, codec_id, dtype_id, flags, raw_bytes, digest = _FIXED.unpack(
        cursor.take(_FIXED.size, "header")
    )
    if magic != MAGIC:
        raise CorruptFrame(f"not a frame: it starts with {magic!r}")
    if version != VERSION:
        raise UnsupportedFrame(f"frame of format version {version}; this reader knows {VERSION}")
    if codec_id not in BY_ID:
        raise UnsupportedFrame(f"frame of unknown codec id {codec_id}")
    if dtype_id not in DTYPES:
        raise UnsupportedFrame(f"frame of unknown dtype id {dtype_id}")
    if flags & ~(_HAS_BASE | _HAS_ROWS | _HAS_RECIPE | _DEPTH_BITS):
        raise UnsupportedFrame(f"frame with unknown flags {flags:#04x}")
    codec = BY_ID[codec_id]
    has_base = flags & _HAS_BASE
    base_digest = cursor.take(_DIGEST_BYTES, "base digest") if has_base else None
    rows = _take_rows(cursor, raw_bytes) if flags & _HAS_ROWS else ()
    inputs, recipe = _take_recipe(cursor) if flags & _HAS_RECIPE else ((), b"")
    block_bytes, body_checksum, table = 0, 0, b""
    if codec.body_bytes is not None:
        body_checksum = cursor.take_int(_CHECKSUM_BYTES, "body checksum")
    else:
        block_bytes, table = _take_table(cursor, raw_bytes)
    _check_seal(cursor)
    header = FrameHeader(
        codec=codec.name,
        dtype=DTYPES[dtype_id].name,
        raw_bytes=raw_bytes,
        digest=digest,
        base_digest=base_digest,
        frame_bytes=len(view) if frame_bytes is None else frame_bytes,
        body_offset=cursor.offset,
        block_bytes=block_bytes,
        body_checksum=body_checksum,
        block_table=table,
        rows=rows,
        recipe=recipe,
        recipe_inputs=inputs,
        depth=((flags & _DEPTH_BITS) >> _DEPTH_SHIFT) + 1,
    )
    _check_body_length(header)
    return header


def _take_recipe(cursor: _Cursor) -> tuple[tuple[bytes, ...], bytes]:
    count = cursor.take_int(1, "inputs")
    table = cursor.take(count * _DIGEST_BYTES, "inputs")
    inputs = tuple(table[i : i + _DIGEST_BYTES] for i in range(0, len(table), _DIGEST_BYTES))
    if not 1 <= len(set(inputs)) == count <= MAX_INPUTS:
        raise CorruptFrame("a derived frame names no inputs, too many, or one of them twice")
    size = cursor.take_int(4, "recipe")
    if size > _MOST_RECIPE_BYTES:
        raise CorruptFrame(f"a recipe of {size} bytes; at most {_MOST_RECIPE_BYTES} allowed")
    return inputs, cursor.take(size, "recipe")


def recipe_bytes(frame: Buffer, count: int) -> bytes:
    """Returns the recipe of a derived frame with `count` inputs, whatever else of it is damaged.
    Raises CorruptFrame where there is none."""
    view = memoryview(frame).cast("B")
    cursor = _Cursor(view)
    cursor.take(_FIXED.size + 1 + count * _DIGEST_BYTES, "inputs")
    return cursor.take(min(cursor.take_int(4, "recipe"), _MOST_RECIPE_BYTES), "recipe")


def _take_rows(cursor: _Cursor, raw_bytes: int) -> Rows:
    count = cursor.take_int(4, "row map")
    return parse_rows(count, cursor.take(packed_bytes(count), "row map"), raw_bytes)


def _take_table(cursor: _Cursor, raw_bytes: int) -> tuple[int, bytes]:
    block_bytes = cursor.take_int(4, "block size")
    if not 0 < block_bytes <= MAX_BLOCK_BYTES:
        raise CorruptFrame(f"block size of {block_bytes} bytes; at most {MAX_BLOCK_BYTES} allowed")
    count = -(-raw_bytes // block_bytes)
    return block_bytes, cursor.take(count * _ENTRY.size, "block table")


def _check_seal(cursor: _Cursor) -> None:
    expected = xxhash.xxh3_64_intdigest(cursor.frame[: cursor.offset])
    if cursor.take_int(_CHECKSUM_BYTES, "header checksum") != expected:
        raise CorruptFrame("the header does not match its checksum")


def _check_body_length(header: FrameHeader) -> None:
    codec = CODECS[header.codec]
    there = header.frame_bytes - header.body_offset
    if codec.body_bytes is not None:
        promised = codec.body_bytes(header.raw_bytes, there)
    else:
        promised = sum(stored for stored, _ in _ENTRY.iter_unpack(header.block_table))
    if there != promised:
        raise CorruptFrame(f"the header promises a body of {promised} bytes, {there} are there")
    if codec.needs_base != (header.base_digest is not None):
        raise CorruptFrame(f"codec {header.codec} does not go with the base flag")
    if codec.needs_recipe != bool(header.recipe_inputs):
        raise CorruptFrame(f"codec {header.codec} does not go with the recipe flag")
    if header.depth > 1 and header.base_digest is None:
        raise CorruptFrame("a chain of deltas in a frame without a base")
    if header.rows and header.base_digest is None:
        raise CorruptFrame("a row map in a frame without a base")
    if header.rows and codec.any_base:
        raise CorruptFrame("a row map in a patch")
    copied = sum(count for _, _, count in header.rows)
    if header.codec == "identical" and header.rows and copied != header.raw_bytes:
        raise CorruptFrame("a copy of the base has bytes that are not in it")
