"""The way in: files to segments to chunks to frames to packs to a commit."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import BinaryIO

from ..codecs.dtypes import find_dtype
from ..codecs.frame import CODEC_IDS, parse_header
from ..codecs.pipeline import encode_tensor
from ..store.pack import PackWriter
from .bases import Base, find_base, match_chunks
from .chunks import Buffer, ChunkReader
from .errors import InvalidFile
from .manifest import ChunkUse, Manifest
from .names import check_branch, check_repo
from .progress import Progress
from .scan import find_files, scan_files
from .segments import CHUNK_BYTES
from .translate import store_errors
from .vault import Commit, Vault

# About one request each way on S3 for as much as is worth one; a frame is at most 32 MiB.
PACK_BYTES = 64 * 1024 * 1024
# Digests per question; the answer to one is at most 640 KB of JSON.
_ASK_DIGESTS = 10_000


@dataclass(frozen=True, slots=True)
class PushResult:
    """What a push did: bytes `logical` in the files, `sent` in packs; chunks new and known."""

    commit: Commit
    files: int
    logical: int
    new_chunks: int
    known_chunks: int
    sent: int
    seconds: float


@dataclass(frozen=True, slots=True)
class _Job:
    """A chunk to encode: the file it is read from, where, and its base's chunk."""

    path: Path
    use: ChunkUse
    base: ChunkUse | None


def push(
    vault: Vault,
    path: Path,
    repo: str,
    branch: str = "main",
    *,
    base: str | None = None,
    level: str = "default",
    progress: Progress | None = None,
    chunk_bytes: int = CHUNK_BYTES,
) -> PushResult:
    """Stores the file or folder `path` as the newest commit of `branch` of `repo`.

    Sends only chunks the vault lacks, coded against `base` (a repo) where that is smaller.
    Nothing is visible before all of it is stored; a push that failed can be run again and
    continues where it was. `chunk_bytes` bounds the memory used; tensors larger than it share
    storage only with tensors pushed with the same one. Raises VaultError kinds.
    """
    started = time.monotonic()
    progress = progress or Progress()
    check_repo(repo)
    check_branch(branch)
    files = find_files(path)
    base_name, coding_base = find_base(vault, files, repo, branch, base)
    manifest = scan_files(files, progress, chunk_bytes)
    missing = _ask_missing(vault, manifest)
    jobs = list(_jobs(manifest, files, missing, coding_base))
    sent = _send(vault, jobs, coding_base, level, progress)
    commit = vault.commit(repo, branch, manifest, base=base_name)
    return PushResult(
        commit=commit,
        files=len(manifest.files),
        logical=manifest.size,
        new_chunks=len(missing),
        known_chunks=len(manifest.digests()) - len(missing),
        sent=sent,
        seconds=time.monotonic() - started,
    )


def _ask_missing(vault: Vault, manifest: Manifest) -> set[bytes]:
    digests = list(manifest.digests())
    missing: set[bytes] = set()
    for start in range(0, len(digests), _ASK_DIGESTS):
        missing |= vault.find_missing(digests[start : start + _ASK_DIGESTS])
    return missing


def _jobs(
    manifest: Manifest, files: dict[str, Path], missing: set[bytes], base: Base | None
) -> Iterator[_Job]:
    """Yields each missing chunk once, in file order."""
    matches = match_chunks(manifest, base) if base else {}
    wanted = set(missing)
    for entry in manifest.files:
        for use in entry.chunks(manifest.chunk_bytes):
            if use.digest in wanted:
                wanted.discard(use.digest)
                yield _Job(files[entry.path], use, matches.get(use.digest))


def _send(vault: Vault, jobs: list[_Job], base: Base | None, level: str, progress: Progress) -> int:
    """Encodes and sends the chunks; returns the bytes of packs sent."""
    progress.begin("storing", sum(job.use.size for job in jobs))
    try:
        with (
            store_errors(),
            tempfile.TemporaryDirectory(prefix="weightvault-") as folder,
            _PackSender(vault, Path(folder)) as sender,
        ):
            for job, raw, base_digest, base_raw in _load(vault, jobs, base):
                sender.add(_encode(job, raw, base_digest, base_raw, level))
                progress.advance(job.use.size)
            return sender.finish()
    finally:
        progress.end()


def _load(
    vault: Vault, jobs: list[_Job], base: Base | None
) -> Iterator[tuple[_Job, Buffer, bytes | None, Buffer | None]]:
    """Yields each job with its raw bytes and its base's digest and raw bytes."""
    bases: Iterator[tuple[bytes, Buffer]] = iter(())
    if base is not None:
        reader = ChunkReader(lambda digests: vault.read_frames(base.repo, base.revision, digests))
        bases = reader.read_bases(job.base for job in jobs if job.base is not None)
    for path, group in groupby(jobs, key=lambda job: job.path):
        with path.open("rb") as file:
            for job in group:
                raw = _read_chunk(file, job)
                digest, base_raw = next(bases) if job.base is not None else (None, None)
                yield job, raw, digest, base_raw


def _read_chunk(file: BinaryIO, job: _Job) -> bytes:
    file.seek(job.use.offset)
    raw = file.read(job.use.size)
    if len(raw) != job.use.size:
        raise InvalidFile(f"{job.path} became shorter while it was pushed", "push it again")
    return raw


def _encode(
    job: _Job, raw: Buffer, base_digest: bytes | None, base_raw: Buffer | None, level: str
) -> bytes:
    return encode_tensor(
        raw,
        job.use.dtype,
        base=base_raw,
        level=level,
        digest=job.use.digest,
        base_digest=base_digest,
    )


class _PackSender:
    """Gathers frames into packs and sends each while the next one is filled."""

    def __init__(self, vault: Vault, folder: Path) -> None:
        self._vault = vault
        self._folder = folder
        self._worker = ThreadPoolExecutor(1, "send")
        self._pending: Future[None] | None = None
        self._writer: PackWriter | None = None
        self._sent = 0
        self._count = 0

    def __enter__(self) -> _PackSender:
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.shutdown(wait=True, cancel_futures=True)
        if self._writer is not None:
            self._writer.abort()

    def add(self, frame: bytes) -> None:
        """Adds a frame; sends the pack it fills up."""
        if self._writer is None:
            self._count += 1
            self._path = self._folder / f"{self._count}.pack"
            self._writer = PackWriter(self._path)
        header = parse_header(frame)
        self._writer.add(
            frame,
            digest=header.digest,
            raw_bytes=header.raw_bytes,
            codec=CODEC_IDS[header.codec],
            dtype=find_dtype(header.dtype).id,
            base_digest=header.base_digest,
        )
        if self._writer.size >= PACK_BYTES:
            self._submit()

    def finish(self) -> int:
        """Sends what is left and returns the bytes of all packs, all of them taken in."""
        if self._writer is not None:
            self._submit()
        self._wait()
        return self._sent

    def _submit(self) -> None:
        assert self._writer is not None
        name = self._writer.finish()
        self._wait()
        self._sent += self._writer.size
        self._pending = self._worker.submit(self._deliver(self._path, name))
        self._writer = None

    def _deliver(self, path: Path, name: str) -> Callable[[], None]:
        def deliver() -> None:
            self._vault.add_pack(path, name)
            path.unlink()

        return deliver

    def _wait(self) -> None:
        if self._pending is not None:
            pending, self._pending = self._pending, None
            pending.result()
