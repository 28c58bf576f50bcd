"""A repo of a vault as Python programs hold it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...dedup.errors import EntryNotFound
from ...dedup.vault import FileInfo, list_files
from .names import split_repo

if TYPE_CHECKING:
    from ...dedup.model.history import PushResult
    from ...dedup.transfer.pull import PullResult
    from ...dedup.vault import Commit, RepoInfo, Snapshot
    from .diff import Diff
    from .handle import Handle
    from .tensor_file import TensorFile


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A tensor of a revision: dtype as its file calls it, shape, bytes, and the file's path."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    size: int
    path: str


class Repo:
    """A repo of a vault, at a revision: `vault["org/tune"]` at `main`, `vault["org/tune@v1"]` at
    `v1`. Methods that take a `revision` go by it instead. It holds nothing, so it need not be
    closed."""

    def __init__(self, vault: Handle, name: str, revision: str = "main") -> None:
        self.vault = vault
        self.name = name
        self.revision = revision

    def __repr__(self) -> str:
        return f"Repo({self.name!r}, {self.revision!r})"

    # History

    def log(self, revision: str | None = None, *, limit: int | None = None) -> list[Commit]:
        """Returns a commit and those before it, newest first."""
        return self.vault.connect().list_commits(self.name, revision or self.revision, limit)

    def branches(self) -> dict[str, str]:
        """Returns the branches with the ids of their newest commits."""
        return self.vault.connect().list_refs(self.name).branches

    def tags(self) -> dict[str, str]:
        """Returns the tags with the ids of the commits that they name."""
        return self.vault.connect().list_refs(self.name).tags

    def tag(self, name: str, revision: str | None = None, *, message: str | None = None) -> None:
        """Lets a tag name a revision. Raises Conflict if it is there."""
        self.vault.connect().create_tag(self.name, name, revision or self.revision, message)

    def delete_tag(self, name: str) -> None:
        """Takes a tag away. Raises RevisionNotFound."""
        self.vault.connect().delete_tag(self.name, name)

    def branch(self, name: str, revision: str | None = None) -> None:
        """Makes a branch at a revision. Raises Conflict if it is there."""
        self.vault.connect().create_branch(self.name, name, revision or self.revision)

    def delete_branch(self, name: str) -> None:
        """Takes a branch away; its commits stay. Raises RevisionNotFound, Conflict."""
        self.vault.connect().delete_branch(self.name, name)

    def diff(self, before: str, after: str | None = None, *, values: bool = False) -> Diff:
        """Returns which files and tensors differ between two revisions, or between one and that of
        this repo. `values` reads the tensors that changed and says by how much."""
        from .diff import diff_snapshots

        old, new = self.snapshot(before), self.snapshot(after)
        return diff_snapshots(self.vault.connect, old, new, values=values)

    # Content

    def snapshot(self, revision: str | None = None) -> Snapshot:
        """Returns the commit that a revision names, with its manifest."""
        return self.vault.connect().resolve(self.name, revision or self.revision)

    def info(self) -> RepoInfo:
        """Returns branches, the files of the newest commit, and what the repo costs."""
        return self.vault.connect().describe_repo(self.name)

    def files(self, revision: str | None = None) -> list[FileInfo]:
        """Returns the files of a revision by path: size, number of tensors, BLAKE3."""
        return list(list_files(self.snapshot(revision).manifest))

    def tensors(self, revision: str | None = None) -> list[TensorInfo]:
        """Returns the tensors of a revision, file by file, in file order."""
        return [
            TensorInfo(t.name, t.dtype, t.shape, t.size, entry.path)
            for entry in self.snapshot(revision).manifest.files
            for t in entry.tensors
        ]

    def read(
        self, path: str, start: int = 0, stop: int | None = None, *, revision: str | None = None
    ) -> bytes:
        """Returns the bytes of a file, or those from `start` to before `stop`. Raises
        EntryNotFound."""
        from .tensor_source import TensorSource

        snapshot = self.snapshot(revision)
        entry = snapshot.manifest.file(path)
        if entry is None:
            raise EntryNotFound(f"{self.name} at {snapshot.commit.id} has no file {path!r}")
        first, last, _ = slice(start, stop).indices(entry.size)
        source = TensorSource(self.vault.connect, snapshot, [entry])
        return source.read_file(path, first, max(first, last)).tobytes()

    def safe_open(self, **options: Any) -> TensorFile:
        """Opens the tensors of the repo's revision; options as those of `Vault.safe_open`."""
        options.setdefault("revision", self.revision)
        return self.vault.safe_open(self.name, **options)

    # In and out

    def push(self, path: str | os.PathLike[str], **options: Any) -> PushResult:
        """Stores a file or folder as the newest commit; options as those of `Vault.push`."""
        options.setdefault("revision", self.revision)
        return self.vault.push(path, self.name, **options)

    def pull(self, dest: str | os.PathLike[str], **options: Any) -> PullResult:
        """Writes the files below a folder; options as those of `Vault.pull`."""
        options.setdefault("revision", self.revision)
        return self.vault.pull(self.name, dest, **options)

    def save(self, tensors: Mapping[str, Any], **options: Any) -> Commit:
        """Commits a state dict; options as those of `Vault.save`."""
        options.setdefault("revision", self.revision)
        return self.vault.save(self.name, tensors, **options)

    def verify(self, folder: str | os.PathLike[str], *, revision: str | None = None) -> list[str]:
        """Returns the paths of files that a folder lacks of a revision, or has with other bytes;
        files that the revision does not have do not count."""
        from .operations import verify_folder

        return verify_folder(self.snapshot(revision).manifest, Path(folder))

    # The repo itself

    def rename(self, new: str) -> Repo:
        """Gives the repo another name, with its commits, branches and tags. Raises Conflict where
        there is one of that name."""
        self.vault.connect().rename_repo(self.name, new)
        return Repo(self.vault, new, self.revision)

    def copy(self, target: str, *, message: str | None = None) -> Commit:
        """Commits the files of the revision to another repo or branch (`org/copy@main`): no weights
        are moved, and both share what is stored. Raises Conflict if the branch is there."""
        from .operations import copy_revision

        name, branch = split_repo(target)
        return copy_revision(self.vault.connect(), self.snapshot(), name, branch, message)

    def delete(self) -> None:
        """Deletes the repo with all its commits. Raises RepoNotFound."""
        self.vault.connect().delete_repo(self.name)
