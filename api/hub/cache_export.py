"""Writes a revision as clients of hubs keep it: a cache from which they read without a server.

    models--org--name/blobs/<etag>, refs/<branch>, snapshots/<commit>/<path> -> ../../blobs/<etag>

Source: "Understand caching", the documentation of huggingface_hub.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from ...dedup.model.names import is_commit_id
from ...dedup.progress import Progress
from ...dedup.transfer.arrived_files import hash_file
from ...dedup.transfer.pull import pull
from ...dedup.vault import Vault
from ...store.repo_names import RepoName
from ..errors import from_os_error
from .attributes import ATTRIBUTES, LfsRules, is_lfs, parse_rules


@dataclass(frozen=True, slots=True)
class Exported:
    """A revision that was written: where, its commit, its files and their bytes, and how many files
    were there before."""

    folder: str
    commit: str
    files: int
    logical: int
    present: int


def export_to_cache(
    vault: Vault, repo: str, revision: str, cache: Path, progress: Progress | None = None
) -> Exported:
    """Writes a revision of a repo into a cache folder. A file appears there once it is whole; run
    again, it goes on with those that lack. Raises VaultError kinds."""
    snapshot = vault.resolve(repo, revision)
    commit, manifest = snapshot.commit.id, snapshot.manifest
    name = RepoName.of(repo)
    folder = cache / "--".join((name.kind, name.namespace, name.name))
    target = folder / "snapshots" / commit
    lacking = {e.path for e in manifest.files if not _is_there(target / e.path, e.size)}
    with _os_errors(folder):
        target.mkdir(parents=True, exist_ok=True)
        (folder / "blobs").mkdir(exist_ok=True)
        if lacking:
            # Beside the blobs, so that a file can be moved there.
            with TemporaryDirectory(prefix=".export-", dir=folder) as fetched:
                pull(
                    vault,
                    repo,
                    Path(fetched),
                    commit,
                    wants=lacking.__contains__,
                    progress=progress,
                )
                places = Path(fetched, ATTRIBUTES), target / ATTRIBUTES
                said = b"".join(each.read_bytes() for each in places if each.is_file())
                for path in sorted(lacking):
                    _place(Path(fetched, path), folder / "blobs", target, path, parse_rules(said))
        if not is_commit_id(revision):
            _write_ref(folder / "refs" / revision, commit)
    present = len(manifest.files) - len(lacking)
    return Exported(str(folder), commit, len(manifest.files), manifest.size, present)


def _is_there(link: Path, size: int) -> bool:
    try:
        return link.is_symlink() and link.stat().st_size == size
    except OSError:
        return False


def _place(file: Path, blobs: Path, target: Path, path: str, rules: LfsRules) -> None:
    """Moves a file among the blobs under the name that a hub gives its content, and links to it."""
    sha256, git_sha1 = hash_file(file)
    etag = sha256 if is_lfs(path, file.stat().st_size, rules) else git_sha1
    blob, link = blobs / etag.hex(), target / path
    os.replace(file, blob)
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.is_symlink() or link.exists():
        link.unlink()
    os.symlink(os.path.relpath(blob, link.parent), link)


def _write_ref(path: Path, commit: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = path.with_name(f".{path.name}.tmp")
    whole.write_text(commit)
    os.replace(whole, path)


@contextmanager
def _os_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise from_os_error(error, f"cannot write {folder}") from error
