"""What a push reads the bytes of files and chunks from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

from ..errors import InvalidFile
from ..formats.scan import hash_chunk
from ..model.files.entries import ChunkUse
from ..model.files.manifest import Manifest
from ..model.files.segments import Share
from ..reading.buffer_pool import BUFFERS
from ..reading.chunk_reader import Buffer
from ..vault import Candidate


class BinaryFile(Protocol):
    """What is needed of a binary file to send its chunks."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Moves to a byte."""
        ...

    def readinto(self, buffer: memoryview, /) -> int:
        """Fills memory; returns how many bytes there were."""
        ...


class Source(Protocol):
    """What the bytes of a file are read from: a path, or what opens as one does."""

    def open(self, mode: Literal["rb"]) -> AbstractContextManager[BinaryFile]:
        """Opens it for reading."""
        ...


@dataclass(frozen=True, slots=True)
class Job:
    """A chunk to encode: the file it is read from, where, and the bases to try. One that small
    files share is made up of all of `shares`, files and their bytes; `path` is the first."""

    path: Source
    use: ChunkUse
    bases: tuple[Candidate, ...]
    shares: tuple[tuple[Source, int], ...] = ()


def list_jobs(
    manifest: Manifest,
    files: Mapping[str, Source],
    missing: set[bytes],
    bases: dict[bytes, tuple[Candidate, ...]],
) -> Iterator[Job]:
    """Yields each missing chunk of `files` once, in file order, with the bases to try."""
    wanted = set(missing)
    shares = list_shares(manifest, files, missing)
    for entry in manifest.files:
        for use in entry.chunks(manifest.chunk_bytes):
            if use.digest in wanted:
                wanted.discard(use.digest)
                told = bases.get(use.digest, ()), shares.get(use.digest, ())
                yield Job(files[entry.path], use, *told)


def list_shares(
    manifest: Manifest, files: Mapping[str, Source], missing: set[bytes]
) -> dict[bytes, tuple[tuple[Source, int], ...]]:
    """Returns, for missing chunks that small files share, what each is made up of, in order."""
    found: dict[bytes, dict[int, tuple[Source, int]]] = {}
    for entry in manifest.files:
        for segment in entry.segments:
            if isinstance(segment, Share) and segment.chunks[0] in missing:
                pieces = found.setdefault(segment.chunks[0], {})
                pieces[segment.start] = files[entry.path], segment.size
    return {digest: tuple(p for _, p in sorted(pieces.items())) for digest, pieces in found.items()}


def read_job(job: Job, file: BinaryFile) -> Buffer:
    """Returns the raw bytes of a chunk; `file` is that of its `path`. Raises InvalidFile where a
    file has changed since it was hashed."""
    return _read_shares(job) if job.shares else _read_chunk(file, job)


def _read_chunk(file: BinaryFile, job: Job) -> Buffer:
    file.seek(job.use.offset)
    raw = BUFFERS.take(job.use.size).data
    if file.readinto(raw) != job.use.size:
        raise _changed_error(job)
    return _checked(job, raw)


def _read_shares(job: Job) -> Buffer:
    raw = BUFFERS.take(job.use.size).data
    at = 0
    for path, size in job.shares:
        with path.open("rb") as file:
            if file.readinto(raw[at : at + size]) != size:
                raise _changed_error(job)
        at += size
    return _checked(job, raw)


def _checked(job: Job, raw: Buffer) -> Buffer:
    if hash_chunk(memoryview(raw)) != job.use.digest:
        raise _changed_error(job)
    return raw


def _changed_error(job: Job) -> InvalidFile:
    others = f", or one of {len(job.shares) - 1} small files," if job.shares else ""
    return InvalidFile(f"{job.path}{others} changed while it was pushed", "push it again")
