"""The way out: a commit to its files, every block and every whole file verified."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from ...store.errors import DENIED_ERRNOS, FULL_ERRNOS
from ...store.hashing import many_threads
from ..errors import (
    AccessRefused,
    Conflict,
    Corrupt,
    EntryNotFound,
    InvalidName,
    StorageFull,
    VaultError,
)
from ..model.files.entries import FileEntry
from ..model.files.manifest import Manifest
from ..model.paths import refusal
from ..progress import Progress
from ..reading.chunk_reader import Buffer, ChunkReader, Slice
from ..reading.file_assembly import file_parts, weave
from ..reading.held.chunk_cache import ChunkCache
from ..vault import Commit, RevisionReader, Snapshot
from .pulling.destination import Destination, Identity
from .pulling.pull_source import open_source

_READ_BYTES = 8 * 1024 * 1024
# Of what is refused: enough to see what is going on.
_MOST_NAMED = 10


@dataclass(frozen=True, slots=True)
class Refused:
    """A file that a pull does not write because of its path, and why."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class PullResult:
    """What a pull did: `unchanged` files were there already; bytes `logical` in all files,
    `received` in frames, `reused` of what was here; `refused` files were left out, because that
    was asked for."""

    commit: Commit
    files: int
    unchanged: int
    logical: int
    received: int
    seconds: float
    refused: tuple[Refused, ...] = ()
    reused: int = 0


def pull(
    vault: RevisionReader,
    repo: str,
    dest: Path,
    revision: str = "main",
    *,
    wants: Callable[[str], bool] | None = None,
    skip_refused: bool = False,
    progress: Progress | None = None,
    cache: ChunkCache | None = None,
    reuse: Sequence[Path] = (),
) -> PullResult:
    """Writes the files of a revision below the folder `dest`, making it if needed: all of them, or
    those of whose paths `wants` says so.

    A file appears under its name only once it is whole and its BLAKE3 is right. Files that are
    there with the right bytes are left alone, so a pull that failed can be run again; files that
    the revision does not have are not touched. No link below `dest` is followed. Files of paths
    that no commit may add (dedup/model/paths.py) are never written: InvalidName names them, or with
    `skip_refused` the result does. Raises VaultError kinds.

    Of a vault behind a server, chunks are not asked for that are in `cache`, in files of the same
    paths below `dest`, or in files of the same names below the folders `reuse`; and others may be
    sent as what differs from these.
    """
    started = time.monotonic()
    progress = progress or Progress()
    snapshot = vault.resolve(repo, revision)
    manifest = snapshot.manifest
    files, refused = _choose(snapshot, wants, skip_refused=skip_refused)
    with _write_errors(), Destination(dest) as target:
        wanted = [entry for entry in files if not _is_there(target, entry)]
        missing = {entry.path for entry in wanted}
        for entry in files:
            if entry.path not in missing:
                target.set_executable(entry.path, entry.executable)
        progress.begin("pulling", sum(entry.size for entry in wanted))
        source = open_source(vault, snapshot, wanted, target, cache, reuse)
        try:
            written = _write_files(target, wanted, manifest, source.reader, progress)
        finally:
            progress.end()
            source.close()
        _count(target, files, written)
    return PullResult(
        commit=snapshot.commit,
        files=len(files),
        unchanged=len(files) - len(wanted),
        logical=sum(entry.size for entry in files),
        received=source.received,
        reused=source.reused,
        seconds=time.monotonic() - started,
        refused=refused,
    )


def _choose(
    snapshot: Snapshot, wants: Callable[[str], bool] | None, *, skip_refused: bool
) -> tuple[list[FileEntry], tuple[Refused, ...]]:
    """Returns the files to write, and those that are not written though they are wanted."""
    files = snapshot.manifest.files
    chosen = [entry for entry in files if wants is None or wants(entry.path)]
    if files and not chosen:
        repo, commit = snapshot.commit.repo, snapshot.commit.id
        raise EntryNotFound(f"no file of {repo} at {commit} is named, or matches a pattern")
    refused = _find_refused(chosen)
    if refused and not skip_refused:
        raise _refusal_error(refused)
    left_out = {each.path for each in refused}
    return [entry for entry in chosen if entry.path not in left_out], refused


