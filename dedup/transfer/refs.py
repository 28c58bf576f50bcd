"""Repos as git has them: commits made of changes, on the branches of
dedup/repository/refs.py.

What a client sends is a list of changes to a branch; what is stored is the manifest that comes of
it. Commits are immutable and keep their parents; branches and tags name them. A native push makes
commits of the same kind (LocalVault.commit).
"""

from __future__ import annotations

import posixpath
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

from ...store.cancel import check_cancelled
from ...store.catalogue.refs import commits_of
from ..errors import Conflict, EntryNotFound, RevisionNotFound, TooExpensive
from ..formats.companions import find_companions, may_name_companions
from ..model.files.entries import FileEntry
from ..model.files.expansion import FREE_BYTES, check_files
from ..model.files.manifest import Manifest, check_paths, manifest_name, pack_manifest
from ..model.files.segments import CHUNK_BYTES, Literal, Opaque, Share, cut_bytes, share_of
from ..model.files.shares import find_remainders
from ..model.files.tree import FileTree
from ..model.names import check_path, check_repo
from ..model.paths import check_new_path
from ..reading.scratch import scratch_folder
from ..repository.reader import make_commit
from ..repository.refs import DEFAULT_BRANCH, Refs
from ..repository.repository import Repository
from ..vault import Commit
from .uploads import IncomingFiles, StagedFile

# A client that got no answer asks again; later, the same request means something new.
_REPEAT_SECONDS = 600.0
# Commits to one branch at the same moment: each tries again on top of the one that was first.
_ATTEMPTS = 10


@dataclass(frozen=True, slots=True)
class AddFile:
    """A file is written, or written over."""

    path: str
    file: StagedFile


@dataclass(frozen=True, slots=True)
class DeleteFile:
    """A file goes, or all of the folder that is called so."""

    path: str


@dataclass(frozen=True, slots=True)
class DeleteFolder:
    """A folder goes, with all below it."""

    path: str


Change = AddFile | DeleteFile | DeleteFolder


@dataclass(frozen=True, slots=True)
class Message:
    """What a commit says of itself."""

    title: str
    text: str | None = None
    author: str | None = None


class StaleParent(Conflict):
    """The commit that a client built on is not the newest of the branch."""

    code = "stale_parent"


# An ONNX model whose tensors lie elsewhere is small, and a repo has dozens of variants of one; a
# commit waits while they are read and a companion is cut.
_MAX_INDEX_BYTES = 64 << 20
_MOST_INDEXES = 256
_MAX_COMPANION_BYTES = 2 << 30
# Companions that are cut together, so that many short ones go into one pack.
_BATCH_BYTES = 256 << 20

# Files that were stored again for one commit.
_Cuts = dict[tuple[bytes, int], FileEntry]


@dataclass(slots=True)
class _Room:
    """What of a repo one commit may read again: files that it changed, and `left` bytes of others,
    however many there are."""

    changed: set[str]
    left: int

    def takes(self, entry: FileEntry) -> bool:
        """Whether a file may be read, which then counts."""
        if entry.path in self.changed:
            return True
        if entry.size > self.left:
            return False
        self.left -= entry.size
        return True


def _batches(entries: Iterable[FileEntry]) -> Iterator[list[FileEntry]]:
    """Yields files in batches of up to _BATCH_BYTES, or of one."""
    batch: list[FileEntry] = []
    left = _BATCH_BYTES
    for entry in entries:
        if batch and entry.size > left:
            yield batch
            batch, left = [], _BATCH_BYTES
        batch.append(entry)
        left -= entry.size
    if batch:
        yield batch


