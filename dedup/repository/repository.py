"""The repository: an object store and a catalogue, kept in step."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from blake3 import blake3

from ...codecs.jit.cached import add_cache_folder
from ...store.backend import Backend
from ...store.cancel import check_cancelled
from ...store.catalogue.catalogue import Catalogue
from ...store.catalogue.commits import complete_commit
from ...store.catalogue.damage import get_setting, set_setting
from ...store.catalogue.dependencies import hold_store, stranded_among, usable_among
from ...store.catalogue.files.hashes import HashRow
from ...store.catalogue.files.known_files import known_files
from ...store.catalogue.moved_frames import lowest_levels
from ...store.catalogue.owners import ANYWHERE, BASE_SHARING, choose_sharing, reach_of, sharing_of
from ...store.catalogue.refs import is_public
from ...store.catalogue.repo_list import Wanted
from ...store.catalogue.tables.rows import CommitRow
from ...store.catalogue.visibility import EVERYTHING, Scope
from ...store.errors import NotFound
from ...store.object_keys import manifest_key, pack_key, sketches_key
from ...store.packs import PackEntry
from ...store.repo_names import namespace_of
from ..errors import ChunksMissing, Corrupt, InvalidManifest, VaultError
from ..model.files.entries import ChunkUse, FileEntry
from ..model.files.expansion import check_files
from ..model.files.manifest import Manifest, manifest_name, pack_manifest
from ..model.files.rows import chunk_uses, file_row
from ..model.files.segments import Share, share_of
from ..model.journal_entries import Change, Entry, TokenChange, commit_row
from ..model.names import check_branch, check_repo, split_message
from ..model.paths import check_new_paths
from ..model.store_marker import (
    close_store,
    match_catalogue,
    read_marker,
    restore_marker,
    write_marker,
)
from ..vault import Candidate, Commit, PushTarget, RepoSummary
from .journal.heads import write_heads
from .journal.replay import apply_change, catch_up
from .journal.writing import new_entry
from .pins import pin_chunks, reclaim_pack
from .reader import VaultReader, make_commit

if TYPE_CHECKING:
    # What takes in packs loads numpy and coders, which those who only look need not pay.
    from ..model.sketch import Sketch
    from ..model.sketch_file import Sketches

_BASE_COPIES = "base_copies"


class Repository(VaultReader):
    """An object store and its catalogue: all that operations on a vault read and write through.

    Safe to use from several threads. Opening it brings the catalogue up to date with the journal.
    `scratch` is a folder for temporary files, best on the disk that the backend writes to. With
    `rebuild_marker` a damaged marker of the store is rebuilt, if the catalogue knows the store.
    """

    def __init__(
        self, backend: Backend, catalogue: Catalogue, *, scratch: Path, rebuild_marker: bool = False
    ) -> None:
        super().__init__(backend, catalogue)
        self.scratch = scratch
        # As private as the vault, and there at every start, which a container's /tmp is not.
        add_cache_folder(scratch / "kernels")
        if rebuild_marker:
            restore_marker(backend, catalogue)
        match_catalogue(backend, catalogue)
        catch_up(backend, catalogue)

    def close(self) -> None:
        """Closes connections and files."""
        self.catalogue.close()
        self.backend.close()

    # The way in

    def find_missing(self, digests: Collection[bytes]) -> set[bytes]:
        """See Vault.find_missing."""
        with self.catalogue.reading() as connection:
            return set(digests) - usable_among(connection, digests)

    def find_bases(self, sketches: Sequence[Sketch]) -> list[tuple[Candidate, ...]]:
        """See Vault.find_bases."""
        from ..similarity.candidates import find_candidates

        return find_candidates(self.catalogue, sketches)

    def for_owner(self, repo: str) -> PushTarget:
        """See Vault.for_owner."""
        check_repo(repo)
        shown = bool(is_public(self.catalogue, repo))
        return self.for_owners([namespace_of(repo)], shown=shown)

    def for_owners(self, owners: Collection[str], *, shown: bool) -> PushTarget:
        """Returns the vault as far as bases go for chunks that these namespaces have, and a public
        repo if they are `shown`."""
        from .owners_view import OwnersView

        with self.catalogue.reading() as connection:
            reach = reach_of(owners, sharing_of(connection), shown=shown)
        return self if reach == ANYWHERE else OwnersView(self, self.catalogue, reach)

    def add_pack(self, path: Path, name: str, *, bounded: bool = False) -> int:
        """See Vault.add_pack. With `bounded` raises TooExpensive as expansion.py has it."""
        from .deeper_packs import fit_depths

        levels = partial(lowest_levels, self.catalogue)
        with fit_depths(path, name, levels, self.scratch) as (fitting, its_name):
            return self.add_made_pack(fitting, its_name, bounded=bounded)

    def add_made_pack(self, path: Path, name: str, *, bounded: bool = False) -> int:
        """As add_pack, of a pack whose deltas have the depths that they say, or it is refused."""
        from ..reading.chunk_reader import ChunkReader
        from .pack_check import check_pack

        reader = ChunkReader(self._fetch_any)
        look = self.catalogue.locate, partial(lowest_levels, self.catalogue)
        entries, sketches = check_pack(path, name, *look, reader, bounded=bounded)
        put = partial(self.backend.put_file, pack_key(name), path)
        return self._add_pack(name, path.stat().st_size, entries, sketches, put)

    def add_own_pack(
        self, data: memoryview, name: str, entries: Sequence[PackEntry], sketches: Sketches
    ) -> int:
        """As add_pack, of a pack in memory whose frames were made and decoded in this process."""
        put = partial(self.backend.put, pack_key(name), data)
        return self._add_pack(name, len(data), entries, sketches, put)

    def commit(
        self,
        repo: str,
        branch: str,
        manifest: Manifest,
        *,
        base: str | None = None,
        message: str | None = None,
        bounded: bool = False,
        known_to: Scope = EVERYTHING,
        oid: str | None = None,
    ) -> Commit:
        """See Vault.commit. With `bounded` raises TooExpensive as expansion.py has it. Files that
        repos of `known_to` have are not put together again to be hashed. `oid` is the id of a
        commit of elsewhere that this is a copy of, and that the repo does not have."""
        check_repo(repo)
        check_branch(branch)
        if base is not None:
            check_repo(base)
        check_new_paths(file.path for file in manifest.files)
        data = pack_manifest(manifest)
        name = manifest_name(data)
        head = self.catalogue.find_commit(repo, branch)
        # A push that finds its manifest gone or quarantined puts it back.
        same = head is not None and head.manifest == name and oid in (None, head.oid)
        if head and same and self.backend.exists(manifest_key(name)):
            self._complete(head, manifest)
            return make_commit(head)
        self._check_chunks(manifest)
        try:
            hashes = self._check_files(manifest, known_to, bounded=bounded)
        except Corrupt:
            # A collection may have come in between, which says what to do better.
            self._check_chunks(manifest)
            raise
        pin_chunks(self.backend, self.catalogue, [name], manifest.digests().keys())
        told = split_message(message)
        row = commit_row(repo, branch, name, head.oid if head else None, base, *told, oid=oid)
        self.record_commit(row, manifest, data, hashes)
        return make_commit(row)

    def commit_staged(
        self,
        repo: str,
        branch: str,
        manifest: Manifest,
        parent: str | None,
        hashes: Collection[HashRow],
        *told: str | None,
        oid: str | None = None,
    ) -> Commit:
        """Makes `manifest` the newest commit of `branch`, if that is at the commit `parent` still.

        All its files were staged or committed before (dedup/transfer/uploads.py), which is what
        their `hashes` come from; `told` are title, message and author, `oid` the id of a commit of
        elsewhere that this is a copy of. Raises Conflict, ChunksMissing.
        """
        check_repo(repo)
        check_branch(branch)
        data = pack_manifest(manifest)
        name = manifest_name(data)
        self._check_chunks(manifest)
        pin_chunks(self.backend, self.catalogue, [name], manifest.digests().keys())
        row = commit_row(repo, branch, name, parent, None, *told, oid=oid)
        self.record_commit(row, manifest, data, hashes, exact=True)
        # Whoever makes one commit makes the next on top of it.
        self.note_manifest(name, manifest)
        return make_commit(row)

    def delete_repo(self, repo: str, confirm: Callable[[], object] = lambda: None) -> None:
        """See Vault.delete_repo. `confirm` may raise to stop it; nobody commits to the repo between
        that and its end."""
        self.require_repo(repo)

        write_marker(self.backend, self.catalogue)
        entry = new_entry(self.backend, lambda at: Entry(repo, at))
        self.catalogue.delete_repo(repo, entry, confirm)

    # Looking

    def list_repos(self) -> list[RepoSummary]:
        """See Vault.list_repos."""
        return self.list_repos_of(Wanted())

    def check_health(self) -> None:
        """Asks the object store and the catalogue for something small; raises if one fails."""
        read_marker(self.backend)
        self.catalogue.last_entry()

    # Settings

    def base_copies(self) -> int:
        """Returns from how many deltas on a base are kept twice; 0: none is."""
        return int(get_setting(self.catalogue, _BASE_COPIES) or 0)

    def keep_base_copies(self, least_deltas: int) -> None:
        """Sets what base_copies returns; collections make the copies, and give them up."""
        set_setting(self.catalogue, _BASE_COPIES, str(least_deltas))

    def base_sharing(self) -> str | None:
        """Returns what an operator decided about bases of other namespaces, one of
        store.catalogue.owners.CHOICES; None where that goes by the tokens."""
        return get_setting(self.catalogue, BASE_SHARING)

    def share_bases(self, choice: str | None) -> None:
        """Sets what base_sharing returns. What is stored already is checked in the background."""
        with self.catalogue.writing() as connection:
            hold_store(connection, exclusive=True)
            choose_sharing(connection, choice)

    # Inside

    def _add_pack(
        self,
        name: str,
        size: int,
        entries: Sequence[PackEntry],
        sketches: Sketches,
        put_pack: Callable[[], None],
    ) -> int:
        from ..model.sketch_file import pack_sketches
        from ..similarity.candidates import sketch_row

        def put() -> None:
            # The sketches first: without them, a rebuilt catalogue would not find these chunks.
            self.backend.put(sketches_key(name), pack_sketches(entries, sketches))
            put_pack()

        def ensure() -> None:
            # Until it is on record nothing knows the pack: a collection without grace may have
            # taken it.
            if not self.backend.exists(pack_key(name)):
                put()

        write_marker(self.backend, self.catalogue)
        reclaim_pack(self.backend, self.catalogue, name)
        put()
        rows = [sketch_row(digest, sketch) for digest, sketch in sketches.items()]
        return self.catalogue.add_pack(name, size, entries, rows, ensure)

    def record_commit(
        self,
        row: CommitRow,
        manifest: Manifest,
        data: bytes,
        hashes: Collection[HashRow] = (),
        *,
        exact: bool = False,
    ) -> None:
        """Makes a commit the newest of its branch.

        `data` is the manifest's bytes, `hashes` those of its new files. With `exact` raises
        Conflict unless the branch is at the commit's parent. Raises ChunksMissing when something it
        needs is gone.
        """
        write_marker(self.backend, self.catalogue)

        entry = new_entry(
            self.backend,
            lambda at: Entry(row.repo, at, row, tuple(hashes)),
            before=lambda: self.backend.put(manifest_key(row.manifest), data),
        )
        files, uses = list(map(file_row, manifest.files)), chunk_uses(manifest)
        try:
            self.catalogue.add_commit(row, files, uses, entry, hashes=hashes, exact=exact)
        except NotFound as error:
            raise ChunksMissing(f"{row.repo}: {error}; it was collected", "push again") from error

    def note_heads(self) -> None:
        """Says in the store how far the journal goes, for commands and servers when they have done
        something. Never fails: what they did is done, and whoever is next says it."""
        with suppress(VaultError):
            write_heads(self.backend, self.catalogue, wait=False)

    def record(self, entry: Change) -> None:
        """Writes a journal entry, of now, and does what it says."""
        write_marker(self.backend, self.catalogue)
        key = new_entry(self.backend, lambda at: replace(entry, created=at))
        apply_change(self.catalogue, key, entry)
        if isinstance(entry, TokenChange):
            # Who takes the newest entries away must not open the store, nor bring a token back.
            close_store(self.backend, self.catalogue)
            write_heads(self.backend, self.catalogue)

    def _complete(self, row: CommitRow, manifest: Manifest) -> None:
        """Records all that a present commit needs, if some of it was lost once."""
        try:
            complete_commit(
                self.catalogue, row, list(map(file_row, manifest.files)), chunk_uses(manifest)
            )
        except NotFound as error:
            raise ChunksMissing(f"{row.repo}: {error}", "push again") from error

    def _check_chunks(self, manifest: Manifest) -> None:
        wanted = manifest.digests()
        known = self.catalogue.known(list(wanted))
        absent = [d for d in wanted if d not in known]
        if absent:
            raise ChunksMissing(
                f"{len(absent)} of {len(wanted)} chunks were never uploaded", "push again"
            )
        with self.catalogue.reading() as connection:
            stranded = stranded_among(connection, wanted.keys())
        if stranded:
            raise ChunksMissing(
                f"what {len(stranded)} of {len(wanted)} chunks were coded against was collected",
                "push again",
            )
        wrong = [d for d, size in wanted.items() if known[d] != size]
        if wrong:
            raise InvalidManifest(f"chunk {wrong[0].hex()} has another size than stated")

    def _check_files(self, manifest: Manifest, known_to: Scope, *, bounded: bool) -> list[HashRow]:
        """Rebuilds and hashes each file once that no repo of `known_to` has: nobody's word is
        taken for it. Returns what else they hash to, but of shares of bundles: whoever wants to
        know hashes them then, as more is told here than they take."""
        by_recipe: dict[bytes, FileEntry] = {}
        for entry in manifest.files:
            check_cancelled()
            same = by_recipe.setdefault(entry.recipe(), entry)
            if same.digest != entry.digest:
                raise InvalidManifest(f"{same.path!r} and {entry.path!r} cannot differ")
        # To look them up takes longer than to hash them.
        shares = [(e, s) for e in by_recipe.values() if (s := share_of(e.segments))]
        pairs = {(e.digest, r): e for r, e in by_recipe.items() if not share_of(e.segments)}
        known = known_files(self.catalogue, pairs.keys(), known_to)
        new = [entry for pair, entry in pairs.items() if pair not in known]
        if bounded:
            check_files(
                [*new, *(e for e, _ in shares)], manifest.chunk_bytes, self.catalogue.locate
            )
        self._check_shares(shares)
        return list(self._hash_files(new, manifest.chunk_bytes))

    def _check_shares(self, entries: Iterable[tuple[FileEntry, Share]]) -> None:
        """Raises InvalidManifest unless files that are shares of bundles are what they say."""
        from ..reading.chunk_reader import ChunkReader

        held: defaultdict[ChunkUse, list[tuple[FileEntry, Share]]] = defaultdict(list)
        for entry, share in entries:
            held[ChunkUse(share.chunks[0], 0, share.whole, "U8")].append((entry, share))
        for raw, files in zip(ChunkReader(self._fetch_any).read(held), held.values(), strict=True):
            data = memoryview(raw)
            for entry, share in files:
                part = data[share.start : share.start + share.size]
                if blake3(part).digest() != entry.digest:
                    raise InvalidManifest(f"{entry.path!r} is not that share of its chunk")

    def _hash_files(self, entries: Sequence[FileEntry], chunk_bytes: int) -> Iterator[HashRow]:
        """Yields the hashes of files."""
        from .file_hashes import hash_file

        for entry, pieces in self.read_files(entries, chunk_bytes):
            hashes = hash_file(pieces, entry.size)
            if hashes.digest != entry.digest:
                raise InvalidManifest(f"the segments of {entry.path!r} do not make up that file")
            yield hashes