def _find_refused(entries: Iterable[FileEntry]) -> tuple[Refused, ...]:
    reasons = ((entry.path, refusal(entry.path)) for entry in entries)
    return tuple(Refused(path, reason) for path, reason in reasons if reason is not None)


def _refusal_error(refused: Sequence[Refused]) -> InvalidName:
    named = "; ".join(f"{each.path!a}: {each.reason}" for each in refused[:_MOST_NAMED])
    more = f"; and {len(refused) - _MOST_NAMED} more" if len(refused) > _MOST_NAMED else ""
    return InvalidName(
        f"the revision holds files that a pull does not write: {named}{more}",
        "nothing was written; --skip-refused pulls all other files",
    )


def _is_there(target: Destination, entry: FileEntry) -> bool:
    """Says whether the file is below the destination already, byte for byte."""
    with target.open_file(entry.path) as file:
        if file is None or os.fstat(file.fileno()).st_size != entry.size:
            return False
        hasher = blake3(max_threads=many_threads())
        try:
            while data := file.read(_READ_BYTES):
                hasher.update(data)
        except OSError:
            return False
    return hasher.digest() == entry.digest


def _write_files(
    target: Destination,
    entries: list[FileEntry],
    manifest: Manifest,
    reader: ChunkReader,
    progress: Progress,
) -> dict[str, Identity]:
    """Writes files; returns which file each path was at that moment."""
    # One stream of chunks for all files, so that small files share requests.
    slices = (
        part
        for entry in entries
        for part in file_parts(entry, manifest.chunk_bytes)
        if isinstance(part, Slice)
    )
    pieces = reader.read_slices(slices)
    written: dict[str, Identity] = {}
    for entry in entries:
        parts = file_parts(entry, manifest.chunk_bytes)
        written[entry.path] = _write_file(target, entry, weave(parts, pieces), progress)
    return written


def _write_file(
    target: Destination, entry: FileEntry, pieces: Iterable[Buffer], progress: Progress
) -> Identity:
    hasher = blake3(max_threads=many_threads())
    try:
        with target.new_file(entry.path, executable=entry.executable) as file:
            for piece in pieces:
                file.write(piece)
                hasher.update(piece)
                progress.advance(len(piece))
            if hasher.digest() != entry.digest:
                raise Corrupt(
                    f"{entry.path!r} came out with other bytes than were pushed",
                    "the file was not written; `weightvault scrub` names all that is damaged",
                )
            status = os.fstat(file.fileno())
    except OSError as error:
        # Names of temporary files tell nobody anything.
        error.filename = entry.path
        raise
    return status.st_dev, status.st_ino


def _count(
    target: Destination, entries: Sequence[FileEntry], written: Mapping[str, Identity]
) -> None:
    """Raises Conflict unless every file is there under its name: one may have replaced another
    where the file system takes two names for the same, or somebody else was at work."""
    lost = []
    for entry in entries:
        found = target.find(entry.path)
        if found is None or found != (written.get(entry.path, found[0]), entry.size):
            lost.append(entry.path)
    if lost:
        raise Conflict(
            f"{len(lost)} of {len(entries)} files are not there as they were written, "
            f"the first of them {lost[0]!a}",
            "the file system may take two of their names for the same one, or something else "
            "writes to the folder: pull into another folder",
        )


@contextmanager
def _write_errors() -> Iterator[None]:
    """Turns what the destination's disk refuses into VaultError kinds."""
    try:
        yield
    except OSError as error:
        what = f"cannot write {error.filename or 'the destination'}: {error.strerror}"
        if error.errno in FULL_ERRNOS:
            raise StorageFull(what, "free some space and pull again") from error
        if error.errno in DENIED_ERRNOS:
            raise AccessRefused(what, "choose a folder you may write to") from error
        raise VaultError(what) from error