class History(Refs):
    """The repos of a vault, as clients of hubs see them. Methods raise VaultError kinds."""

    def __init__(self, vault: Repository, incoming: IncomingFiles) -> None:
        super().__init__(vault)
        self._incoming = incoming

    def create_repo(
        self, repo: str, message: Message, files: Sequence[AddFile] = (), *, public: bool = False
    ) -> Commit:
        """Makes a repo with a branch that has `files`. Raises Conflict if it is there."""
        if self.is_public(check_repo(repo)) is not None:
            raise Conflict(f"there is a repo {repo} already")
        manifest = self._apply(Manifest(()), files, {}, repo) if files else Manifest(())
        known = {change.file.hashes for change in files}
        made = self._commit(repo, DEFAULT_BRANCH, manifest, None, known, message)
        if public:
            self.set_public(repo, public)
        return made

    def commit(
        self,
        repo: str,
        branch: str,
        changes: Sequence[Change],
        message: Message,
        *,
        parent: str | None = None,
    ) -> Commit:
        """Makes a commit of `changes` to what `branch` has now.

        With `parent` that must be the branch's newest commit, or StaleParent is raised. Raises
        EntryNotFound for what is deleted and not there, ChunksMissing when something was collected.
        Changes that change nothing, and those that the newest commit has just made because the same
        client asked before, return that commit.
        """
        cuts: _Cuts = {}
        for _ in range(_ATTEMPTS):
            check_cancelled()
            head = self._head(repo, branch)
            if self._was_made(head, changes, message, parent, cuts):
                return head
            if parent not in (None, head.id):
                raise StaleParent(
                    f"{branch} of {repo} is at {head.id}, not at {parent}",
                    "look at what changed, then commit on top of it",
                )
            before = self._vault.load_manifest(head.manifest)
            after = self._apply(before, changes, cuts, repo)
            if after == before:
                return head
            try:
                hashes = {c.file.hashes for c in changes if isinstance(c, AddFile)}
                return self._commit(repo, branch, after, head.id, hashes, message)
            except Conflict:
                continue
        raise Conflict(f"{branch} of {repo} is changed by many others at once", "try again")

    def copy_commit(
        self, repo: str, branch: str, oid: str, files: Mapping[str, StagedFile], message: Message
    ) -> Commit:
        """Makes the newest commit of a branch a copy of one of elsewhere: of its id, and of exactly
        its files. The repo and the branch need not be there. A commit of that id which is there
        becomes the newest. Raises Conflict, ChunksMissing."""
        check_repo(repo)
        if oid in commits_of(self._vault.catalogue, repo):
            self.point(repo, "branch", branch, oid)
            return self._vault.resolve(repo, oid).commit
        changes = [AddFile(path, file) for path, file in files.items()]
        manifest = self._apply(Manifest(()), changes, {}, repo)
        parent = self.branches(repo).get(branch)
        known = sorted({file.hashes for file in files.values()}, key=lambda row: row.digest)
        told = (message.title, message.text, message.author)
        return self._vault.commit_staged(repo, branch, manifest, parent, known, *told, oid=oid)

    def _head(self, repo: str, branch: str) -> Commit:
        row = self._vault.catalogue.branches(repo).get(branch)
        if row is None:
            # Says whether it is the repo or the branch that is not there.
            self._vault.resolve(repo, branch)
            raise RevisionNotFound(f"{branch!r} is no branch of {repo}", "commit to a branch")
        return make_commit(row)

    def _was_made(
        self,
        head: Commit,
        changes: Sequence[Change],
        message: Message,
        parent: str | None,
        cuts: _Cuts,
    ) -> bool:
        """Says whether the branch's newest commit is what a client that got no answer asks again.

        Deletions alone are taken at their word: what is not there cannot be deleted.
        """
        told = (head.title, head.message, head.author)
        if (
            told != (message.title, message.text, message.author)
            or head.parent is None
            or parent not in (None, head.parent)
            or head.created < time.time() - _REPEAT_SECONDS
            or not any(isinstance(change, AddFile) for change in changes)
        ):
            return False
        before = self._vault.load_manifest(
            self._vault.resolve(head.repo, head.parent).commit.manifest
        )
        try:
            after = self._apply(before, changes, cuts, head.repo)
        except EntryNotFound:
            return False
        return manifest_name(pack_manifest(after)) == head.manifest

    def _commit(
        self,
        repo: str,
        branch: str,
        manifest: Manifest,
        parent: str | None,
        hashes: Iterable,
        message: Message,
    ) -> Commit:
        told = (message.title, message.text, message.author)
        known = sorted(hashes, key=lambda row: row.digest)
        return self._vault.commit_staged(repo, branch, manifest, parent, known, *told)

    def _apply(
        self, before: Manifest, changes: Sequence[Change], cuts: _Cuts, repo: str
    ) -> Manifest:
        files = FileTree()
        # What the chunks of each are cut at.
        lengths = {entry.path: before.chunk_bytes for entry in before.files}
        for entry in before.files:
            files.add(entry.path, entry)
        for change in changes:
            path = check_path(change.path.rstrip("/"))
            if isinstance(change, AddFile):
                check_new_path(path)
                files.add(path, replace(change.file.entry, path=path))
                lengths[path] = change.file.chunk_bytes
            elif not files.remove(path, folder=isinstance(change, DeleteFolder)):
                kind = "folder" if isinstance(change, DeleteFolder) else "file"
                raise EntryNotFound(f"A {kind} with this name doesn't exist: {path}")
        found = sorted(files.items())
        check_paths(path for path, _ in found)
        # Last, as these may write a file again.
        listed = [self._cut(entry, lengths[path], cuts, repo) for path, entry in found]
        listed = list(self._cut_bundles(listed, cuts, repo))
        changed = {change.path for change in changes if isinstance(change, AddFile)}
        return Manifest(tuple(self._cut_companions(listed, changed, cuts, repo)), CHUNK_BYTES)

    def _cut_bundles(
        self, entries: Sequence[FileEntry], cuts: _Cuts, repo: str
    ) -> Iterator[FileEntry]:
        """Yields files, those that share a chunk with files that are gone as shares of one without
        these: nothing that was deleted lives on beside them."""
        moved: dict[Share, Share] = {}
        left = FREE_BYTES
        for shares in find_remainders(entries).values():
            left -= shares[0].whole
            if left < 0:
                # The next commit, or push, goes on.
                break
            moved |= self._move_shares(shares, cuts, repo)
        for entry in entries:
            share = share_of(entry.segments)
            new = moved.get(share) if share else None
            yield entry if new is None else replace(entry, segments=(new,))

    def _move_shares(self, shares: Sequence[Share], cuts: _Cuts, repo: str) -> dict[Share, Share]:
        """Stores the shares of a chunk as one of their own; returns what each becomes."""
        (digest,), whole = shares[0].chunks, shares[0].whole
        key = (digest + b"%d " * len(shares) % tuple(s.start for s in shares), whole)
        if key not in cuts:
            bundle = FileEntry("bundle", whole, digest, (Opaque(whole, (digest,)),))
            raw = b"".join(self._vault.read_entry(bundle, CHUNK_BYTES, 0, whole))
            with scratch_folder("bundle-", self._vault.scratch) as folder:
                path = folder / "bundle"
                path.write_bytes(b"".join(raw[s.start : s.start + s.size] for s in shares))
                (staged,) = self._incoming.stage({"bundle": path}, repo)
            cuts[key] = staged.entry
        entry = cuts[key]
        if [type(segment) for segment in entry.segments] != [Opaque]:
            # Cut as something that it looks like.
            return {}
        starts = accumulate((s.size for s in shares), initial=0)
        chunks = (entry.digest,)
        return {
            s: Share(s.size, at, entry.size, chunks) for s, at in zip(shares, starts, strict=False)
        }

    def _cut_companions(
        self, entries: Sequence[FileEntry], changed: set[str], cuts: _Cuts, repo: str
    ) -> Iterator[FileEntry]:
        """Yields files, those in which a neighbour says that tensors lie cut by what it says: they
        may have come before it, or apart from it."""
        folders = {posixpath.dirname(path) for path in changed}
        indexes = [
            entry
            for entry in entries
            if may_name_companions(entry.path)
            and entry.size <= _MAX_INDEX_BYTES
            and (entry.path in changed or posixpath.dirname(entry.path) in folders)
        ]
        room = _Room(changed, FREE_BYTES)
        indexes = [entry for entry in indexes if room.takes(entry)][:_MOST_INDEXES]
        placed = self._stage_companions(indexes, entries, room, cuts, repo) if indexes else {}
        for entry in entries:
            found = placed.get(entry.path)
            yield entry if found is None else replace(found, path=entry.path)

    def _stage_companions(
        self,
        indexes: Sequence[FileEntry],
        entries: Sequence[FileEntry],
        room: _Room,
        cuts: _Cuts,
        repo: str,
    ) -> dict[str, FileEntry]:
        # What has tensors of its own, or was cut so before, stays as it is.
        opaque = {
            entry.path: entry
            for entry in entries
            if entry.size <= _MAX_COMPANION_BYTES and next(entry.tensors, None) is None
        }
        with scratch_folder("companions-", self._vault.scratch) as folder:
            files = {
                entry.path: self._write_out(entry, folder / f"index-{number}")
                for number, entry in enumerate(indexes)
            }
            nowhere = {path: folder / "none" for path in opaque if path not in files}
            placed = find_companions({**nowhere, **files})
            wanted = [path for path in placed if path in nowhere and room.takes(opaque[path])]
            try:
                found = [opaque[path] for path in wanted]
                check_files(found, CHUNK_BYTES, self._vault.catalogue.locate)
            except TooExpensive:
                # Kept as they are: files that repeat themselves cost nothing to send.
                return {}
            known = b"".join(sorted(entry.digest for entry in indexes))
            keys = {path: (opaque[path].digest + known, CHUNK_BYTES) for path in wanted}
            uncut = {keys[path]: opaque[path] for path in wanted if keys[path] not in cuts}
            for batch in _batches(uncut.values()):
                data = {
                    entry.path: self._write_out(entry, folder / f"data-{number}")
                    for number, entry in enumerate(batch)
                }
                # What the indexes say is known: to read them again for each file is not to end.
                for staged in self._incoming.stage(data, repo, places=placed):
                    cuts[keys[staged.entry.path]] = staged.entry
                for path in data.values():
                    path.unlink()
            return {path: cuts[keys[path]] for path in wanted}

    def _write_out(self, entry: FileEntry, path: Path) -> Path:
        with path.open("wb") as file:
            file.writelines(self._vault.read_entry(entry, CHUNK_BYTES, 0, entry.size))
        return path

    def _cut(self, entry: FileEntry, chunk_bytes: int, cuts: _Cuts, repo: str) -> FileEntry:
        """Returns a file cut at CHUNK_BYTES: stored again if it was pushed with other chunks,
        unless `cuts` has it."""
        runs = (s for s in entry.segments if not isinstance(s, Literal))
        if chunk_bytes == CHUNK_BYTES or all(s.size <= cut_bytes(s, chunk_bytes) for s in runs):
            return entry
        key = (entry.digest, chunk_bytes)
        if key not in cuts:
            with scratch_folder("cut-", self._vault.scratch) as folder:
                path = folder / "file"
                with path.open("wb") as file:
                    file.writelines(self._vault.read_entry(entry, chunk_bytes, 0, entry.size))
                (staged,) = self._incoming.stage({entry.path: path}, repo)
            cuts[key] = staged.entry
        return replace(cuts[key], path=entry.path)
