"""What is done with a whole revision: a choice of its files, copies, whether a folder has it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from blake3 import blake3

from ...dedup.errors import Conflict, Missing
from ...dedup.model.files.entries import FileEntry
from ...dedup.model.files.manifest import Manifest
from ...dedup.vault import Commit, Snapshot, Vault

_READ_BYTES = 8 << 20


def make_filter(
    include: Sequence[str] | None, exclude: Sequence[str] | None
) -> Callable[[str], bool] | None:
    """Returns what says whether a path is wanted: it matches one of `include`, if given, and none
    of `exclude`. A `*` stands for slashes, too, and `folder/` for all that is in the folder. None
    where everything is wanted."""
    if include is None and not exclude:
        return None

    def matches(path: str, patterns: Sequence[str]) -> bool:
        return any(fnmatchcase(path, p + "*" if p.endswith("/") else p) for p in patterns)

    def wants(path: str) -> bool:
        return (include is None or matches(path, include)) and not matches(path, exclude or ())

    return wants


def choose_files(
    files: Sequence[str], include: Sequence[str], exclude: Sequence[str]
) -> Callable[[str], bool] | None:
    """As make_filter, with `files` wanted by their paths, too."""
    wants, named = make_filter(include or None, exclude), frozenset(files)
    if not named:
        return wants
    return lambda path: path in named or (bool(include) and wants is not None and wants(path))


def copy_revision(
    vault: Vault, snapshot: Snapshot, repo: str, branch: str, message: str | None = None
) -> Commit:
    """Commits the files of a revision to another repo or branch: no weights are moved. Raises
    Conflict if the branch is there with other files."""
    source = snapshot.commit
    try:
        present = vault.resolve(repo, branch)
    except Missing:
        told = message or f"Copy of {source.repo} at {source.id}"
        return vault.commit(repo, branch, snapshot.manifest, base=source.base, message=told)
    if present.commit.manifest != source.manifest:
        raise Conflict(f"{repo} has a branch {branch} already", "choose another name")
    return present.commit


def verify_folder(manifest: Manifest, folder: Path) -> list[str]:
    """Returns the paths of files that a folder lacks of a revision, or has with other bytes."""
    return [entry.path for entry in manifest.files if not _is_same(folder / entry.path, entry)]


def _is_same(path: Path, entry: FileEntry) -> bool:
    hasher = blake3(max_threads=blake3.AUTO)
    try:
        if path.stat().st_size != entry.size:
            return False
        with path.open("rb") as file:
            while data := file.read(_READ_BYTES):
                hasher.update(data)
    except OSError:
        return False
    return hasher.digest() == entry.digest
