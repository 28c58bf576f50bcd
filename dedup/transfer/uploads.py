"""How files that arrive as bytes become frames: what servers of foreign protocols build on.

    incoming = IncomingFiles(vault)
    file = incoming.add(pieces, "org/model", sha256=..., size=...)   # verified, durable, recorded
    incoming.get(sha256, "org/model")                                # any server, any time later
    incoming.find(sha256, sees=lambda repo: repo in mine)            # in what somebody may read
    incoming.read(file, start, stop)                                 # its bytes, piece by piece

A *loose file* is one that was uploaded for a repo, is known by its SHA-256, and is kept for three
weeks whether a commit names it or not. When `add` returns, its chunks are in packs, its segments in
a manifest of its own, and both on record in the journal: other servers see it, a restart and a
rebuilt catalogue keep it, a collection leaves it alone until it expires. `add` may be repeated
and interrupted anywhere.

The bytes are spooled to a file and taken apart as a push does it. Chunks the vault lacks are stored
as they came (`codec raw`), so that taking in is as fast as the disk, and wait in a queue to be
coded (dedup/maintenance/background_encode.py). With `inline` they are coded against bases before
`add` returns.

What anybody may learn of a file goes by repos: `get` by the one it was uploaded for, `find` by
those that `sees` lets through. A SHA-256 alone gives nothing away.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from ...store.cancel import carry
from ...store.catalogue.access.received import unknown_to
from ...store.catalogue.files.hashes import HashRow, find_holders, hashes_of
from ...store.catalogue.files.loose_files import LooseRow, NewLoose, add_loose, find_loose
from ...store.catalogue.queues.encode_queue import queue_chunks
from ...store.errors import NotFound
from ...store.object_keys import manifest_key
from ...store.repo_names import namespace_of
from ..errors import ChunksMissing, InvalidUpload
from ..formats.companions import Places
from ..formats.cutting.held import File
from ..model.files.entries import FileEntry
from ..model.files.manifest import Manifest, manifest_name, pack_manifest
from ..model.files.segments import share_of
from ..model.journal_entries import Loose, key_at
from ..model.names import check_repo
from ..model.sketch_file import Sketches
from ..model.store_marker import write_marker
from ..progress import Progress
from ..reading.chunk_reader import Buffer
from ..reading.scratch import scratch_folder
from ..repository.journal.replay import load_manifest, loose_row
from ..repository.journal.writing import follow, new_entries
from ..repository.pins import pin_chunks
from ..repository.repository import Repository
from .arrived_files import NAME, check_size, hash_all, scan, spool
from .folders.small_files import bundle_files
from .push import ask_missing, send_missing
from .raw_packs import store_raw

# Clients that upload by content trust what they sent for three weeks; a day is for clocks.
KEEP_SECONDS = 22 * 24 * 3600.0

Sees = Callable[[str], bool]

_LEVEL = "default"
_ATTEMPTS = 3
_PUTS_AT_ONCE = 8


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


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that arrives: its bytes, and what it is said to be, where known."""

    stream: Iterable[Buffer]
    sha256: bytes | None = None
    size: int | None = None
    name: str | None = None


