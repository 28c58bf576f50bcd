"""Chunks that lie in files of this machine: of an older revision, or of another tool's cache."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO

from blake3 import blake3

from ....store.hashing import many_threads
from ...errors import VaultError
from ...formats.scan import scan_stream
from ...model.files.entries import ChunkUse
from ...progress import Progress
from .likeness import find_likenesses

# Files that are open at once; what lies in others is asked for.
_MOST_FILES = 64


@dataclass(frozen=True, slots=True)
class _Place:
    file: BinaryIO
    use: ChunkUse


class LocalFiles:
    """Chunks of files, which stay open until `close`: so what is read is what was found, whatever
    takes their names meanwhile. Not for several threads at once."""

    def __init__(self, chunk_bytes: int) -> None:
        self._chunk_bytes = chunk_bytes
        self._files: list[BinaryIO] = []
        self._places: dict[bytes, _Place] = {}
        self._alike: dict[bytes, list[bytes]] = {}

    def add(self, path: str, file: BinaryIO) -> None:
        """Looks for chunks in a file that is open for reading, to be closed by this; it is of the
        kind that `path` says. One that cannot be read or taken apart has none."""
        if len(self._files) == _MOST_FILES:
            file.close()
            return
        self._files.append(file)
        with suppress(VaultError, OSError):
            size = os.fstat(file.fileno()).st_size
            entry = scan_stream(path, file, size, Progress(), self._chunk_bytes)
            for digest, (use, like) in find_likenesses([entry], self._chunk_bytes).items():
                self._places.setdefault(digest, _Place(file, use))
                for key in (like.same, like.near):
                    self._alike.setdefault(key, []).append(digest)

    def holds(self, digests: Collection[bytes]) -> set[bytes]:
        """Returns those of `digests` that were found."""
        return {digest for digest in digests if digest in self._places}

    def find_alike(self, keys: Collection[bytes]) -> Mapping[bytes, list[bytes]]:
        """Returns the digests of chunks that were found by one of `keys`, by key."""
        return {key: self._alike[key] for key in keys if key in self._alike}

    def get(self, digest: bytes) -> bytes | None:
        """Returns the bytes of a chunk; None where they are others by now."""
        place = self._places.get(digest)
        if place is None:
            return None
        try:
            raw = os.pread(place.file.fileno(), place.use.size, place.use.offset)
        except OSError:
            raw = b""
        if blake3(raw, max_threads=many_threads()).digest() != digest:
            del self._places[digest]
            return None
        return raw

    def close(self) -> None:
        """Closes the files."""
        for file in self._files:
            file.close()
        self._places.clear()
