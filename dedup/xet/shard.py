"""Shards: which ranges of which xorbs make up files (https://huggingface.co/docs/xet/shard).

A header, then records of 48 bytes: those of files, an end mark, those of xorbs, an end mark. What
may follow (lookup tables, a footer) repeats what the records tell and is not read.

Clients send shards; `pack_answer` makes the one that tells them which xorb has a chunk.
"""

from __future__ import annotations

import struct
from collections.abc import Generator, Iterator
from dataclasses import dataclass

from blake3 import blake3

from ..errors import InvalidUpload
from .hashes import HASH_BYTES, swap_groups
from .index import XorbIndex

MAX_SHARD_BYTES = 64 << 20

_TAG = b"HFRepoMetaData\x00UigEj{\x81W\x83\xa5\xbd\xd9\\\xcd\xd1J\xa9"
_VERSION = 2
_RECORD_BYTES = 48
_END = b"\xff" * HASH_BYTES
_HAS_PROOFS = 1 << 31
_HAS_SHA256 = 1 << 30

_HEADER = struct.Struct("<32sQQ")
_FILE = struct.Struct("<32sII8x")
_SEGMENT = struct.Struct("<32s4xIII")
_PROOF = struct.Struct("<32s16x")
_XORB = struct.Struct("<32s4xII4x")
_CHUNK = struct.Struct("<32s4xI8x")

# Of answers: a xorb with its bytes stored, a chunk with where it begins, and two lookup tables by
# the first eight bytes of a hash, giving the record of a xorb, or that and the chunk in it.
_ANSWER_XORB = struct.Struct("<32s4xIII")
_ANSWER_CHUNK = struct.Struct("<32sII8x")
_LOOKUP_XORB = struct.Struct("<QI")
_LOOKUP_CHUNK = struct.Struct("<QII")
# Version; where files, xorbs and, with their length, the tables of files, xorbs and chunks begin;
# a key of zeros, so that hashes are plain; when it was made and when it expires; bytes of xorbs on
# disk, of files, and of xorbs; where this footer begins.
_FOOTER = struct.Struct("<QQQQQQQQQ32xQQ48xQQQQ")
_FOOTER_VERSION = 1


@dataclass(frozen=True, slots=True)
class Segment:
    """The chunks [first, stop) of a xorb, of `size` raw bytes together, and the proof that whoever
    wrote the shard knows them."""

    xorb: bytes
    size: int
    first: int
    stop: int
    proof: bytes


@dataclass(frozen=True, slots=True)
class ShardFile:
    """A file: its Xet hash, its SHA-256 if the client computed one, and its segments."""

    hash: bytes
    sha256: bytes | None
    _segments: memoryview
    _proofs: memoryview

    def segments(self) -> Iterator[Segment]:
        """Yields the segments that make up the file, in order."""
        proofs = _PROOF.iter_unpack(self._proofs)
        segments = _SEGMENT.iter_unpack(self._segments)
        for (xorb, size, first, stop), (proof,) in zip(segments, proofs, strict=True):
            yield Segment(xorb, size, first, stop, proof)


@dataclass(frozen=True, slots=True)
class ShardXorb:
    """A xorb that the client will remember: its hash, raw bytes, and chunks."""

    hash: bytes
    size: int
    _chunks: memoryview

    def chunks(self) -> Iterator[tuple[bytes, int]]:
        """Yields the hash and the raw bytes of each chunk."""
        return _CHUNK.iter_unpack(self._chunks)


class Shard:
    """A shard, parsed as far as its structure goes: whether it tells the truth is open.

    `data` is kept, not copied, and must not change. Raises InvalidUpload.
    """

    def __init__(self, data: bytes | memoryview) -> None:
        self._data = memoryview(data).cast("B")
        if len(self._data) < _HEADER.size:
            raise InvalidUpload("shard ends inside its header")
        tag, version, _ = _HEADER.unpack(self._data[: _HEADER.size])
        if tag != _TAG or version != _VERSION:
            raise InvalidUpload("not a shard of version 2")
        self._xorbs_at = _run(self._walk_files())
        _run(self._walk_xorbs())

    def digest(self, *context: bytes) -> bytes:
        """Returns the BLAKE3-256 of the shard, within a `context`."""
        return blake3(blake3(self._data).digest() + b"\0".join(context)).digest()

    def files(self) -> Iterator[ShardFile]:
        """Yields the files."""
        return self._walk_files()

    def xorbs(self) -> Iterator[ShardXorb]:
        """Yields the xorbs."""
        return self._walk_xorbs()

    def _walk_files(self) -> Generator[ShardFile, None, int]:
        """Yields the files and returns where their section ends."""
        at = _HEADER.size
        while True:
            header, at = self._take(at, 1)
            digest, flags, count = _FILE.unpack(header)
            if digest == _END:
                return at
            if not flags & _HAS_PROOFS:
                raise InvalidUpload("shard with a file without proofs of its segments")
            segments, at = self._take(at, count)
            proofs, at = self._take(at, count)
            sha256 = None
            if flags & _HAS_SHA256:
                record, at = self._take(at, 1)
                sha256 = swap_groups(bytes(record[:HASH_BYTES]))
            yield ShardFile(digest, sha256, segments, proofs)

    def _walk_xorbs(self) -> Generator[ShardXorb, None, int]:
        """Yields the xorbs and returns where their section ends."""
        at = self._xorbs_at
        while True:
            header, at = self._take(at, 1)
            digest, count, size = _XORB.unpack(header)
            if digest == _END:
                return at
            chunks, at = self._take(at, count)
            yield ShardXorb(digest, size, chunks)

    def _take(self, at: int, count: int) -> tuple[memoryview, int]:
        """Returns `count` records and where they end."""
        end = at + count * _RECORD_BYTES
        if end > len(self._data):
            raise InvalidUpload("shard ends inside its records")
        return self._data[at:end], end


def pack_answer(index: XorbIndex, made: int, expires: int) -> bytes:
    """Returns a shard of one xorb, which clients may count on from `made` to `expires` (Unix
    seconds)."""
    header = _HEADER.pack(_TAG, _VERSION, _FOOTER.size)
    end = _END.ljust(_RECORD_BYTES, b"\0")
    records = [_ANSWER_XORB.pack(index.hash, len(index), index.size, index.size)]
    lookup = []
    for place, (digest, size) in enumerate(index.chunks()):
        records.append(_ANSWER_CHUNK.pack(digest, index.offset(place), size))
        lookup.append((_short(digest), 0, place))
    tables = [_LOOKUP_XORB.pack(_short(index.hash), 0)]
    tables += [_LOOKUP_CHUNK.pack(*entry) for entry in sorted(lookup)]
    body = header + end + b"".join(records) + end
    at = len(body)
    chunks_at, footer_at = at + _LOOKUP_XORB.size, at + sum(map(len, tables))
    places = (len(header), len(header) + len(end), at, 0, at, 1, chunks_at, len(lookup))
    footer = _FOOTER.pack(
        _FOOTER_VERSION, *places, made, expires, index.size, 0, index.size, footer_at
    )
    return body + b"".join(tables) + footer


def _short(digest: bytes) -> int:
    return int.from_bytes(digest[:8], "little")


def _run(section: Generator[object, None, int]) -> int:
    """Goes through a section and returns what its generator does."""
    while True:
        try:
            next(section)
        except StopIteration as end:
            return end.value