class _Unkept:
    """A file to put on record, with the manifest that has but this file."""

    def __init__(self, file: LooseFile) -> None:
        self.file = file
        self.manifest = Manifest((file.entry,), file.chunk_bytes)
        self.data = pack_manifest(self.manifest)
        self.name = manifest_name(self.data)


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
        (file,) = self.add_all([Upload(stream, sha256, size, name)], repo)
        return file

    def add_all(self, uploads: Iterable[Upload], repo: str) -> list[LooseFile]:
        """As `add`, of several files, which are put on record together. Where one is refused none
        is kept."""
        with scratch_folder("incoming-", self._vault.scratch) as folder:
            files: dict[str, Path] = {}
            expected: dict[str, bytes] = {}
            for number, upload in enumerate(uploads):
                path = Path(folder, str(number))
                spool(upload.stream, path, upload.size)
                check_size(path, upload.size)
                # Each in a folder of its own: they are no neighbours of each other.
                name = f"{number}/{upload.name or NAME}"
                files[name] = path
                if upload.sha256 is not None:
                    expected[name] = upload.sha256
            return self._add_paths(files, repo, expected)

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
        check_size(path, size)
        called = name or NAME
        expected = {} if sha256 is None else {called: sha256}
        (file,) = self._add_paths({called: path}, repo, expected)
        return file

    def _add_paths(
        self, files: Mapping[str, File], repo: str, expected: Mapping[str, bytes]
    ) -> list[LooseFile]:
        check_repo(repo)
        for attempt in range(_ATTEMPTS):
            staged = self.stage(files, repo, expected=expected)
            try:
                return self.keep_all(staged, repo)
            except ChunksMissing:
                # A collection without grace took what was there when this began.
                if attempt == _ATTEMPTS - 1:
                    raise
        raise AssertionError("unreachable")

    def stage(
        self,
        files: Mapping[str, File],
        repo: str,
        *,
        expected: Mapping[str, bytes] | None = None,
        places: Mapping[str, Places] | None = None,
        bundled_from: int | None = None,
    ) -> list[StagedFile]:
        """Stores the chunks of files, given by their path in `repo`, and returns them in that
        order. Nothing is recorded: a commit that names them has to follow within a day. `places`
        as scan_files takes them. With `bundled_from` one commit has all of them: small ones become
        bundles, as those of a push do, if there are that many.

        Raises InvalidUpload, before anything is stored, if one has not the SHA-256 that is
        `expected` of it.
        """
        with ThreadPoolExecutor(1, "hash") as hasher:
            hashing = hasher.submit(carry(hash_all), files.values())
            # Chunks that are stored as they came are sketched when they are.
            sketches: Sketches | None = {} if self._inline else None
            manifest = scan(files, sketches, places)
            if bundled_from is not None:
                bundled = bundle_files(
                    manifest.files, files, manifest.chunk_bytes, sketches, least=bundled_from
                )
                manifest = Manifest(tuple(bundled), manifest.chunk_bytes)
            hashes = hashing.result()
        for (sha256, _), name in zip(hashes, files, strict=True):
            said = (expected or {}).get(name, sha256)
            if said != sha256:
                raise InvalidUpload(
                    f"{name}: the bytes that arrived have the SHA-256 {sha256.hex()}, not "
                    f"{said.hex()}",
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
        for row in find_loose(self._vault.catalogue, [sha256], time.time()):
            if sees(row.repo) and (loaded := self._load_loose(row)):
                return loaded
        for holder in find_holders(self._vault.catalogue, sha256, within):
            if sees(holder.repo):
                manifest = self._vault.load_manifest(holder.manifest)
                entry = manifest.file(holder.path)
                # With a share of a chunk, whoever may read it would have all others of that chunk.
                if entry is None or share_of(entry.segments):
                    continue
                if entry.digest == holder.digest:
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
        (kept,) = self.keep_all([staged], repo)
        return kept

    def keep_all(self, staged: Sequence[StagedFile], repo: str) -> list[LooseFile]:
        """As `keep`, of several files, in one transaction."""
        files = [
            LooseFile(
                replace(each.entry, path=NAME),
                each.chunk_bytes,
                each.sha256,
                each.git_sha1,
                repo,
            )
            for each in staged
        ]
        catalogue = self._vault.catalogue
        created = follow(catalogue.last_entry())
        new = self._not_kept(files, created)
        if not new:
            return files
        write_marker(self._vault.backend, catalogue)
        digests = {digest for each in new for digest in each.manifest.digests()}
        names = [each.name for each in new]
        pin_chunks(self._vault.backend, catalogue, names, digests)
        try:
            self._record(new, created)
        except NotFound as error:
            raise ChunksMissing(f"{repo}: {error}", "send the file again") from error
        return files

    # Inside

    def _send(
        self, manifest: Manifest, files: Mapping[str, File], sketches: Sketches | None, repo: str
    ) -> None:
        missing = ask_missing(self._vault, manifest)
        # Stored once more, so that nobody learns by the time it takes that others have it.
        owner = namespace_of(repo)
        missing |= unknown_to(self._vault.catalogue, list(manifest.digests()), [owner])
        if not missing:
            return
        if self._inline:
            view, scratch = self._vault.for_owner(repo), self._vault.scratch
            known = {} if sketches is None else sketches
            send_missing(view, manifest, files, missing, known, (), _LEVEL, Progress(), scratch)
            return
        store_raw(self._vault, manifest, files, missing)
        queue_chunks(self._vault.catalogue, missing)

    def _not_kept(self, files: Sequence[LooseFile], now: float) -> list[_Unkept]:
        """Returns those of the files, each content once, that are to be put on record."""
        new = {each.sha256: _Unkept(each) for each in files}
        rows = find_loose(self._vault.catalogue, list(new), now + self._keep_seconds / 2)
        kept = {(row.sha256, row.repo, row.manifest) for row in rows}
        return [u for u in new.values() if (u.file.sha256, u.file.repo, u.name) not in kept]

    def _record(self, files: Sequence[_Unkept], created: float) -> None:
        """Writes manifests, journal entries and rows."""
        backend = self._vault.backend
        entries: list[Loose] = []
        rows: list[NewLoose] = []
        for each in files:
            told = (each.file.repo, each.file.sha256, each.file.git_sha1, each.name)
            made = Loose(*told, self._keep_seconds, created)
            row, digests = loose_row(made, each.manifest), list(each.manifest.digests())
            entries.append(made)
            rows.append(NewLoose(row, each.file.git_sha1, digests))
            created = follow(key_at(created))

        def put_manifests() -> None:
            # Others wait for this transaction.
            with ThreadPoolExecutor(min(len(files), _PUTS_AT_ONCE), "store") as pool:
                puts = [
                    pool.submit(carry(backend.put), manifest_key(each.name), each.data)
                    for each in files
                ]
                for done in puts:
                    done.result()

        add_loose(self._vault.catalogue, rows, new_entries(backend, entries, put_manifests))

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
