"""Reads chunks: fetches their frames in batches, what these need too, and decodes them.

The inputs of a frame have frames of a lower level each (ARCHITECTURE.md, "Edges"): so what is
fetched for a chunk has an end, whatever frames say. Chains of deltas are fetched a link at a time
for all chunks of a batch, and decoded from their ends.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...codecs.buffers import view_bytes
from ...codecs.errors import FrameError
from ...codecs.frame import FrameHeader
from ...store.cancel import check_cancelled
from ...store.packs import DERIVED
from ..errors import ChunksMissing, Corrupt
from ..model.files.entries import ChunkUse
from ..model.files.segments import CHUNK_BYTES
from .base_cache import BaseCache, Buffer
from .buffer_pool import BUFFERS
from .chains import (
    Frames,
    MovedError,
    Need,
    bases_needed,
    check_level,
    decode_whole,
    load_chains,
)
from .frame_parts import (
    LEAST_BYTES,
    FetchPart,
    FramePart,
    base_range,
    decode_base_part,
    decode_frame_part,
    pays,
)
from .timed_codecs import decode_range, derive_range, read_header
from .workers import Background, result_of

FetchFrames = Callable[[Sequence[bytes]], Iterator[bytes]]
Keep = Callable[[ChunkUse, FrameHeader, bytes, Buffer], None]
Raw = NDArray[np.uint8]

# A batch is one request for frames. Two are in flight (one fetched while one is decoded), each
# with raw bytes, frames and bases: together about ten times this, at worst 350 MiB.
BATCH_BYTES = 32 * 1024 * 1024
BATCH_CHUNKS = 1000

# Bases stay at hand for the other deltas on them; the next chunk of a file has another base, so
# a large cache only helps files that repeat tensors.
BASE_CACHE_BYTES = 64 * 1024 * 1024


# A family that is re-encoded that often while a batch is read is no coincidence.
_ATTEMPTS = 4


@dataclass(frozen=True, slots=True)
class Slice:
    """The part [start, stop) of a chunk, in raw bytes."""

    use: ChunkUse
    start: int
    stop: int

    @property
    def is_whole(self) -> bool:
        """Whether it is all of the chunk."""
        return self.start == 0 and self.stop == self.use.size


@dataclass(frozen=True, slots=True)
class _Fetched:
    """A batch: its slices, the frames of its chunks by digest, and of chunks that are read in part
    the parts of their frames."""

    slices: list[Slice]
    frames: Frames
    parts: dict[Slice, FramePart]


# The raw bytes of the bases of a batch, by digest, and those of its parts.
_Bases = tuple[dict[bytes, Buffer], dict[Slice, Buffer | None]]


@dataclass(frozen=True, slots=True)
class Base:
    """What a delta may be made against: a chunk with its raw bytes, and the level of its frame."""

    digest: bytes
    raw: Buffer
    level: int


class ChunkReader:
    """Decodes chunks that `fetch` has the frames of; not for use by several threads at once.

    `received` counts the bytes of all frames fetched. `bases` is a cache to share with others,
    `batch_bytes` what is fetched together, at least a chunk. `fetch_part`: where parts of frames
    can be had; then of a chunk that is read in part, and of its base, only the blocks are that it
    takes. `keep` is called with each chunk that was decoded as a whole.
    """

    def __init__(
        self,
        fetch: FetchFrames,
        bases: BaseCache | None = None,
        *,
        batch_bytes: int = BATCH_BYTES,
        fetch_part: FetchPart | None = None,
        keep: Keep | None = None,
    ) -> None:
        self.received = 0
        self._keep = keep
        self._fetch_part = fetch_part
        self._fetch = fetch
        self._bases = BaseCache(BASE_CACHE_BYTES) if bases is None else bases
        self._batch_bytes = batch_bytes

    def read_bases(self, uses: Iterable[ChunkUse], longest: int) -> Iterator[list[Base]]:
        """Yields for each chunk what a delta may be made against whose chain has at most `longest`
        of them: the chunk itself, if its frame is low enough, and all that this rests on, nearest
        first. Of one chunk at a time all of them are in memory."""
        for batch in _batches((Slice(use, 0, use.size) for use in uses), self._batch_bytes):
            frames = self._fetch_links_again(batch)
            for part in batch:
                yield self._decode_links(part.use.digest, frames, longest)

    def _fetch_links_again(self, batch: list[Slice]) -> Frames:
        for _ in range(_ATTEMPTS - 1):
            with suppress(MovedError, ChunksMissing):
                return self._fetch_links(batch)
        return self._fetch_links(batch)

    def _fetch_links(self, batch: list[Slice]) -> Frames:
        """Fetches the frames of chunks and of all that these rest on first of all."""
        found: Frames = {}
        new: dict[bytes, int | None] = {part.use.digest: part.use.size for part in batch}
        while new:
            frames = self._fetch_frames(new)
            found |= frames
            new = {h.inputs[0]: None for h, _ in frames.values() if h.inputs}
            new = {digest: size for digest, size in new.items() if digest not in found}
        for header, _ in found.values():
            if header.inputs:
                check_level(found[header.inputs[0]][0], header.level)
        return found

    def _decode_links(self, digest: bytes, frames: Frames, longest: int) -> list[Base]:
        links = [frames[digest]]
        while links[-1][0].inputs:
            links.append(frames[links[-1][0].inputs[0]])
        bases: list[Base] = []
        for header, frame in reversed(links):
            if header.level < longest:
                raw = self._bases.get(header.digest)
                if raw is None:
                    raw = decode_whole(frame, bases[-1].raw if bases else None, header)
                    self._bases.put(header.digest, raw)
                bases.append(Base(header.digest, raw, header.level))
        return bases[::-1]

    def read(self, uses: Iterable[ChunkUse]) -> Iterator[Buffer]:
        """Yields the raw bytes of chunks in order, each verified against its digest."""
        return self.read_slices(Slice(use, 0, use.size) for use in uses)

    def read_input(self, digest: bytes, below: int) -> Buffer:
        """Returns the raw bytes of a chunk whose frame has a level below `below`, kept at hand for
        the next call. Raises Corrupt or Missing."""
        return self._load({digest: Need(None, below)})[digest]

    def read_slices(self, slices: Iterable[Slice]) -> Iterator[Buffer]:
        """Yields parts of chunks in order; whole chunks are verified against their digests, parts
        by the checksums of the blocks they lie in. Raises Corrupt when something is not right."""
        with Background("fetch") as fetcher:
            pending: Future[_Fetched] | None = None
            for batch in _batches(slices, self._batch_bytes):
                upcoming = fetcher.submit(self._fetch_batch, batch)
                if pending:
                    yield from self._decode(result_of(pending))
                pending = upcoming
            if pending:
                yield from self._decode(result_of(pending))

    def _fetch_batch(self, slices: list[Slice]) -> _Fetched:
        fetch = self._fetch_part
        alone = {s for s in slices if fetch and pays(s.use.size, s.start, s.stop)}
        sizes = {s.use.digest: s.use.size for s in slices if s not in alone}
        parts = {s: self._fetch_slice(s) for s in alone if s.use.digest not in sizes}
        for part in [part for part in parts if parts[part].header.is_derived]:
            # It is short, but for what its recipe does not tell.
            sizes[part.use.digest] = part.use.size
            del parts[part]
        return _Fetched(slices, self._fetch_frames(sizes) if sizes else {}, parts)

    def _fetch_slice(self, part: Slice) -> FramePart:
        return self._checked_part(part.use.digest, part.use.size, part.start, part.stop)

    def _checked_part(self, digest: bytes, size: int | None, start: int, stop: int) -> FramePart:
        assert self._fetch_part is not None
        found = self._fetch_part(digest, start, stop)
        self.received += len(found.data)
        _check_header(found.header, digest, size)
        return found

    def _fetch_frames(self, sizes: Mapping[bytes, int | None]) -> Frames:
        frames: Frames = {}
        for (digest, size), frame in zip(sizes.items(), self._fetch(list(sizes)), strict=True):
            self.received += len(frame)
            # Before it is kept: a batch in memory is as large as its chunks, whoever sent it.
            if len(frame) > _most_frame_bytes(CHUNK_BYTES if size is None else size):
                raise Corrupt(f"frame of chunk {digest.hex()} takes more than the chunk itself")
            frames[digest] = (_checked_header(frame, digest, size), frame)
        return frames

    def _with_bases(self, batch: _Fetched) -> tuple[_Fetched, _Bases]:
        """Returns a batch with the raw bytes of its bases; fetched again where its family was
        re-encoded meanwhile: what its frames need is a delta now, or is not sent any more."""
        for _ in range(_ATTEMPTS - 1):
            try:
                return batch, self._bases_of(batch)
            except (MovedError, ChunksMissing):
                batch = self._fetch_batch(batch.slices)
        return batch, self._bases_of(batch)

    def _bases_of(self, batch: _Fetched) -> _Bases:
        whole = {part.use.digest for part in batch.slices if not self._is_short(part)}
        bases = self._load_needed(batch.frames, whole)
        return bases, {s: self._base_part(part, bases) for s, part in batch.parts.items()}

    def _base_part(self, part: FramePart, known: Mapping[bytes, Buffer]) -> Buffer | None:
        """Returns the base of a part of a frame: all of it if it is at hand, else memory in which
        only what the part needs is there. None where it is standalone."""
        digest, size = part.header.base_digest, part.header.base_bytes
        if digest is None:
            return None
        base = known.get(digest) or self._bases.get(digest)
        if base is not None:
            return base
        if size is None:
            return self.read_input(digest, part.header.level)
        found = self._checked_part(digest, size, *base_range(part, size))
        check_level(found.header, part.header.level)
        return decode_base_part(found, self._base_part(found, {}))

    def _is_short(self, part: Slice) -> bool:
        """Whether of the inputs of a derived frame only parts are read, for so few bytes of it."""
        few = part.stop - part.start <= LEAST_BYTES
        return self._fetch_part is not None and few and pays(part.use.size, part.start, part.stop)

    def _load_needed(self, frames: Frames, whole: Collection[bytes]) -> dict[bytes, Buffer]:
        """Returns the raw bytes of the bases that frames need, and has the first inputs of those
        of `whole` that are derived at hand: as many as the cache holds, in one request."""
        inputs: dict[bytes, int] = {}
        for digest, (header, _) in frames.items():
            if header.is_derived and digest in whole:
                inputs |= _inputs_of(header)
        room = BASE_CACHE_BYTES
        for digest, size in list(inputs.items()):
            room -= size
            if room < 0:
                del inputs[digest]
        self._load({digest: Need(size, DERIVED) for digest, size in inputs.items()})
        return self._load(bases_needed(frames))

    def _load(self, needs: Mapping[bytes, Need]) -> dict[bytes, Buffer]:
        return load_chains(needs, self._fetch_frames, self._bases)

    def _load_input(self, digest: bytes, size: int) -> Raw:
        return view_bytes(self._load({digest: Need(size, DERIVED)})[digest])

    def _load_input_part(self, digest: bytes, size: int, start: int, stop: int) -> Raw:
        """Returns the bytes [start, stop) of an input."""
        if not pays(size, start, stop) or self._bases.get(digest) is not None:
            return self._load_input(digest, size)[start:stop]
        found = self._checked_part(digest, size, start, stop)
        check_level(found.header, DERIVED)
        return view_bytes(decode_frame_part(found, self._base_part(found, {})))

    def _derive(self, frame: bytes, header: FrameHeader, part: Slice) -> Buffer:
        room = BUFFERS.take(part.stop - part.start)
        load_part = self._load_input_part if self._is_short(part) else None
        span = part.start, part.stop
        try:
            return derive_range(
                frame, header, self._load_input, *span, room.data, load_part=load_part
            )
        except FrameError as error:
            raise Corrupt(f"chunk {header.digest.hex()} cannot be computed: {error}") from error

    def _decode(self, fetched: _Fetched) -> Iterator[Buffer]:
        batch, (bases, bases_of_parts) = self._with_bases(fetched)
        # What is wanted more than once, as files repeat it or share it, is decoded once, and let go
        # of after its last use.
        left = Counter(part.use.digest for part in batch.slices if part not in batch.parts)
        held: dict[bytes, Buffer] = {}
        for part in batch.slices:
            check_cancelled()
            digest = part.use.digest
            if part in batch.parts:
                yield decode_frame_part(batch.parts[part], bases_of_parts[part])
                continue
            left[digest] -= 1
            if digest in held or left[digest]:
                raw = held.pop(digest, None)
                if raw is None:
                    raw = self._decode_one(batch, bases, Slice(part.use, 0, part.use.size))
                if left[digest]:
                    held[digest] = raw
                yield memoryview(raw)[part.start : part.stop]
            else:
                yield self._decode_one(batch, bases, part)

    def _decode_one(self, batch: _Fetched, bases: Mapping[bytes, Buffer], part: Slice) -> Buffer:
        header, frame = batch.frames[part.use.digest]
        if header.is_derived:
            raw = self._derive(frame, header, part)
        else:
            base = bases[header.base_digest] if header.base_digest is not None else None
            raw = _decode_slice(frame, header, base, part)
        if self._keep is not None and part.is_whole:
            self._keep(part.use, header, frame, raw)
        return raw


def _batches(slices: Iterable[Slice], batch_bytes: int) -> Iterator[list[Slice]]:
    """Cuts slices into batches of distinct chunks of so many bytes: one that comes again at once is
    fetched once."""
    batch: list[Slice] = []
    sizes: dict[bytes, int] = {}
    total = 0
    for part in slices:
        more = 0 if part.use.digest in sizes else part.use.size
        if batch and (total + more > batch_bytes or len(batch) >= BATCH_CHUNKS):
            yield batch
            batch, sizes, total, more = [], {}, 0, part.use.size
        batch.append(part)
        sizes[part.use.digest] = part.use.size
        total += more
    if batch:
        yield batch


def _inputs_of(header: FrameHeader) -> dict[bytes, int]:
    """The inputs of a derived frame, with their sizes."""
    from ..derivations import derived_frames

    try:
        operands = derived_frames.read_recipe(header).operands
    except FrameError as error:
        raise Corrupt(f"chunk {header.digest.hex()} has no valid recipe: {error}") from error
    return {piece.digest: piece.raw_bytes for operand in operands for piece in operand.pieces}


def _most_frame_bytes(raw_bytes: int) -> int:
    """Returns more than any frame of so many raw bytes takes."""
    return raw_bytes + raw_bytes // 16 + (1 << 16)


def _checked_header(frame: bytes, digest: bytes, size: int | None) -> FrameHeader:
    header = read_header(frame, digest)
    _check_header(header, digest, size)
    return header


def _check_header(header: FrameHeader, digest: bytes, size: int | None) -> None:
    fits = header.raw_bytes <= CHUNK_BYTES if size is None else header.raw_bytes == size
    if header.digest != digest or not fits:
        raise Corrupt(f"frame of chunk {digest.hex()} holds another chunk")


def _decode_slice(frame: bytes, header: FrameHeader, base: Buffer | None, part: Slice) -> Buffer:
    if part.start == 0 and part.stop == header.raw_bytes:
        return decode_whole(frame, base, header)
    try:
        # Bases were verified when they were decoded, so their digest need not be taken again.
        known = header.base_digest
        room = BUFFERS.take(part.stop - part.start)
        return decode_range(frame, part.start, part.stop, base=base, base_digest=known, out=room)
    except FrameError as error:
        raise Corrupt(f"chunk {part.use.digest.hex()} does not decode: {error}") from error
