"""How files that arrive as bytes become frames: what servers of foreign protocols build on.

    incoming = IncomingFiles(vault)
    file = incoming.add(pieces, "org/model", sha256=..., size=...)   # verified, durable, recorded
    incoming.get(sha256, "org/model")                                # any server, any time later
    incoming.find(sha256, sees=lambda repo: repo in mine)            # in what somebody may read
    incoming.read(file, start, stop)                                 # its bytes, piece by piece

A *loose file* is one that was uploaded for a repo, is known by its SHA-256, and is kept for three
weeks whether a commit names it or not. When `add` returns, its chunks are in packs, its segments in
a manifest of its own, and both on record in the journal: other servers see it, a restart and a
catalogue built anew keep it, a collection leaves it alone until it expires. `add` may be repeated
and interrupted anywhere.

The bytes are spooled to a file and taken apart as a push does it. Chunks the vault lacks are stored
as they came (`codec raw`), so that taking in is as fast as the disk, and wait in a queue to be
coded (dedup/maintenance/background_encode.py). With `inline` they are coded against bases before
`add` returns.

What anybody may learn of a file goes by repos: `get` by the one it was uploaded for, `find` by
those that `sees` lets through. A SHA-256 alone gives nothing away.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from ...store.cancel import carry, check_cancelled
from ...store.catalogue.access.received import unknown_to
from ...store.catalogue.encode_queue import queue_chunks
from ...store.catalogue.files.hashes import HashRow, find_holders, hashes_of
from ...store.catalogue.files.loose_files import LooseRow, add_loose, find_loose
from ...store.catalogue.lost_entries import find_heads
from ...store.errors import NotFound
from ...store.object_keys import manifest_key
from ...store.repo_names import namespace_of
from ..errors import ChunksMissing, Corrupt, InvalidFile, InvalidUpload
from ..formats.scan import scan_files
from ..model.files.entries import FileEntry
from ..model.files.manifest import Manifest, manifest_name, pack_manifest
from ..model.files.segments import CHUNK_BYTES
from ..model.journal_entries import Loose, pack_entry
from ..model.names import check_repo
from ..model.sketch_file import Sketches
from ..model.store_marker import write_marker
from ..progress import Progress
from ..reading.chunk_reader import Buffer
from ..repository.error_translation import store_errors
from ..repository.file_hashes import git_hasher
from ..repository.journal import follow, load_manifest, loose_row
from ..repository.pins import pin_chunks
from ..repository.repository import Repository
from .push import ask_missing, send_missing
from .raw_packs import store_raw

# Clients that upload by content trust what they sent for three weeks; a day is for clocks.
KEEP_SECONDS = 22 * 24 * 3600.0

Sees = Callable[[str], bool]

# What a file is called in its own manifest: the path it will have is not known yet.
_NAME = "content"
_LEVEL = "default"
_READ_BYTES = 1 << 20
_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class StagedFile:
    """A file whose chunks are stored: its segments (the path is that of the request), the length
    they are cut at, its SHA-256 and its SHA-1 as a git blob."""

    entry: FileEntry
    chunk_bytes: int
    sha256: bytes
    git_sha1: bytes

    @property
    def size(self) -> int:
        """Its bytes."""
        return self.entry.size

    @property
    def hashes(self) -> HashRow:
        """Its three hashes."""
        return HashRow(self.entry.digest, self.sha256, self.git_sha1)


@dataclass(frozen=True, slots=True)
class LooseFile(StagedFile):
    """A staged file that is kept, with the repo through which it may be read."""

    repo: str


class IncomingFiles:
    """Takes in files for the repos of a vault; safe to use from several threads.

    `keep_seconds`: how long a loose file is kept. `inline`: code chunks at once. Methods raise
    VaultError kinds.
    """

    def __init__(
        self, vault: Repository, *, keep_seconds: float = KEEP_SECONDS, inline: bool = False
    ) -> None:
        self._vault = vault
        self._keep_seconds = keep_seconds
        self._inline = inline

    def add(
        self,
        stream: Iterable[Buffer],
        repo: str,
        *,
        sha256: bytes | None = None,
        size: int | None = None,
        name: str | None = None,
    ) -> LooseFile:
        """Takes in the bytes of `stream` as a loose file of `repo`.

        Raises InvalidUpload unless they have the `sha256` and the `size` they are said to; no more
        than `size` is read. `name`: the file's, where known; it helps to tell the format.
        """
        with (
            store_errors(),
            tempfile.TemporaryDirectory(prefix="incoming-", dir=self._vault.scratch) as folder,
        ):
            path = Path(folder, _NAME)
            _spool(stream, path, size)
            return self.add_file(path, repo, sha256=sha256, size=size, name=name)

    def add_file(
        self,
        path: Path,
        repo: str,
        *,
        sha256: bytes | None = None,
        size: int | None = None,
        name: str | None = None,
    ) -> LooseFile:
        """As `add`, of a file on this machine, which must not change meanwhile."""
        check_repo(repo)
        found = path.stat().st_size
        if size not in (None, found):
            raise InvalidUpload(f"{found} bytes arrived of a file of {size}", "send it again")
        for attempt in range(_ATTEMPTS):
            (staged,) = self.stage({name or _guess_name(path): path}, repo, expected=sha256)
            try:
                return self.keep(staged, repo)
            except ChunksMissing:
                # A collection without grace took what was there when this began.
                if attempt == _ATTEMPTS - 1:
                    raise
        raise AssertionError("unreachable")

    def stage(
        self, files: dict[str, Path], repo: str, *, expected: bytes | None = None
    ) -> list[StagedFile]:
        """Stores the chunks of files, given by their path in `repo`, and returns them in that
        order. Nothing is recorded: a commit that names them has to follow within a day.

        Raises InvalidUpload, before anything is stored, if one has not the SHA-256 `expected`.
        """
        with ThreadPoolExecutor(1, "hash") as hasher:
            hashing = [hasher.submit(carry(_hash_file), path) for path in files.values()]
            sketches: Sketches = {}
            manifest = _scan(files, sketches)
            hashes = [one.result() for one in hashing]
        for (sha256, _), name in zip(hashes, files, strict=True):
            if expected not in (None, sha256):
                raise InvalidUpload(
                    f"{name}: the bytes that arrived have the SHA-256 {sha256.hex()}, not "
                    f"{expected.hex() if expected else ''}",
                    "send it again",
                )
        self._send(manifest, files, sketches, repo)
        by_path = {entry.path: entry for entry in manifest.files}
        return [
            StagedFile(by_path[name], manifest.chunk_bytes, *found)
            for name, found in zip(files, hashes, strict=True)
        ]

    def get(self, sha256: bytes, repo: str) -> LooseFile | None:
        """Returns the file of that SHA-256 that was uploaded for `repo` or that a commit of it has;
        None if there is none."""
        return self.find(sha256, lambda name: name == repo, within=repo)

    def find(self, sha256: bytes, sees: Sees, *, within: str | None = None) -> LooseFile | None:
        """Returns a file of that SHA-256 of one of the repos that `sees` lets through (only of the
        repo `within`, if given), None if there is none."""
        with store_errors():
            for row in find_loose(self._vault.catalogue, sha256, time.time()):
                if sees(row.repo) and (loaded := self._load_loose(row)):
                    return loaded
            for holder in find_holders(self._vault.catalogue, sha256, within):
                if sees(holder.repo):
                    manifest = self._vault.load_manifest(holder.manifest)
                    entry = manifest.file(holder.path)
                    if entry is not None and entry.digest == holder.digest:
                        return self._known(entry, manifest.chunk_bytes, holder.repo)
        return None

    def read(self, file: StagedFile, start: int = 0, stop: int | None = None) -> Iterator[Buffer]:
        """Yields the bytes [start, stop) of a file, verified. Raises Corrupt, or Missing where a
        file that no commit names was collected."""
        stop = file.size if stop is None else min(stop, file.size)
        return self._vault.read_entry(file.entry, file.chunk_bytes, start, stop)

    def keep(self, staged: StagedFile, repo: str) -> LooseFile:
        """Puts a file that is stored on record for a repo, unless it is and will be for a while.

        Raises ChunksMissing where something of it has been collected since.
        """
        loose = LooseFile(
            replace(staged.entry, path=_NAME),
            staged.chunk_bytes,
            staged.sha256,
            staged.git_sha1,
            repo,
        )
        manifest = Manifest((loose.entry,), loose.chunk_bytes)
        data = pack_manifest(manifest)
        with store_errors():
            now = follow(self._vault.catalogue.last_entry())
            told = (repo, loose.sha256, loose.git_sha1, manifest_name(data))
            made = Loose(*told, self._keep_seconds, now)
            if self._is_kept(loose_row(made, manifest), now):
                return loose
            write_marker(self._vault.backend, self._vault.catalogue)
            digests = list(manifest.digests())
            pin_chunks(self._vault.backend, self._vault.catalogue, made.manifest, digests)
            key, entry = pack_entry(made, find_heads(self._vault.catalogue))

            def publish() -> None:
                self._vault.backend.put(manifest_key(made.manifest), data)
                self._vault.backend.put(key, entry)

            row = loose_row(made, manifest)
            try:
                add_loose(self._vault.catalogue, row, loose.git_sha1, digests, key, publish)
            except NotFound as error:
                raise ChunksMissing(f"{repo}: {error}", "send the file again") from error
        return loose

    # Inside

    def _send(
        self, manifest: Manifest, files: dict[str, Path], sketches: Sketches, repo: str
    ) -> None:
        missing = ask_missing(self._vault, manifest)
        with store_errors():
            # Stored once more, so that nobody learns by the time it takes that others have it.
            owner = namespace_of(repo)
            missing |= unknown_to(self._vault.catalogue, list(manifest.digests()), [owner])
        if not missing:
            return
        if self._inline:
            view, scratch = self._vault.for_owner(repo), self._vault.scratch
            send_missing(view, manifest, files, missing, sketches, (), _LEVEL, Progress(), scratch)
            return
        store_raw(self._vault, manifest, files, missing)
        with store_errors():
            queue_chunks(self._vault.catalogue, missing)

    def _is_kept(self, row: LooseRow, now: float) -> bool:
        kept = find_loose(self._vault.catalogue, row.sha256, now + self._keep_seconds / 2)
        return any((k.repo, k.manifest) == (row.repo, row.manifest) for k in kept)

    def _load_loose(self, row: LooseRow) -> LooseFile | None:
        manifest = load_manifest(self._vault.backend, row.manifest)
        (entry,) = manifest.files
        if self._vault.find_missing(list(manifest.digests())):
            # Damaged since: whoever has it may send it again.
            return None
        return self._known(entry, manifest.chunk_bytes, row.repo)

    def _known(self, entry: FileEntry, chunk_bytes: int, repo: str) -> LooseFile:
        found = hashes_of(self._vault.catalogue, [entry.digest])[entry.digest]
        return LooseFile(entry, chunk_bytes, found.sha256, found.git_sha1, repo)


def _spool(stream: Iterable[Buffer], path: Path, size: int | None) -> None:
    arrived = 0
    with path.open("wb") as file:
        for piece in stream:
            check_cancelled()
            arrived += len(piece)
            if size is not None and arrived > size:
                raise InvalidUpload(f"more than the {size} bytes announced arrived")
            file.write(piece)


def _hash_file(path: Path) -> tuple[bytes, bytes]:
    """Returns the SHA-256 of a file and its SHA-1 as a git blob."""
    sha256, git = hashlib.sha256(), git_hasher(path.stat().st_size)
    with path.open("rb") as file:
        for data in _pieces(file):
            check_cancelled()
            sha256.update(data)
            git.update(data)
    return sha256.digest(), git.digest()


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    return iter(lambda: file.read(_READ_BYTES), b"")


def _guess_name(path: Path) -> str:
    """Returns a name for bytes without one: all formats but safetensors show in their content."""
    with path.open("rb") as file:
        head = file.read(9)
    length = int.from_bytes(head[:8], "little")
    fits = 2 <= length <= path.stat().st_size - 8
    return f"{_NAME}.safetensors" if fits and head[8:] == b"{" else _NAME


def _scan(files: dict[str, Path], sketches: Sketches) -> Manifest:
    """Takes files apart; one that is not what its name promises is opaque here: what clients of
    hubs upload is never refused for that."""
    try:
        return scan_files(files, Progress(), CHUNK_BYTES, sketches)
    except InvalidFile:
        entries = [_scan_anyhow(name, path, sketches) for name, path in files.items()]
        return Manifest(tuple(entries), CHUNK_BYTES)


def _scan_anyhow(name: str, path: Path, sketches: Sketches) -> FileEntry:
    for called in (name, _NAME):
        try:
            (entry,) = scan_files({called: path}, Progress(), CHUNK_BYTES, sketches).files
            return replace(entry, path=name)
        except InvalidFile:
            continue
    raise Corrupt(f"the upload {name!r} changed while it was read")
