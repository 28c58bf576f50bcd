"""Repos as git has them: commits made of changes, on the branches of
dedup/repository/refs.py.

What a client sends is a list of changes to a branch; what is stored is the manifest that comes of
it. Commits are immutable and keep their parents; branches and tags name them. A native push makes
commits of the same kind (LocalVault.commit).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ...store.cancel import check_cancelled
from ...store.catalogue.refs import commits_of
from ..errors import Conflict, EntryNotFound, RevisionNotFound
from ..model.files.manifest import Manifest, check_paths, manifest_name, pack_manifest
from ..model.files.segments import CHUNK_BYTES
from ..model.files.tree import FileTree
from ..model.names import check_path, check_repo
from ..model.paths import check_new_path
from ..repository.reader import make_commit
from ..repository.refs import DEFAULT_BRANCH, Refs
from ..repository.repository import Repository
from ..vault import Commit
from .recutting import Recutting
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
        manifest = (
            self._apply(Manifest(()), files, self._recutting(repo)) if files else Manifest(())
        )
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
        recutting = self._recutting(repo)
        for _ in range(_ATTEMPTS):
            check_cancelled()
            head = self._head(repo, branch)
            before = self._vault.load_manifest(head.manifest)
            if self._was_made(head, before, changes, message, parent, recutting):
                return head
            if parent not in (None, head.id):
                raise StaleParent(
                    f"{branch} of {repo} is at {head.id}, not at {parent}",
                    "look at what changed, then commit on top of it",
                )
            after = self._apply(before, changes, recutting)
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
        manifest = self._apply(Manifest(()), changes, self._recutting(repo))
        parent = self.branches(repo).get(branch)
        known = sorted({file.hashes for file in files.values()}, key=lambda row: row.digest)
        told = (message.title, message.text, message.author)
        return self._vault.commit_staged(repo, branch, manifest, parent, known, *told, oid=oid)

    def _recutting(self, repo: str) -> Recutting:
        return Recutting(self._vault, self._incoming, repo)

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
        now: Manifest,
        changes: Sequence[Change],
        message: Message,
        parent: str | None,
        recutting: Recutting,
    ) -> bool:
        """Says whether the branch's newest commit, which has what is `now`, is what a client that
        got no answer asks again.

        Deletions alone are taken at their word: what is not there cannot be deleted.
        """
        told = (head.title, head.message, head.author)
        sent = {c.path: c.file.entry.digest for c in changes if isinstance(c, AddFile)}
        if (
            told != (message.title, message.text, message.author)
            or head.parent is None
            or parent not in (None, head.parent)
            or head.created < time.time() - _REPEAT_SECONDS
            or not sent
            # To apply the changes once more takes as long as the commit.
            or sent.items() - {entry.path: entry.digest for entry in now.files}.items()
        ):
            return False
        before = self._vault.load_manifest(
            self._vault.resolve(head.repo, head.parent).commit.manifest
        )
        try:
            after = self._apply(before, changes, recutting)
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

    def _apply(self, before: Manifest, changes: Sequence[Change], recutting: Recutting) -> Manifest:
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
        changed = {change.path for change in changes if isinstance(change, AddFile)}
        # Last, as this may write files again.
        listed = recutting.cut([(entry, lengths[path]) for path, entry in found], changed)
        return Manifest(tuple(listed), CHUNK_BYTES)
