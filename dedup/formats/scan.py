"""Reads the files to push: takes them apart and hashes the files and their chunks."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import replace
from io import BytesIO
from typing import BinaryIO

from blake3 import blake3

from ...store.hashing import many_threads
from ..errors import InvalidFile, VaultError
from ..model.files.entries import FileEntry
from ..model.files.manifest import Manifest
from ..model.files.segments import CHUNK_BYTES, Literal, Opaque, Segment, chunk_sizes, coding_facts
from ..model.paths import Remark
from ..model.sketch import make_query
from ..model.sketch_file import Sketches
from ..progress import Progress
from .companions import Places, find_companions, segment_companion
from .cutting.bundles import bundle_small
from .cutting.fused import cut_fused
from .cutting.held import SHORT_BYTES, File, HeldFile, file_size
from .oddities import find_oddity
from .registry import segment_file

# Below this, waking other threads takes longer (0.1 ms) than hashing alone.
_HASH_THREADS_BYTES = 1 << 20


def scan_files(
    files: Mapping[str, File],
    progress: Progress,
    chunk_bytes: int = CHUNK_BYTES,
    sketches: Sketches | None = None,
    warnings: list[Remark] | None = None,
    places: Mapping[str, Places] | None = None,
) -> Manifest:
    """Takes `files` apart and hashes them; fills `sketches`, if given, with those of the chunks,
    and `warnings` with what is odd about files. `places`: where tensors lie in them, for those of
    which a neighbour says so; what the files themselves say unless given.

    Raises InvalidFile naming the file that cannot be read, or changes meanwhile.
    """
    progress.begin("hashing", sum(map(file_size, files.values())))
    try:
        if places is None:
            places = find_companions(files)
        remarks = [] if warnings is None else warnings
        entries = (
            _scan_file(name, p, progress, chunk_bytes, sketches, places.get(name), remarks)
            for name, p in files.items()
        )
        return Manifest(tuple(entries), chunk_bytes)
    finally:
        progress.end()


def find_oddities(files: Mapping[str, File]) -> Iterator[Remark]:
    """Yields what is odd about files, without reading more than their heads."""
    for name, path in files.items():
        try:
            with path.open("rb") as file:
                odd = find_oddity(name, file, os.fstat(file.fileno()).st_size)
        except OSError:
            # Whoever reads all of it finds out.
            continue
        if odd is not None:
            yield Remark(name, odd)


def _scan_file(
    name: str,
    path: File,
    progress: Progress,
    chunk_bytes: int,
    sketches: Sketches | None,
    places: Places | None,
    warnings: list[Remark],
) -> FileEntry:
    def scan(file: BinaryIO, size: int) -> FileEntry:
        odd = find_oddity(name, file, size)
        if odd is not None:
            warnings.append(Remark(name, odd))
        if places:
            segments = segment_companion(file, size, places)
        else:
            segments = segment_file(name, file, size)
        segments = bundle_small(cut_fused(segments), chunk_bytes)
        return _hash_file(name, file, segments, progress, chunk_bytes, sketches)

    try:
        if isinstance(path, HeldFile):
            entry = scan(path.open("rb"), len(path.data))
            return replace(entry, executable=True) if path.executable else entry
        with path.open("rb") as opened:
            before = os.fstat(opened.fileno())
            size = before.st_size
            short = size <= SHORT_BYTES
            entry = scan(BytesIO(opened.read(SHORT_BYTES + 1)) if short else opened, size)
            _check_unchanged(before, os.fstat(opened.fileno()))
            executable = bool(before.st_mode & stat.S_IXUSR)
            return replace(entry, executable=True) if executable else entry
    except VaultError as error:
        where = name if isinstance(path, HeldFile) else path
        raise type(error)(f"{where}: {error.message}", error.hint) from error
    except OSError as error:
        raise InvalidFile(f"cannot read {path}: {error.strerror}") from error


def scan_stream(
    name: str,
    file: BinaryIO,
    size: int,
    progress: Progress,
    chunk_bytes: int = CHUNK_BYTES,
    sketches: Sketches | None = None,
) -> FileEntry:
    """As scan_files, for one file of `size` bytes that is open for reading. Raises InvalidFile."""
    progress.begin("hashing", size)
    try:
        segments = bundle_small(cut_fused(segment_file(name, file, size)), chunk_bytes)
        return _hash_file(name, file, segments, progress, chunk_bytes, sketches)
    finally:
        progress.end()


def _hash_file(
    name: str,
    file: BinaryIO,
    segments: list[Segment],
    progress: Progress,
    chunk_bytes: int,
    sketches: Sketches | None,
) -> FileEntry:
    size = sum(s.size for s in segments)
    if len(segments) == 1 and isinstance(segments[0], Opaque) and size <= chunk_bytes:
        return _hash_single(name, file, size, progress, sketches)
    whole = blake3(max_threads=many_threads())
    buffer = memoryview(bytearray(min(size, chunk_bytes)))
    file.seek(0)
    hashed: list[Segment] = []
    for segment in segments:
        digests: list[bytes] = []
        for n in chunk_sizes(segment, chunk_bytes):
            data = _read_exactly(file, buffer[:n])
            whole.update(data)
            digests.append(hash_chunk(data))
            if sketches is not None and not isinstance(segment, Literal):
                sketches[digests[-1]] = make_query(data, coding_facts(segment)[0])
            progress.advance(n)
        if not isinstance(segment, Literal):
            segment = replace(segment, chunks=tuple(digests))
        hashed.append(segment)
    return FileEntry(name, size, whole.digest(), tuple(hashed))


def _hash_single(
    name: str, file: BinaryIO, size: int, progress: Progress, sketches: Sketches | None
) -> FileEntry:
    """As _hash_file, for a file that is one opaque chunk, and so hashed once."""
    file.seek(0)
    data = _read_exactly(file, memoryview(bytearray(size)))
    digest = hash_chunk(data)
    if sketches is not None:
        sketches[digest] = make_query(data, "U8")
    progress.advance(size)
    return FileEntry(name, size, digest, (Opaque(size, (digest,)),))


def hash_chunk(data: memoryview) -> bytes:
    """Returns the BLAKE3-256 of a chunk's raw bytes."""
    many = many_threads() if len(data) >= _HASH_THREADS_BYTES else 1
    return blake3(data, max_threads=many).digest()


def _read_exactly(file: BinaryIO, buffer: memoryview) -> memoryview:
    filled = 0
    while filled < len(buffer):
        n = file.readinto(buffer[filled:])  # pyright: ignore[reportAttributeAccessIssue]
        if not n:
            raise InvalidFile("the file became shorter while it was read", "push it again")
        filled += n
    return buffer


def _check_unchanged(before: os.stat_result, after: os.stat_result) -> None:
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise InvalidFile("the file changed while it was read", "push it again")
