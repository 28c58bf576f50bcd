"""Where the chunks of xorbs are: in an object of their own until the files they make up are stored,
then in those files.

The objects of a xorb are `xorbs/<generation>/<hash>`, its raw chunks back to back, and
`….index` beside it. The first goes as soon as all of it can be read from files; the second stays
for as long as a client may name the xorb.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from ...store.backend import Backend
from ...store.catalogue import Catalogue
from ...store.errors import CorruptObject, NotFound
from ...store.xorbs import Generation, PlaceRow, XorbRow, places_of
from ..chunks import Buffer
from ..errors import Corrupt, Missing
from ..incoming import IncomingFiles, Sees
from ..names import namespace_of
from ..translate import store_errors
from .hashes import format_hash, parse_hash
from .index import XorbIndex, pack_index, parse_index

PREFIX = "xorbs/"
_INDEX_SUFFIX = ".index"
# Some 40 bytes a chunk: 5 MB for xorbs of common chunks, 40 MB at the most.
_INDEXES_KEPT = 128
_READ_BYTES = 8 << 20


class XorbLost(Exception):
    """Chunks of a xorb that a client counts on can no longer be read, wherever they were."""


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

    def index(self, generation: Generation, digest: bytes) -> XorbIndex:
        """Returns the index of a xorb. Raises XorbLost."""
        try:
            return self._load_index(generation.name, digest)
        except (NotFound, CorruptObject, Corrupt) as error:
            raise XorbLost(f"the index of xorb {format_hash(digest)} is gone") from error

    def read(self, generation: Generation, row: XorbRow, first: int, stop: int) -> Iterator[Buffer]:
        """Yields the chunks [first, stop), each verified. Raises XorbLost where that fails.

        Somebody else may drop the object meanwhile: then what is left is read from files.
        """
        index = self.index(generation, row.hash)
        at = first
        while at < stop:
            before = at
            for source, end in self._sources(generation, row, index, at, stop):
                for chunk in _verified(index, at, end, source):
                    yield chunk
                    at += 1
                if at > before:
                    break
            if at == before:
                raise XorbLost(f"chunk {at} of xorb {format_hash(row.hash)} cannot be read")

    def _sources(
        self, generation: Generation, row: XorbRow, index: XorbIndex, first: int, stop: int
    ) -> Iterator[tuple[Iterator[Buffer], int]]:
        """Yields what gives the bytes of the chunks from `first` on, and where it stops."""
        yield self._read_object(generation, index, first, stop), stop
        for place in places_of(self._catalogue, row.id, first):
            end = min(stop, place.stop)
            yield self._read_file(generation, index, place, first, end), end

    def _read_object(
        self, generation: Generation, index: XorbIndex, first: int, stop: int
    ) -> Iterator[Buffer]:
        key = data_key(generation.name, index.hash)
        start, end = index.offset(first), index.offset(stop)
        for at in range(start, end, _READ_BYTES):
            yield self._backend.get(key, at, min(at + _READ_BYTES, end))

    def _read_file(
        self, generation: Generation, index: XorbIndex, place: PlaceRow, first: int, stop: int
    ) -> Iterator[Buffer]:
        file = self._incoming.find(place.sha256, sees(generation))
        if file is not None:
            origin = place.offset - index.offset(place.first)
            start, end = origin + index.offset(first), origin + index.offset(stop)
            with store_errors():
                yield from self._incoming.read(file, start, end)

    def _read_index(self, generation: str, digest: bytes) -> XorbIndex:
        return parse_index(digest, self._backend.get(index_key(generation, digest)))


def check_xorb(key: str, data: bytes) -> None:
    """Raises Corrupt if an object of a xorb is not what its key says, as far as it tells alone:
    chunks are verified with the index when they are read."""
    name = key.rpartition("/")[2]
    if name.endswith(_INDEX_SUFFIX):
        parse_index(parse_hash(name.removesuffix(_INDEX_SUFFIX)), data)


def sees(generation: Generation) -> Sees:
    """Returns what says whether a repo is one of the generation's owner."""
    return lambda repo: namespace_of(repo) == generation.owner


def data_key(generation: str, digest: bytes) -> str:
    """Returns the key of a xorb's chunks."""
    return f"{PREFIX}{generation}/{format_hash(digest)}"


def index_key(generation: str, digest: bytes) -> str:
    """Returns the key of a xorb's index."""
    return data_key(generation, digest) + _INDEX_SUFFIX


def _verified(
    index: XorbIndex, first: int, stop: int, pieces: Iterator[Buffer]
) -> Iterator[Buffer]:
    """Yields the chunks [first, stop) that `pieces` hold the bytes of, as far as they do."""
    held = bytearray()
    at = first
    with suppress(NotFound, CorruptObject, Corrupt, Missing):
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
