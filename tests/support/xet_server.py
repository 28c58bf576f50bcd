"""A vault that takes uploads through Xet, and what a client does with it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

import numpy as np
from upkeep import Clock, gc
from vaults import open_local
from xet_samples import PLAIN, pack_file, pack_shard, pack_xorb

from weightvault.dedup.local_vault import LocalVault
from weightvault.dedup.model.files.manifest import Manifest
from weightvault.dedup.transfer.uploads import IncomingFiles, LooseFile
from weightvault.dedup.transfer.xet_uploads import XetUploads
from weightvault.dedup.xet.shard import Shard
from weightvault.store.repo_names import namespace_of

Segments = Sequence[tuple[bytes, Sequence[bytes], int]]


class Server:
    """A vault that takes uploads, and what a client does with it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.clock = Clock()
        self.open()

    def open(self) -> None:
        self.serve(open_local(self.root))

    def serve(self, vault: LocalVault) -> None:
        self.vault = vault
        self.incoming = IncomingFiles(self.vault)
        self.uploads = XetUploads(self.vault, self.incoming, now=self.clock)

    def send_xorb(self, owner: str, chunks: Sequence[bytes], scheme: int = PLAIN) -> bytes:
        digest, data = pack_xorb(chunks, scheme)
        self.send_bytes(owner, digest, data)
        return digest

    def send_bytes(self, owner: str, digest: bytes, data: bytes) -> bool:
        path = self.root / f"sent-{uuid4().hex}"
        path.write_bytes(data)
        return self.uploads.add_xorb(self.uploads.open_generation(owner), digest, path)

    def send_shard(self, repo: str, *files: bytes, xorbs=()) -> None:
        generation = self.uploads.open_generation(namespace_of(repo))
        self.uploads.add_shard(generation, repo, Shard(pack_shard(files, xorbs)))

    def upload(self, repo: str, segments: Segments) -> bytes:
        """Sends a shard with one file and returns the file as the vault has it."""
        self.send_shard(repo, pack_file(segments))
        return self.read(repo, b"".join(c for _, chunks, _ in segments for c in chunks))

    def send_file(self, repo: str, chunks: Sequence[bytes]) -> bytes:
        """Sends a xorb and a file of all its chunks, which comes back; returns the xorb's hash."""
        xorb = self.send_xorb(namespace_of(repo), chunks)
        assert self.upload(repo, [(xorb, chunks, 0)]) == b"".join(chunks)
        return xorb

    def read(self, repo: str, data: bytes) -> bytes:
        return b"".join(map(bytes, self.incoming.read(self._find(repo, data))))

    def commit(self, repo: str, data: bytes) -> None:
        file = self._find(repo, data)
        self.vault.commit(repo, "main", Manifest((file.entry,), file.chunk_bytes))

    def _find(self, repo: str, data: bytes) -> LooseFile:
        file = self.incoming.get(hashlib.sha256(data).digest(), repo)
        assert file is not None
        return file

    def flip(self, key: str, at: int | None = None) -> None:
        """Changes a bit of an object, of its middle unless told where."""
        data = bytearray(self.vault.backend.get(key))
        data[len(data) // 2 if at is None else at] ^= 1
        self.vault.backend.put(key, bytes(data))

    def objects(self, suffix: str = "") -> list[str]:
        return [i.key for i in self.vault.backend.list("xorbs/") if i.key.endswith(suffix)]

    def kept(self) -> list[str]:
        return [key for key in self.objects() if not key.endswith(".index")]

    def collect(self, grace: float = 0.0) -> None:
        # Objects as old as the grace are not yet gone: files have the time of the real clock.
        gc(self.vault, grace, now=self.clock)


def make_chunks(seed: int, count: int, size: int = 5000) -> list[bytes]:
    rng = np.random.default_rng(seed)
    return [rng.bytes(size + i) for i in range(count)]
