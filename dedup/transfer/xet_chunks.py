"""Where the chunks of xorbs are: in an object of their own until the files they make up are stored,
then in those files.

The objects of a xorb are `xorbs/<generation>/<hash>`, its raw chunks back to back, and
`….index` beside it. The first goes as soon as all of it can be read from files; the second stays
for as long as a client may name the xorb.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ...store.backend import Backend
from ...store.cancel import check_cancelled
from ...store.catalogue.catalogue import Catalogue
from ...store.catalogue.files.xorbs import Generation, XorbRow, places_of
from ...store.errors import CorruptObject, NotFound
from ...store.repo_names import namespace_of
from ..errors import Corrupt, Missing
from ..reading.chunk_reader import Buffer
from ..xet.hashes import format_hash
from ..xet.index import XorbIndex, pack_index, parse_index
from ..xet.stored import data_key, index_key
from .uploads import IncomingFiles, LooseFile, Sees, StagedFile

# Some 40 bytes a chunk: 5 MB for xorbs of common chunks, 40 MB at the most.
_INDEXES_KEPT = 128
_READ_BYTES = 8 << 20
# A manifest of a large file takes megabytes; the ranges of a new one come from few others.
_FILES_KEPT = 4

Find = Callable[[bytes], LooseFile | None]


class XorbLost(Exception):
    """Chunks of a xorb that a client counts on can no longer be read, wherever they were. `digests`
    are those of stored chunks that were tried and are damaged or gone."""

    def __init__(self, message: str, digests: Collection[bytes] = ()) -> None:
        super().__init__(message)
        self.digests = set(digests)


@dataclass(frozen=True, slots=True)
class _Source:
    """Where the chunks of a xorb from a certain one to `stop` may be read from: their bytes, and
    the file and the range of it where the first of them is, if they come from a file."""

    pieces: Iterator[Buffer]
    stop: int
    place: tuple[StagedFile, int, int] | None = None


class XorbObjects:
    """Stores and reads the chunks of xorbs; safe to use from several threads.

    Methods raise StoreError kinds.
    """

    def __init__(self, backend: Backend, catalogue: Catalogue, incoming: IncomingFiles) -> None:
        self._backend = backend
        self._catalogue = catalogue
        self._incoming = incoming
        self._load_index = lru_cache(_INDEXES_KEPT)(self._read_index)

    def put(self, generation: Generation, index: XorbIndex, chunks: Path) -> None:
        """Stores the chunks of a xorb, back to back in the file `chunks`, and its index."""
        key = data_key(generation.name, index.hash)
        self._backend.put_file(key, chunks)
        self._backend.put(index_key(generation.name, index.hash), pack_index(index))

    def has(self, generation: Generation, row: XorbRow) -> bool:
        """Says whether the objects that a xorb on record should have are there."""
        keys = [index_key(generation.name, row.hash)]
        if row.kept:
            keys.append(data_key(generation.name, row.hash))
        return all(map(self._backend.exists, keys))

    def drop_data(self, generation: Generation, row: XorbRow) -> None:
        """Deletes the chunks of a xorb that is no longer kept."""
        self._backend.delete(data_key(generation.name, row.hash))

    def finder(self, generation: Generation) -> Find:
        """Returns what finds the owner's files by their SHA-256, and knows the last few again."""
        own = sees(generation)
        return lru_cache(_FILES_KEPT)(lambda sha256: self._incoming.find(sha256, own))

    def index(self, generation: Generation, digest: bytes) -> XorbIndex:
        """Returns the index of a xorb. Raises XorbLost."""
        try:
            return self._load_index(generation.name, digest)
        except (NotFound, CorruptObject, Corrupt) as error:
            raise XorbLost(f"the index of xorb {format_hash(digest)} is gone") from error

    def read(
        self, generation: Generation, row: XorbRow, first: int, stop: int, find: Find
    ) -> Iterator[Buffer]:
        """Yields the chunks [first, stop), each verified; `find` is what `finder` returns. Raises
        XorbLost where that fails.

        Somebody else may drop the object meanwhile: then what is left is read from files.
        """
        index = self.index(generation, row.hash)
        at = first
        while at < stop:
            check_cancelled()
            before, damaged = at, set[bytes]()
            for source in self._sources(generation, row, index, at, stop, find):
                for chunk in _verified(index, at, source.stop, source.pieces):
                    yield chunk
                    at += 1
                if at > before:
                    break
                damaged.update(_digests_at(*source.place) if source.place else ())
            if at == before:
                lost = f"chunk {at} of xorb {format_hash(row.hash)} cannot be read"
                raise XorbLost(lost, damaged)

    def _sources(
        self,
        generation: Generation,
        row: XorbRow,
        index: XorbIndex,
        first: int,
        stop: int,
        find: Find,
    ) -> Iterator[_Source]:
        if row.kept:
            yield _Source(self._read_object(generation, index, first, stop), stop)
        for place in places_of(self._catalogue, row.id, first):
            file = find(place.sha256)
            if file is not None:
                origin, last = place.offset - index.offset(place.first), min(stop, place.stop)
                start = origin + index.offset(first)
                pieces = self._incoming.read(file, start, origin + index.offset(last))
                here = (file, start, origin + index.ends[first])
                yield _Source(pieces, last, here)

    def _read_object(
        self, generation: Generation, index: XorbIndex, first: int, stop: int
    ) -> Iterator[Buffer]:
        key = data_key(generation.name, index.hash)
        start, end = index.offset(first), index.offset(stop)
        for at in range(start, end, _READ_BYTES):
            check_cancelled()
            yield self._backend.get(key, at, min(at + _READ_BYTES, end))

    def _read_index(self, generation: str, digest: bytes) -> XorbIndex:
        return parse_index(digest, self._backend.get(index_key(generation, digest)))


def sees(generation: Generation) -> Sees:
    """Returns what says whether a repo is one of the generation's owner."""
    return lambda repo: namespace_of(repo) == generation.owner


def _digests_at(file: StagedFile, start: int, stop: int) -> tuple[bytes, ...]:
    """Returns the digests of the stored chunks that hold the bytes [start, stop) of a file."""
    uses = file.entry.chunks(file.chunk_bytes)
    return tuple(u.digest for u in uses if u.offset < stop and start < u.offset + u.size)


def _verified(
    index: XorbIndex, first: int, stop: int, pieces: Iterator[Buffer]
) -> Iterator[Buffer]:
    """Yields the chunks [first, stop) that `pieces` hold the bytes of, as far as they do."""
    held = bytearray()
    at = first
    with suppress(NotFound, Corrupt, Missing):
        for piece in pieces:
            held += piece
            used = 0
            while at < stop and len(held) - used >= (size := index.ends[at] - index.offset(at)):
                chunk = bytes(memoryview(held)[used : used + size])
                if not index.matches(at, chunk):
                    return
                yield chunk
                used += size
                at += 1
            del held[:used]
