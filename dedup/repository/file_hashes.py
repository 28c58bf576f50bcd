"""The hashes of whole files: ours, SHA-256, and what git calls a blob of those bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from blake3 import blake3

from ...store.cancel import check_cancelled
from ...store.catalogue.files.hashes import HashRow, hashes_of, record_hashes
from ...store.hashing import many_threads
from ..model.files.manifest import Manifest
from ..reading.chunk_reader import Buffer
from .reader import VaultReader


def git_hasher(size: int) -> hashlib._Hash:
    """Returns a SHA-1 that becomes that of a git blob once its `size` bytes have been added."""
    hasher = hashlib.sha1(usedforsecurity=False)
    hasher.update(b"blob %d\0" % size)
    return hasher


def hash_file(pieces: Iterable[Buffer], size: int) -> HashRow:
    """Returns the three hashes of a file of `size` bytes that comes in pieces."""
    ours, sha256, git = blake3(max_threads=many_threads()), hashlib.sha256(), git_hasher(size)
    for piece in pieces:
        check_cancelled()
        ours.update(piece)
        sha256.update(piece)
        git.update(piece)
    return HashRow(ours.digest(), sha256.digest(), git.digest())


def hashes_in(vault: VaultReader, manifest: Manifest) -> dict[bytes, HashRow]:
    """Returns the hashes of a manifest's files, by digest.

    They are on record since a file's first commit. Those of shares of bundles, and of files that
    were committed by an older weightvault, are taken now, which reads them once.
    """
    found = hashes_of(vault.catalogue, [entry.digest for entry in manifest.files])
    new = {e.digest: e for e in manifest.files if e.digest not in found}
    read = vault.read_files(new.values(), manifest.chunk_bytes)
    taken = [hash_file(pieces, entry.size) for entry, pieces in read]
    if taken:
        record_hashes(vault.catalogue, taken)
    return found | {row.digest: row for row in taken}
