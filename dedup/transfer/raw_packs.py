"""Stores chunks as they came, in packs of raw frames: as fast as the disk takes them.

A pack is put together in memory and goes straight to the store while the next one is read, so that
an upload is written once more and no more. Every frame is hashed before anything refers to it, as
those of a push are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from io import BytesIO

from blake3 import blake3

from ...codecs.frame import parse_header
from ...store.cancel import carry
from ...store.hashing import many_threads
from ...store.packs import PackWriter
from ..errors import InvalidFile
from ..formats.cutting.held import File
from ..model.files.entries import ChunkUse
from ..model.files.manifest import Manifest
from ..model.sketch import make_sketch
from ..model.sketch_file import Sketches
from ..reading.timed_codecs import encode_tensor
from ..repository.pack_writing import PACK_BYTES, add_frame
from ..repository.repository import Repository
from .sources import Source, list_shares


def store_raw(
    vault: Repository, manifest: Manifest, files: Mapping[str, File], missing: set[bytes]
) -> None:
    """Stores the `missing` chunks of `files`, which must be as they were when `manifest` was made.

    Raises InvalidFile if they are not, and what LocalVault.add_own_pack raises.
    """
    with ThreadPoolExecutor(1, "store") as storing:
        pending: Future[None] | None = None
        pack = _RawPack()
        for use, raw in _read_chunks(manifest, files, missing):
            pack.add(use, raw)
            if pack.size >= PACK_BYTES:
                if pending:
                    pending.result()
                pending, pack = storing.submit(carry(pack.store), vault), _RawPack()
        if pending:
            pending.result()
        if pack.size:
            pack.store(vault)


class _RawPack:
    """A pack that grows in memory."""

    def __init__(self) -> None:
        self._buffer = BytesIO()
        self._writer = PackWriter(self._buffer)
        self._sketches: Sketches = {}

    @property
    def size(self) -> int:
        return self._writer.size if self._sketches else 0

    def add(self, use: ChunkUse, raw: bytes) -> None:
        frame = encode_tensor(raw, use.dtype, codec="raw", digest=use.digest)
        # What decoding it would do, but for a copy of it all: the body is the chunk.
        body = memoryview(frame)[parse_header(frame).body_offset :]
        if blake3(body, max_threads=many_threads()).digest() != use.digest:
            raise InvalidFile("the upload changed while it was read", "send it again")
        add_frame(self._writer, frame)
        self._sketches[use.digest] = make_sketch(raw, use.dtype)

    def store(self, vault: Repository) -> None:
        name = self._writer.finish()
        vault.add_own_pack(self._buffer.getbuffer(), name, self._writer.entries, self._sketches)


def _read_chunks(
    manifest: Manifest, files: Mapping[str, File], missing: set[bytes]
) -> Iterator[tuple[ChunkUse, bytes]]:
    """Yields each missing chunk once, in file order, with its bytes."""
    wanted = set(missing)
    for digest, pieces in list_shares(manifest, files, missing).items():
        wanted.discard(digest)
        raw = b"".join(_read_all(file, size) for file, size in pieces)
        yield ChunkUse(digest, 0, len(raw), "U8"), raw
    for entry in manifest.files:
        uses = [use for use in entry.chunks(manifest.chunk_bytes) if use.digest in wanted]
        if not uses:
            continue
        with files[entry.path].open("rb") as file:
            for use in uses:
                if use.digest in wanted:
                    wanted.discard(use.digest)
                    file.seek(use.offset)
                    yield use, file.read(use.size)


def _read_all(source: Source, size: int) -> bytes:
    buffer = bytearray(size)
    with source.open("rb") as file:
        return bytes(buffer[: file.readinto(memoryview(buffer))])
