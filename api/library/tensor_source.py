"""Reads tensors of a revision: whole ones through their frames, parts of large ones as ranges.

A whole tensor travels as frames, is decoded here and verified by its digest. Of a chunk of which
little is wanted only the blocks are read that hold it (`Vault.read_range`). Small tensors share a
chunk, which is kept at hand.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain, groupby, pairwise
from threading import Lock
from typing import cast

import numpy as np
from numpy.typing import NDArray

from ...dedup.errors import Corrupt, InvalidInput, TensorNotFound
from ...dedup.model.files.entries import ChunkUse, FileEntry, TensorPlace
from ...dedup.reading.base_cache import BaseCache, Buffer
from ...dedup.reading.chunk_reader import ChunkReader, Slice
from ...dedup.reading.file_assembly import Part, weave
from ...dedup.reading.file_layout import FileLayout
from ...dedup.reading.frame_parts import pays
from ...dedup.reading.held.held_chunks import HeldChunks
from ...dedup.reading.held.likeness import Likeness, find_likenesses
from ...dedup.reading.resuming import read_on
from ...dedup.vault import FarReader, RangeReader, Snapshot
from ..cache_config import chunk_cache

Bytes = NDArray[np.uint8]

# What is kept of small chunks, each of which holds many small tensors, and of bases.
_SMALL_BYTES = 2 << 20
_SMALL_CACHE_BYTES = 16 << 20
_BASES_BYTES = 16 << 20
# One tensor after the other may be an accident, so many steps are none.
_STEPS = 2


class TensorSource:
    """The tensors of some files of a revision, by name. Safe to use from several threads, and in
    processes forked from this one.

    `connect` gives the vault, that of the process that calls it. Reading tensors one after the
    other, in the order of `names` or of `file_order`, is noticed: what follows is fetched and
    decoded ahead. Raises InvalidInput where two files have different tensors of one name.
    """

    def __init__(
        self,
        connect: Callable[[], RangeReader],
        snapshot: Snapshot,
        entries: Sequence[FileEntry],
    ) -> None:
        self._connect = connect
        self.snapshot = snapshot
        self.entries = tuple(entries)
        chunk_bytes = snapshot.manifest.chunk_bytes
        self._layouts = {entry.path: FileLayout(entry, chunk_bytes) for entry in entries}
        self._places = _find_places(entries)
        self.file_order = list(self._places)
        self.names = sorted(self._places)
        self._next = [_successors(self.file_order), _successors(self.names)]
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._lock = Lock()
        self._small = BaseCache(_SMALL_CACHE_BYTES)
        self._bases = BaseCache(_BASES_BYTES)
        self._last: str | None = None
        self._steps = 0
        self._ahead: tuple[dict[str, str], Generator[tuple[str, Bytes]]] | None = None

    def close(self) -> None:
        """Lets go of what is at hand, and of what is being fetched."""
        self._check_process()
        with self._lock:
            self._stop_ahead()
        self._begin()

    def place(self, name: str) -> TensorPlace:
        """Returns where a tensor is. Raises TensorNotFound."""
        found = self._places.get(name)
        if found is None:
            commit = self.snapshot.commit
            raise TensorNotFound(f"{commit.repo} at {commit.id} has no tensor {name!r}")
        return found

    def read(self, name: str) -> Bytes:
        """Returns the bytes of a tensor, (n,) uint8, in memory of their own."""
        self._check_process()
        place = self.place(name)
        with self._lock:
            before, self._last = self._last, name
            order = self._order_of(before, name)
            self._steps = self._steps + 1 if order is not None else 0
            if order is None:
                self._stop_ahead()
            elif self._ahead is not None or self._steps >= _STEPS:
                return self._read_ahead(name, order)
        return self._read_part(place, 0, place.tensor.size)

    def read_place(self, place: TensorPlace) -> Bytes:
        """Returns the bytes of a tensor at its place, (n,) uint8."""
        self._check_process()
        return self._read_part(place, 0, place.tensor.size)

    def read_range(self, name: str, start: int, stop: int) -> Bytes:
        """Returns the bytes [start, stop) of a tensor, (n,) uint8, in memory of their own."""
        self._check_process()
        return self._read_part(self.place(name), start, stop)

    def read_file(self, path: str, start: int, stop: int) -> Bytes:
        """Returns the bytes [start, stop) of a file, (n,) uint8."""
        self._check_process()
        return _gather(self._pieces(path, start, stop), stop - start)

    def stream_file(self, path: str) -> Iterator[Buffer]:
        """Yields the bytes of a file, piece by piece, each verified."""
        self._check_process()
        (size,) = (entry.size for entry in self.entries if entry.path == path)
        return self._pieces(path, 0, size)

    def stream(self, names: Iterable[str]) -> Generator[tuple[str, Bytes]]:
        """Yields tensors by name, in that order, what follows being fetched meanwhile."""
        places = [self.place(name) for name in names]
        parts = (part for place in places for part in self._parts_of(place))
        slices = (part for part in parts if isinstance(part, Slice))
        pieces = self._read_frames(slices)
        # A chunk that comes again at once is decoded once.
        uses = Counter(digest for place in places for digest in place.chunks)
        for place in places:
            made = weave(self._parts_of(place), pieces)
            own = _is_whole(list(self._parts_of(place))) and uses[place.chunks[0]] == 1
            yield place.tensor.name, (_take if own else _gather)(made, place.tensor.size)

    def _order_of(self, before: str | None, name: str) -> dict[str, str] | None:
        """Returns the order in which `name` comes right after `before`: that in which tensors are
        being fetched, if both fit."""
        orders = [self._ahead[0], *self._next] if self._ahead else self._next
        return next((order for order in orders if order.get(before or "") == name), None)

    def _read_ahead(self, name: str, order: dict[str, str]) -> Bytes:
        if self._ahead is None or self._ahead[0] is not order:
            self._stop_ahead()
            self._ahead = order, self.stream(_follow(order, name))
        try:
            found, raw = next(self._ahead[1])
        except BaseException:
            self._ahead = None
            raise
        assert found == name
        return raw

    def _stop_ahead(self) -> None:
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            ahead[1].close()

    def _check_process(self) -> None:
        """Starts over in a child: its parent's threads and connections are not there."""
        if self._process != os.getpid():
            # Never closed: the thread that it would wait for is the parent's.
            self._inherited = self._ahead
            self._begin()

    def _parts_of(self, place: TensorPlace) -> Iterator[Part]:
        return self._layouts[place.path].parts(place.offset, place.offset + place.tensor.size)

    def _read_part(self, place: TensorPlace, start: int, stop: int) -> Bytes:
        first, last = place.offset + start, place.offset + stop
        pieces = self._pieces(place.path, first, last)
        if _is_whole(list(self._layouts[place.path].parts(first, last))):
            return _take(pieces, stop - start)
        return _gather(pieces, stop - start)

    def _pieces(self, path: str, start: int, stop: int) -> Iterator[Buffer]:
        for kind, run in groupby(self._layouts[path].parts(start, stop), _way_to_read):
            if kind == "literal":
                yield from (part for part in run if isinstance(part, bytes))
                continue
            slices = [part for part in run if isinstance(part, Slice)]
            if kind == "frames":
                yield from self._read_frames(slices)
            elif kind == "small":
                yield from map(self._read_small, slices)
            else:
                yield from self._read_ranges(path, slices)

    def _read_ranges(self, path: str, slices: list[Slice]) -> Iterator[Buffer]:
        commit = self.snapshot.commit
        for part in slices:
            first, last = part.use.offset + part.start, part.use.offset + part.stop
            yield from self._connect().read_range(commit.repo, commit.id, path, first, last)

    def _read_small(self, part: Slice) -> Buffer:
        raw = self._small.get(part.use.digest)
        if raw is None:
            (raw,) = self._read_frames([Slice(part.use, 0, part.use.size)])
            self._small.put(part.use.digest, raw)
        return memoryview(raw)[part.start : part.stop]

    def _read_frames(self, slices: Iterable[Slice]) -> Iterator[Buffer]:
        """Yields parts of chunks that are decoded here. Those of a server are looked for in the
        user's cache first, and kept there."""
        commit, vault = self.snapshot.commit, self._connect()
        if not isinstance(vault, FarReader):
            yield from ChunkReader(self._fetch, self._bases).read_slices(slices)
            return
        held = HeldChunks(
            lambda: cast("FarReader", self._connect()),
            commit.repo,
            commit.id,
            self._likenesses,
            cache=chunk_cache(),
        )
        try:
            yield from ChunkReader(held.fetch, self._bases, keep=held.keep).read_slices(slices)
        finally:
            held.close()

    @cached_property
    def _likenesses(self) -> dict[bytes, tuple[ChunkUse, Likeness]]:
        return find_likenesses(self.entries, self.snapshot.manifest.chunk_bytes)

    def _fetch(self, digests: Sequence[bytes]) -> Iterator[bytes]:
        commit = self.snapshot.commit

        def read(left: Sequence[bytes]) -> Iterator[bytes]:
            return self._connect().read_frames(commit.repo, commit.id, left)

        return read_on(read, digests)


