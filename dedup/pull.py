"""The way out: a commit to its files, every block and every whole file verified."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from .chunks import Buffer, ChunkReader, Slice
from .errors import AccessRefused, Corrupt, StorageFull, VaultError
from .manifest import FileEntry, Manifest
from .progress import Progress
from .rebuild import file_parts, weave
from .vault import Commit, RevisionReader

_READ_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class PullResult:
    """What a pull did: `unchanged` files were there already; bytes `logical` in all files,
    `received` in frames."""

    commit: Commit
    files: int
    unchanged: int
    logical: int
    received: int
    seconds: float


def pull(
    vault: RevisionReader,
    repo: str,
    dest: Path,
    revision: str = "main",
    *,
    progress: Progress | None = None,
) -> PullResult:
    """Writes the files of a revision below the folder `dest`, making it if needed.

    A file appears under its name only once it is whole and its BLAKE3 is right. Files that are
    there with the right bytes are left alone, so a pull that failed can be run again; files that
    the revision does not have are not touched. Raises VaultError kinds.
    """
    started = time.monotonic()
    progress = progress or Progress()
    snapshot = vault.resolve(repo, revision)
    manifest = snapshot.manifest
    wanted = [f for f in manifest.files if not _is_there(dest, f)]
    # The commit, not the branch: it may move while this runs.
    reader = ChunkReader(lambda digests: vault.read_frames(repo, snapshot.commit.id, digests))
    progress.begin("pulling", sum(f.size for f in wanted))
    try:
        with _write_errors():
            _make_folder(dest)
            _write_files(dest, wanted, manifest, reader, progress)
    finally:
        progress.end()
    return PullResult(
        commit=snapshot.commit,
        files=len(manifest.files),
        unchanged=len(manifest.files) - len(wanted),
        logical=manifest.size,
        received=reader.received,
        seconds=time.monotonic() - started,
    )


def _is_there(dest: Path, entry: FileEntry) -> bool:
    """Says whether the file is below `dest` already, byte for byte."""
    path = dest / entry.path
    try:
        if not path.is_file() or path.stat().st_size != entry.size:
            return False
        hasher = blake3(max_threads=blake3.AUTO)
        with path.open("rb") as file:
            while data := file.read(_READ_BYTES):
                hasher.update(data)
    except OSError:
        return False
    return hasher.digest() == entry.digest


def _write_files(
    dest: Path,
    entries: list[FileEntry],
    manifest: Manifest,
    reader: ChunkReader,
    progress: Progress,
) -> None:
    # One stream of chunks for all files, so that small files share requests.
    slices = (
        part
        for entry in entries
        for part in file_parts(entry, manifest.chunk_bytes)
        if isinstance(part, Slice)
    )
    pieces = reader.read_slices(slices)
    for entry in entries:
        parts = file_parts(entry, manifest.chunk_bytes)
        _write_file(dest / entry.path, entry, weave(parts, pieces), progress)


def _write_file(path: Path, entry: FileEntry, pieces: Iterable[Buffer], progress: Progress) -> None:
    _make_folder(path.parent)
    # The same name for the same content, so that a later pull takes over what a killed one left.
    part = path.parent / f".weightvault-{entry.digest.hex()[:16]}.part"
    try:
        hasher = blake3(max_threads=blake3.AUTO)
        with part.open("wb") as file:
            for piece in pieces:
                file.write(piece)
                hasher.update(piece)
                progress.advance(len(piece))
        if hasher.digest() != entry.digest:
            raise Corrupt(
                f"{entry.path} came out with other bytes than were pushed",
                "the file was not written; `weightvault scrub` names all that is damaged",
            )
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _make_folder(path: Path) -> None:
    path.mkdir(parents=True, exist_ok=True)


@contextmanager
def _write_errors() -> Iterator[None]:
    """Turns what the destination's disk refuses into VaultError kinds."""
    try:
        yield
    except OSError as error:
        what = f"cannot write {error.filename or 'the destination'}: {error.strerror}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise StorageFull(what, "free some space and pull again") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise AccessRefused(what, "choose a folder you may write to") from error
        raise VaultError(what) from error
