"""The vault itself: an object store and a catalogue, kept in step."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache, partial
from pathlib import Path

from ..store.backend import Backend
from ..store.catalogue import Catalogue
from ..store.errors import NotFound, StoreError
from ..store.hashes import HashRow
from ..store.loose import knows_loose
from ..store.moves import can_stand_alone
from ..store.needs import usable_among
from ..store.pack import PackEntry, pack_key
from ..store.rows import CommitRow
from ..store.scrubbing import get_setting, set_setting
from ..store.sketches import commit_with
from . import journal
from .candidates import find_candidates, sketch_row
from .check import check_vault
from .chunks import BaseCache, Buffer, ChunkReader
from .errors import (
    ChunksMissing,
    EntryNotFound,
    InvalidInput,
    InvalidManifest,
    RepoNotFound,
    RevisionNotFound,
    TensorNotFound,
)
from .families import find_families
from .frames import read_frames
from .hashing import hash_file
from .ingest import check_pack
from .manifest import FileEntry, Manifest, TensorPlace, manifest_key, manifest_name, pack_manifest
from .marker import match_catalogue, read_marker, restore_marker, write_marker
from .names import check_branch, check_repo, check_revision
from .optimise import optimise_step, recentre_step
from .rebuild import file_parts, read_parts
from .reporting import growth
from .reporting.compare import compare_methods
from .reporting.model import BY_REPO, Comparison, Prediction, Query, Report
from .reporting.removal import predict_removal
from .reporting.report import cost_of_repo, report_vault
from .securing import reclaim_pack, secure
from .sketch import Sketch
from .sketchfile import Sketches, pack_sketches, sketches_key
from .translate import store_errors
from .uses import chunk_uses, file_row
from .vault import (
    Candidate,
    CheckResult,
    Commit,
    Family,
    FileInfo,
    OptimiseStep,
    RepoInfo,
    RepoSummary,
    Snapshot,
)

# Of files that are read over HTTP, many at a time: what is fetched ahead, and the bases that all of
# them share. A client that reads a file range by range asks for the same base again and again.
_SERVED_BATCH_BYTES = 4 * 1024 * 1024
_SERVED_BASES_BYTES = 256 * 1024 * 1024

# A manifest of 10,000 tensors takes about 10 MB.
_MANIFESTS_KEPT = 8
_BASE_COPIES = "base_copies"


class LocalVault:
    """Implements dedup.vault.Vault over a backend and a catalogue.

    Safe to use from several threads. Opening it brings the catalogue up to date with the journal.
    `scratch` is a folder for temporary files, best on the disk that the backend writes to. With
    `mend_marker` a damaged marker of the store is made anew, if the catalogue knows the store.
    """

    def __init__(
        self, backend: Backend, catalogue: Catalogue, *, scratch: Path, mend_marker: bool = False
    ) -> None:
        self.backend = backend
        self.catalogue = catalogue
        self.scratch = scratch
        self._served_bases = BaseCache(_SERVED_BASES_BYTES)
        with store_errors():
            if mend_marker:
                restore_marker(backend, catalogue)
            match_catalogue(backend, catalogue)
            journal.catch_up(backend, catalogue)
        # Named by their content, so they never change; every range of a file needs one.
        self._load_manifest = lru_cache(_MANIFESTS_KEPT)(partial(journal.load_manifest, backend))
        # Asked for each of its chunks in turn.
        self._load_columns = lru_cache(_MANIFESTS_KEPT)(self._read_columns)

    def close(self) -> None:
        """Gives back connections and files."""
        self.catalogue.close()
        self.backend.close()

    # The way in

    def find_missing(self, digests: Collection[bytes]) -> set[bytes]:
        """See Vault.find_missing."""
        with store_errors(), self.catalogue.reading() as connection:
            return set(digests) - usable_among(connection, digests)

    def find_bases(self, sketches: Sequence[Sketch]) -> list[tuple[Candidate, ...]]:
        """See Vault.find_bases."""
        with store_errors():
            return find_candidates(self.catalogue, sketches)

    def add_pack(self, path: Path, name: str) -> int:
        """See Vault.add_pack."""
        reader = ChunkReader(self._fetch_any)
        alone = partial(can_stand_alone, self.catalogue)
        with store_errors():
            entries, sketches = check_pack(path, name, self.catalogue.locate, alone, reader)
            put = partial(self.backend.put_file, pack_key(name), path)
            return self._add_pack(name, path.stat().st_size, entries, sketches, put)

    def add_own_pack(
        self, data: memoryview, name: str, entries: Sequence[PackEntry], sketches: Sketches
    ) -> int:
        """As add_pack, of a pack in memory whose frames were made and decoded in this process."""
        with store_errors():
            put = partial(self.backend.put, pack_key(name), data)
            return self._add_pack(name, len(data), entries, sketches, put)

    def commit(
        self, repo: str, branch: str, manifest: Manifest, *, base: str | None = None
    ) -> Commit:
        """See Vault.commit."""
        check_repo(repo)
        check_branch(branch)
        if base is not None:
            check_repo(base)
        data = pack_manifest(manifest)
        name = manifest_name(data)
        with store_errors():
            head = self.catalogue.find_commit(repo, branch)
            # A push that finds its manifest gone or quarantined puts it back.
            if head and head.manifest == name and self.backend.exists(manifest_key(name)):
                return make_commit(head)
            self._check_chunks(manifest)
            hashes = self._check_files(manifest)
            secure(self.backend, self.catalogue, name, manifest.digests().keys())
            row = journal.commit_row(repo, branch, name, head.oid if head else None, base)
            self.record_commit(row, manifest, data, row.created, hashes)
        return make_commit(row)

    def commit_staged(
        self,
        repo: str,
        branch: str,
        manifest: Manifest,
        parent: str | None,
        hashes: Collection[HashRow],
        *told: str | None,
    ) -> Commit:
        """Makes `manifest` the newest commit of `branch`, if that is at the commit `parent` still.

        All its files were staged or committed before (dedup/incoming.py), which is what their
        `hashes` come from; `told` are title, message and author. Raises Conflict, ChunksMissing.
        """
        check_repo(repo)
        check_branch(branch)
        data = pack_manifest(manifest)
        name = manifest_name(data)
        with store_errors():
            self._check_chunks(manifest)
            secure(self.backend, self.catalogue, name, manifest.digests().keys())
            row = journal.commit_row(repo, branch, name, parent, None, *told)
            self.record_commit(row, manifest, data, row.created, hashes, exact=True)
        return make_commit(row)

    def delete_repo(self, repo: str) -> None:
        """See Vault.delete_repo."""
        self.require_repo(repo)
        with store_errors():
            self.record(journal.deletion(repo))

    # The way out

    def resolve(self, repo: str, revision: str = "main") -> Snapshot:
        """See Vault.resolve."""
        row = self._find_commit(repo, revision)
        with store_errors():
            return Snapshot(make_commit(row), self._load_manifest(row.manifest))

    def read_frames(self, repo: str, revision: str, digests: Sequence[bytes]) -> Iterator[bytes]:
        """See Vault.read_frames."""
        row = self._find_commit(repo, revision)
        with store_errors():
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
        with store_errors():
            return self._load_manifest(name)

    def read_entry(
        self, entry: FileEntry, chunk_bytes: int, start: int, stop: int
    ) -> Iterator[Buffer]:
        """Yields the bytes [start, stop) of a file whose segments are cut at `chunk_bytes`."""
        return read_parts(ChunkReader(self._fetch_any), file_parts(entry, chunk_bytes, start, stop))

    def serve_entry(
        self, entry: FileEntry, chunk_bytes: int, start: int, stop: int
    ) -> Iterator[Buffer]:
        """As `read_entry`, for many at once: each holds a chunk or two, and all share bases."""
        reader = ChunkReader(self._fetch_any, self._served_bases, batch_bytes=_SERVED_BATCH_BYTES)
        return read_parts(reader, file_parts(entry, chunk_bytes, start, stop))

    # Looking

    def list_repos(self) -> list[RepoSummary]:
        """See Vault.list_repos."""
        with store_errors():
            rows = self.catalogue.list_repos()
        return [RepoSummary(r.name, r.branches, r.files, r.bytes, r.updated) for r in rows]

    def describe_repo(self, repo: str) -> RepoInfo:
        """See Vault.describe_repo."""
        self.require_repo(repo)
        with store_errors():
            branches = self.catalogue.branches(repo)
            newest = max(branches.values(), key=lambda row: row.created)
            manifest = self._load_manifest(newest.manifest)
            cost = cost_of_repo(self.catalogue, repo)
        files = tuple(
            FileInfo(f.path, f.size, sum(1 for _ in f.tensors), f.digest.hex())
            for f in manifest.files
        )
        ids = {name: row.oid for name, row in branches.items()}
        return RepoInfo(repo, ids, make_commit(newest), files, cost)

    def report(self, query: Query = BY_REPO) -> Report:
        """See Vault.report. Puts the day on record, too."""
        with store_errors():
            found = report_vault(self, query)
            if growth.wants_record(self.catalogue):
                # The next one will do: somebody else may be writing for long, or nobody may.
                with suppress(StoreError):
                    growth.record(self.catalogue, found)
            return found

    def record_totals(self) -> None:
        """Puts the day on record unless that was done within the hour."""
        with store_errors():
            if growth.wants_record(self.catalogue):
                growth.record(self.catalogue, report_vault(self, Query(())))

    def predict_removal(self, repos: Sequence[str]) -> Prediction:
        """See Vault.predict_removal."""
        with store_errors():
            return predict_removal(self, repos)

    def compare(self, share: float = 1.0, seed: int = 0) -> Comparison:
        """See Vault.compare."""
        with store_errors():
            return compare_methods(self, share, seed)

    def list_families(self) -> list[Family]:
        """See Vault.list_families."""
        with store_errors():
            return find_families(self.catalogue)

    def optimise(self, cursor: int = 0, *, dry_run: bool = False) -> OptimiseStep:
        """See Vault.optimise."""
        with store_errors():
            return optimise_step(self, cursor, dry_run=dry_run)

    def recentre(self, repo: str, revision: str, cursor: int = 0) -> OptimiseStep:
        """See Vault.recentre."""
        row = self._find_commit(repo, revision)
        with store_errors():
            return recentre_step(self, repo, row.oid, cursor)

    def check(self) -> CheckResult:
        """See Vault.check."""
        with store_errors():
            return check_vault(self.backend, self.catalogue)

    def check_health(self) -> None:
        """Asks the object store and the catalogue for something small; raises if one fails."""
        with store_errors():
            read_marker(self.backend)
            self.catalogue.last_entry()

    # Settings

    def base_copies(self) -> int:
        """Returns from how many deltas on a base are kept twice; 0: none is."""
        return int(get_setting(self.catalogue, _BASE_COPIES) or 0)

    def keep_base_copies(self, least_deltas: int) -> None:
        """Sets what base_copies returns; collections make the copies, and give them up."""
        set_setting(self.catalogue, _BASE_COPIES, str(least_deltas))

    # Inside

    def _add_pack(
        self,
        name: str,
        size: int,
        entries: Sequence[PackEntry],
        sketches: Sketches,
        put_pack: Callable[[], None],
    ) -> int:
        def put() -> None:
            # The sketches first: without them, a catalogue built anew would not find these chunks.
            self.backend.put(sketches_key(name), pack_sketches(sketches.items()))
            put_pack()

        write_marker(self.backend, self.catalogue)
        reclaim_pack(self.backend, self.catalogue, name)
        put()
        rows = [sketch_row(digest, sketch) for digest, sketch in sketches.items()]
        added = self.catalogue.add_pack(name, size, entries, rows)
        # Between the two lines above nothing knew the pack, so a collection without grace may have
        # taken it; from now on it is known.
        if not self.backend.exists(pack_key(name)):
            put()
        return added

    def record_commit(
        self,
        row: CommitRow,
        manifest: Manifest,
        data: bytes,
        created: float,
        hashes: Collection[HashRow] = (),
        *,
        exact: bool = False,
    ) -> None:
        """Makes a commit the newest of its branch, with a journal entry of the time `created`.

        `data` is the manifest's bytes, `hashes` those of its new files. With `exact` raises
        Conflict unless the branch is at the commit's parent. Raises ChunksMissing when something it
        needs is gone.
        """
        write_marker(self.backend, self.catalogue)
        made = journal.Entry(row.repo, created, row, tuple(hashes))
        key, entry = journal.pack_entry(made)

        def publish() -> None:
            self.backend.put(manifest_key(row.manifest), data)
            self.backend.put(key, entry)

        files, uses = list(map(file_row, manifest.files)), chunk_uses(manifest)
        try:
            self.catalogue.add_commit(row, files, uses, key, publish, hashes=hashes, exact=exact)
        except NotFound as error:
            raise ChunksMissing(f"{row.repo}: {error}; it was collected", "push again") from error

    def record(self, entry: journal.AnyEntry) -> None:
        """Writes a journal entry and does what it says."""
        write_marker(self.backend, self.catalogue)
        key = journal.write_entry(self.backend, entry)
        journal.apply_entry(self.backend, self.catalogue, key, entry)

    def _find_commit(self, repo: str, revision: str) -> CommitRow:
        check_revision(revision)
        check_repo(repo)
        with store_errors():
            row = self.catalogue.find_commit(repo, revision)
        if row is None:
            self.require_repo(repo)
            raise RevisionNotFound(f"repo {repo} has no revision {revision!r}")
        return row

    def require_repo(self, repo: str) -> None:
        """Raises RepoNotFound unless there is a repo of that name."""
        check_repo(repo)
        with store_errors():
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

    def _fetch_any(self, digests: Sequence[bytes]) -> Iterator[bytes]:
        return read_frames(self.backend, self.catalogue, digests)

    def _read(
        self, entry: FileEntry, manifest: Manifest, start: int, stop: int
    ) -> Iterator[Buffer]:
        return self.read_entry(entry, manifest.chunk_bytes, start, stop)

    def _check_chunks(self, manifest: Manifest) -> None:
        wanted = manifest.digests()
        known = self.catalogue.known(list(wanted))
        absent = [d for d in wanted if d not in known]
        if absent:
            raise ChunksMissing(
                f"{len(absent)} of {len(wanted)} chunks were never uploaded", "push again"
            )
        wrong = [d for d, size in wanted.items() if known[d] != size]
        if wrong:
            raise InvalidManifest(f"chunk {wrong[0].hex()} has another size than stated")

    def _check_files(self, manifest: Manifest) -> list[HashRow]:
        """Rebuilds and hashes every file that was not before: nobody's word is taken for it.
        Returns what else they hash to."""
        found: list[HashRow] = []
        for entry in manifest.files:
            known = (entry.digest, entry.recipe())
            if self.catalogue.knows_file(*known) or knows_loose(self.catalogue, *known):
                continue
            hashes = hash_file(self._read(entry, manifest, 0, entry.size), entry.size)
            if hashes.digest != entry.digest:
                raise InvalidManifest(f"the segments of {entry.path!r} do not make up that file")
            found.append(hashes)
        return found


def make_commit(row: CommitRow) -> Commit:
    """Returns a commit as a vault tells of it."""
    who = (row.parent, row.base, row.title, row.message, row.author)
    return Commit(row.oid, row.repo, row.branch, row.manifest, row.created, *who)
