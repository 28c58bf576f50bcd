"""Which caches the environment configures:

WEIGHTVAULT_CACHE      folder to cache packs of an S3 vault in
WEIGHTVAULT_CACHE_BYTES  the most it may take, 20 GiB unless given
WEIGHTVAULT_CHUNKS     folder to keep chunks in that were read from servers
WEIGHTVAULT_CHUNKS_BYTES  the most it may take, 10 GiB unless given; 0: nothing is kept
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..dedup.errors import InvalidInput

if TYPE_CHECKING:
    from ..dedup.reading.held.chunk_cache import ChunkCache
    from ..store.backend import Backend

# The bases of some ten families of 7B models.
_CACHE_BYTES = 20 << 30
# Several models of 3B parameters, or the base of a 7B one.
_CHUNKS_BYTES = 10 << 30


def chunk_cache() -> ChunkCache | None:
    """Returns where chunks are kept that this user read from servers; None where none are."""
    from ..dedup.reading.held.chunk_cache import ChunkCache

    limit = _read_bytes("WEIGHTVAULT_CHUNKS_BYTES", _CHUNKS_BYTES)
    if not limit:
        return None
    named = os.environ.get("WEIGHTVAULT_CHUNKS")
    return ChunkCache(Path(named) if named else _user_cache() / "chunks", limit)


def with_cache(backend: Backend, url: str) -> Backend:
    """Puts the cache in front of the far store at `url` that the environment configures."""
    folder = os.environ.get("WEIGHTVAULT_CACHE")
    if not folder:
        return backend
    from ..store.backends.cache import CachedBackend

    limit = _read_bytes("WEIGHTVAULT_CACHE_BYTES", _CACHE_BYTES)
    return CachedBackend(backend, Path(folder) / short_name(url), limit)


def short_name(url: str) -> str:
    """Returns what a folder for things of an address is called."""
    return hashlib.sha256(url.encode()).hexdigest()[:16]


def _read_bytes(name: str, default: int) -> int:
    wanted = os.environ.get(name, str(default))
    try:
        return int(wanted)
    except ValueError as error:
        raise InvalidInput(f"{name} is no number: {wanted!r}") from error


def _user_cache() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("weightvault", appauthor=False)
