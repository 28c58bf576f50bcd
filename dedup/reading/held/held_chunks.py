"""Frames of a revision: from what is there already, the rest from a server, which is told of chunks
that the rest may be deltas on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence

from ....codecs.errors import FrameError
from ....codecs.frame import FrameHeader, parse_header
from ...model.files.entries import ChunkUse
from ...vault import FarReader
from ..base_cache import Buffer
from ..resuming import read_on
from ..timed_codecs import encode_tensor
from .chunk_cache import ChunkCache, Kept
from .likeness import Likeness
from .local_files import LocalFiles

MOST_OFFERS = 4
"""Chunks that are offered for one at most."""

# Frames that wait to be written together, as a transaction takes longer than a small file.
_QUEUE_BYTES = 8 << 20


class HeldChunks:
    """Gives the frames of chunks of one revision of a server's repo, whose `likenesses` are given;
    those that are in `cache` or in `local` are not asked for.

    `connect` gives the server, `repo` and `revision` name a commit there. `received` counts the
    bytes of frames that came, `reused` the raw bytes that did not have to. For one ChunkReader.
    """

    def __init__(
        self,
        connect: Callable[[], FarReader],
        repo: str,
        revision: str,
        likenesses: Mapping[bytes, tuple[ChunkUse, Likeness]],
        *,
        cache: ChunkCache | None = None,
        local: LocalFiles | None = None,
    ) -> None:
        self.received = 0
        self.reused = 0
        self._connect = connect
        self._place = repo, revision
        self._likenesses = likenesses
        self._cache = cache
        self._local = local
        self._cached: set[bytes] = set()
        self._queue: list[Kept] = []
        # What one server is told of chunks is nothing to another.
        self._origin = hashlib.sha256(connect().url.encode()).digest()[:8]

    def fetch(self, digests: Sequence[bytes]) -> Iterator[bytes]:
        """Yields the frames of `digests` in that order. Raises ChunksMissing for what neither the
        revision has nor is here any more."""
        cached = self._cache.holds(digests) if self._cache else set()
        self._cached |= cached
        local = self._local.holds(digests) if self._local else set()
        sent = self._ask([d for d in digests if d not in cached and d not in local])
        for digest in digests:
            if digest not in cached and digest not in local:
                yield next(sent)
                continue
            frame = self._read(digest)
            # It was dropped meanwhile, or is damaged.
            self._cached -= {digest} if frame is None else set()
            yield next(self._ask([digest])) if frame is None else frame

    def keep(self, use: ChunkUse, header: FrameHeader, frame: bytes, raw: Buffer) -> None:
        """Keeps a chunk for later, which came as `frame` and was verified; at the latest when this
        is closed."""
        known = self._likenesses.get(use.digest)
        if self._cache is None or known is None or use.digest in self._cached:
            return
        if header.inputs:
            # Nobody knows how long what it needs is kept.
            frame = encode_tensor(raw, use.dtype, digest=use.digest, columns=use.columns)
        keys = (self._origin + known[1].same, self._origin + known[1].near)
        self._cached.add(use.digest)
        self._queue.append(Kept(use.digest, frame, keys))
        if sum(len(item.frame) for item in self._queue) > _QUEUE_BYTES:
            self.close()

    def close(self) -> None:
        """Writes what is to be kept."""
        if self._cache is not None and self._queue:
            self._cache.put(self._queue)
            self._queue = []

    def _read(self, digest: bytes) -> bytes | None:
        frame = self._cache.get(digest) if self._cache else None
        if frame is not None and not _is_of(frame, digest):
            frame = None
        if frame is None and self._local is not None:
            raw = self._local.get(digest)
            if raw is not None:
                frame = encode_tensor(raw, "U8", codec="raw", digest=digest)
        if frame is not None and digest in self._likenesses:
            self.reused += self._likenesses[digest][0].size
        return frame

    def _ask(self, digests: Sequence[bytes]) -> Iterator[bytes]:
        offers = self._find_offers(digests) if digests else {}

        def read(left: Sequence[bytes]) -> Iterator[bytes]:
            told = {digest: offers[digest] for digest in left if digest in offers}
            return self._connect().read_offered(*self._place, left, told)

        for frame in read_on(read, digests):
            self.received += len(frame)
            yield frame

    def _find_offers(self, digests: Sequence[bytes]) -> dict[bytes, list[bytes]]:
        likes = {d: self._likenesses[d][1] for d in digests if d in self._likenesses}
        keys = [key for like in likes.values() for key in (like.same, like.near)]
        local = self._local.find_alike(keys) if self._local else {}
        cached: Mapping[bytes, list[bytes]] = {}
        if self._cache:
            cached = self._cache.find_alike([self._origin + key for key in keys])
        offers: dict[bytes, list[bytes]] = {}
        for digest, like in likes.items():
            found = [
                *local.get(like.same, ()),
                *cached.get(self._origin + like.same, ()),
                *local.get(like.near, ()),
                *cached.get(self._origin + like.near, ()),
            ]
            kept = [each for each in dict.fromkeys(found) if each != digest][:MOST_OFFERS]
            if kept:
                offers[digest] = kept
        return offers


def _is_of(frame: bytes, digest: bytes) -> bool:
    """Says whether a frame says that it holds a chunk, whatever name it was kept by."""
    try:
        header = parse_header(frame)
    except FrameError:
        return False
    return header.digest == digest and not header.inputs
