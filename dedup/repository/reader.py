"""Reading what a vault holds: revisions, frames, whole files, ranges, tensors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache, partial
from typing import TYPE_CHECKING, Any

from ...store.backend import Backend
from ...store.catalogue.catalogue import Catalogue
from ...store.catalogue.repo_list import Wanted, list_all, list_rows
from ...store.catalogue.sketches.sketches import commit_with
from ...store.catalogue.tables.rows import CommitRow
from ..errors import (
    ChunksMissing,
    EntryNotFound,
    InvalidInput,
    RepoNotFound,
    RevisionNotFound,
    TensorNotFound,
)
from ..model.files.entries import FileEntry, TensorPlace
from ..model.files.manifest import Manifest
from ..model.files.segments import share_of
from ..model.names import check_repo, check_revision
from ..reading.base_cache import BaseCache, Buffer
from ..vault import Commit, RepoSummary, Snapshot
from .frame_reader import read_frames
from .journal.replay import load_manifest, read_manifest

if TYPE_CHECKING:
    # Coders take 0.1 s to load, which those who read no weights need not pay.
    from .frame_parts import FrameParts

# Of files that are read over HTTP, many at a time: what is fetched ahead, and the bases that all of
# them share. A client that reads a file range by range asks for the same base again and again.
_SERVED_BATCH_BYTES = 4 * 1024 * 1024
_SERVED_BASES_BYTES = 256 * 1024 * 1024

# A manifest of 10,000 tensors takes about 10 MB.
_MANIFESTS_KEPT = 8


class VaultReader:
    """The half of a LocalVault that changes nothing. Safe to use from several threads."""

    def __init__(self, backend: Backend, catalogue: Catalogue) -> None:
        self.backend = backend
        self.catalogue = catalogue
        self._served_bases = BaseCache(_SERVED_BASES_BYTES)
        # Named by their content, so they never change; every range of a file needs one.
        self._made: dict[str, Manifest] = {}
        self._load_manifest = lru_cache(_MANIFESTS_KEPT)(partial(_take, self._made, backend))
        # Asked for each of its chunks in turn.
        self._load_columns = lru_cache(_MANIFESTS_KEPT)(self._read_columns)

    @cached_property
    def _frame_parts(self) -> FrameParts:
        from .frame_parts import FrameParts

        return FrameParts(self.backend, self.catalogue)

    def resolve(self, repo: str, revision: str = "main") -> Snapshot:
        """See Vault.resolve."""
        row = self._find_commit(repo, revision)
        return Snapshot(make_commit(row), self._load_manifest(row.manifest))

    def read_manifest(self, repo: str, revision: str = "main") -> tuple[Commit, bytes]:
        """As resolve, with the manifest as it is stored. Raises Repo-/RevisionNotFound, Corrupt."""
        row = self._find_commit(repo, revision)
        return make_commit(row), read_manifest(self.backend, row.manifest)

    def list_repos_of(
        self, wanted: Wanted, limit: int | None = None, after: str | None = None
    ) -> list[RepoSummary]:
        """Returns the repos that are `wanted` by name: all after the name `after`, or `limit`."""
        rows = list_all(self.catalogue, wanted, after)
        if limit is not None:
            rows = list_rows(self.catalogue, wanted, limit, after)
        return [RepoSummary(r.name, r.branches, r.files, r.bytes, r.updated) for r in rows]

    def check_commit(self, repo: str) -> None:
        """See Vault.check_commit: whoever has the vault may do everything."""
        check_repo(repo)

    def read_frames(self, repo: str, revision: str, digests: Sequence[bytes]) -> Iterator[bytes]:
        """See Vault.read_frames."""
        row = self._find_commit(repo, revision)
        allowed = self.catalogue.chunks_of(repo, row.oid, digests)
        refused = [d for d in digests if d not in allowed]
        if refused:
            raise ChunksMissing(f"{repo} at {revision} has no chunk {refused[0].hex()}")
        return self._fetch_any(digests)

    def stat_file(self, repo: str, revision: str, path: str) -> tuple[Snapshot, FileEntry]:
        """Returns a revision and its file `path`. Raises Repo-, Revision- or EntryNotFound."""
        snapshot = self.resolve(repo, revision)
        entry = snapshot.manifest.file(path)
        if entry is None:
            raise EntryNotFound(f"{repo} at {revision} has no file {path!r}")
        return snapshot, entry

    def read_file(
        self, repo: str, revision: str, path: str, start: int = 0, stop: int | None = None
    ) -> tuple[Snapshot, FileEntry, Iterator[Buffer]]:
        """Returns a revision, its file and the file's bytes [start, stop), piece by piece.

        Raises before the first piece when there is no such file, Corrupt at the piece that is
        damaged.
        """
        snapshot, entry = self.stat_file(repo, revision, path)
        end = entry.size if stop is None else min(stop, entry.size)
        pieces = self._read(entry, snapshot.manifest, start, end)
        return snapshot, entry, pieces

    def read_range(
        self, repo: str, revision: str, path: str, start: int, stop: int
    ) -> Iterator[Buffer]:
        """See Vault.read_range."""
        snapshot, entry = self.stat_file(repo, revision, path)
        chunk_bytes = snapshot.manifest.chunk_bytes
        return self.serve_entry(entry, chunk_bytes, start, min(stop, entry.size))

    def read_tensor(
        self, repo: str, revision: str, name: str, file: str | None = None
    ) -> tuple[Snapshot, TensorPlace, Iterator[Buffer]]:
        """Returns a revision, where its tensor called `name` is, and the tensor's raw bytes, piece
        by piece.

        `file` says which file's, where several have one of that name; without it that raises
        InvalidInput. Raises TensorNotFound.
        """
        snapshot = self.resolve(repo, revision)
        found = [
            (entry, place)
            for entry in snapshot.manifest.files
            if file in (None, entry.path)
            for place in entry.places()
            if place.tensor.name == name
        ]
        if not found:
            raise TensorNotFound(f"{repo} at {revision} has no tensor {name!r}")
        if len(found) > 1:
            paths = ", ".join(place.path for _, place in found)
            raise InvalidInput(f"several files have a tensor {name!r}: {paths}", "name the file")
        entry, place = found[0]
        end = place.offset + place.tensor.size
        return snapshot, place, self._read(entry, snapshot.manifest, place.offset, end)

    def fetch_frames(self, digests: Sequence[bytes]) -> Iterator[bytes]:
        """Yields the frames of any chunks, in that order. Raises ChunksMissing."""
        return self._fetch_any(digests)

    def load_manifest(self, name: str) -> Manifest:
        """Returns the manifest of that name. Raises Corrupt."""
        return self._load_manifest(name)

    def note_manifest(self, name: str, manifest: Manifest) -> None:
        """Keeps a manifest that has just been stored, as the next to be asked for."""
        self._made[name] = manifest
        try:
            self._load_manifest(name)
        finally:
            self._made.pop(name, None)

    def read_entry(
        self, entry: FileEntry, chunk_bytes: int, start: int, stop: int
    ) -> Iterator[Buffer]:
        """Yields the bytes [start, stop) of a file whose segments are cut at `chunk_bytes`."""
        return self._read_with({}, entry, chunk_bytes, start, stop)

    def read_files(
        self, entries: Iterable[FileEntry], chunk_bytes: int
    ) -> Iterator[tuple[FileEntry, Iterator[Buffer]]]:
        """Yields files with their bytes, to be taken before the next: all are read in one go, as
        most are short, and those that share a chunk one after the other."""
        from ..reading.chunk_reader import ChunkReader, Slice
        from ..reading.file_assembly import file_parts, weave

        ordered = sorted(entries, key=lambda e: s.chunks if (s := share_of(e.segments)) else ())
        parts = (part for entry in ordered for part in file_parts(entry, chunk_bytes))
        slices = (part for part in parts if isinstance(part, Slice))
        pieces = ChunkReader(self._fetch_any).read_slices(slices)
        for entry in ordered:
            yield entry, weave(file_parts(entry, chunk_bytes), pieces)

    def serve_entry(
        self, entry: FileEntry, chunk_bytes: int, start: int, stop: int
    ) -> Iterator[Buffer]:
        """As `read_entry`, for many at once: each holds a chunk or two, and all share bases."""
        shared = {"bases": self._served_bases, "batch_bytes": _SERVED_BATCH_BYTES}
        return self._read_with(shared, entry, chunk_bytes, start, stop)

    def _read_with(
        self, options: dict[str, Any], entry: FileEntry, chunk_bytes: int, start: int, stop: int
    ) -> Iterator[Buffer]:
        from ..reading.chunk_reader import ChunkReader
        from ..reading.file_assembly import file_parts, read_parts

        reader = ChunkReader(self._fetch_any, fetch_part=self._frame_parts.fetch, **options)
        return read_parts(reader, file_parts(entry, chunk_bytes, start, stop))

    def require_repo(self, repo: str) -> None:
        """Raises RepoNotFound unless there is a repo of that name."""
        check_repo(repo)
        if not self.catalogue.has_repo(repo):
            raise RepoNotFound(f"there is no repo {repo}", "`weightvault ls` lists them")

    def find_columns(self, chunk_id: int) -> int | None:
        """Returns how many elements a row of the tensor has that a chunk is of; None where no
        commit needs it or the tensor has no rows."""
        found = commit_with(self.catalogue, chunk_id)
        if found is None:
            return None
        digest, name = found
        return self._load_columns(name).get(digest)

    def _read_columns(self, name: str) -> dict[bytes, int | None]:
        manifest = self._load_manifest(name)
        uses = (use for entry in manifest.files for use in entry.chunks(manifest.chunk_bytes))
        return {use.digest: use.columns for use in uses}

    def _find_commit(self, repo: str, revision: str) -> CommitRow:
        check_revision(revision)
        check_repo(repo)
        row = self.catalogue.find_commit(repo, revision)
        if row is None:
            self.require_repo(repo)
            raise RevisionNotFound(f"repo {repo} has no revision {revision!r}")
        return row

    def _fetch_any(self, digests: Sequence[bytes]) -> Iterator[bytes]:
        return read_frames(self.backend, self.catalogue, digests)

    def _read(
        self, entry: FileEntry, manifest: Manifest, start: int, stop: int
    ) -> Iterator[Buffer]:
        return self.read_entry(entry, manifest.chunk_bytes, start, stop)


def _take(made: Mapping[str, Manifest], backend: Backend, name: str) -> Manifest:
    found = made.get(name)
    return load_manifest(backend, name) if found is None else found


def make_commit(row: CommitRow) -> Commit:
    """Returns a commit as a vault tells of it."""
    who = (row.parent, row.base, row.title, row.message, row.author)
    return Commit(row.oid, row.repo, row.branch, row.manifest, row.created, *who)