def _find_places(entries: Iterable[FileEntry]) -> dict[str, TensorPlace]:
    found: dict[str, TensorPlace] = {}
    for entry in entries:
        for place in entry.places():
            name = place.tensor.name
            if found.setdefault(name, place) is not place and not _same(found[name], place):
                raise InvalidInput(
                    f"{found[name].path!r} and {entry.path!r} have different tensors {name!r}",
                    "name the file",
                )
    return found


def _same(one: TensorPlace, other: TensorPlace) -> bool:
    facts = [(p.tensor.dtype, p.tensor.shape, p.chunks, p.start) for p in (one, other)]
    return facts[0] == facts[1]


def _way_to_read(part: Part) -> str:
    if isinstance(part, bytes):
        return "literal"
    if part.is_whole:
        return "frames"
    if part.use.size <= _SMALL_BYTES:
        return "small"
    return "range" if pays(part.use.size, part.start, part.stop) else "frames"


def _is_whole(parts: Sequence[Part]) -> bool:
    """Says whether parts are one whole chunk, which is decoded into memory of its own."""
    return len(parts) == 1 and isinstance(parts[0], Slice) and parts[0].is_whole


def _take(pieces: Iterator[Buffer], size: int) -> Bytes:
    """Returns the bytes of the only piece, in its own memory if that can be written to."""
    piece = next(pieces)
    if len(piece) != size or memoryview(piece).readonly:
        return _gather(chain([piece], pieces), size)
    # Whoever gives it gets to its end.
    rest = _gather(pieces, 0)
    assert not rest.size
    return np.frombuffer(piece, np.uint8)


def _gather(pieces: Iterable[Buffer], size: int) -> Bytes:
    """Returns the bytes of all pieces. Raises Corrupt unless they are as many as they should."""
    room, at = np.empty(size, np.uint8), 0
    for piece in pieces:
        if at + len(piece) > size:
            raise Corrupt("more bytes came than a tensor has")
        room[at : at + len(piece)] = np.frombuffer(piece, np.uint8)
        at += len(piece)
    if at != size:
        raise Corrupt(f"{size - at} bytes of a tensor are missing")
    return room


def _successors(order: Sequence[str]) -> dict[str, str]:
    return dict(pairwise(order))


def _follow(order: dict[str, str], name: str) -> Iterator[str]:
    current: str | None = name
    while current is not None:
        yield current
        current = order.get(current)
