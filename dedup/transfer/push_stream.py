"""The way in for one file that lies nowhere: its bytes are made as they are read."""

from __future__ import annotations

import time
from typing import BinaryIO, cast

from ..errors import ChunksMissing, Missing
from ..formats.scan import scan_stream
from ..model.files.manifest import Manifest
from ..model.files.segments import CHUNK_BYTES
from ..model.names import check_branch, check_repo
from ..model.paths import check_new_path
from ..model.sketch_file import Sketches
from ..progress import Progress
from ..similarity.base_selection import find_base
from ..vault import Commit, PushView
from .push import ask_missing, improve, send_missing
from .sources import Source


def push_stream(
    vault: PushView,
    path: str,
    source: Source,
    size: int,
    repo: str,
    branch: str,
    *,
    base: str | None = None,
    level: str = "default",
    message: str | None = None,
    progress: Progress | None = None,
) -> Commit:
    """Makes a commit on `branch` in which the file `path` has the `size` bytes of `source`, and all
    others stay as they are.

    As a push: only chunks that the vault lacks are sent, coded against `base` (a repo), the commit
    before, or what else is like them. `source` is opened twice, and must be the same both times:
    what was sent is rebuilt and hashed before the commit. Raises VaultError kinds.
    """
    started = time.monotonic()
    progress = progress or Progress()
    check_repo(repo)
    check_branch(branch)
    check_new_path(path)
    vault.check_commit(repo)
    view = vault.for_owner(repo)
    base_name, lineage = find_base(view, {}, repo, branch, base)
    before = _find_manifest(vault, repo, branch)
    sketches: Sketches = {}
    with source.open("rb") as file:
        stream = cast("BinaryIO", file)
        entry = scan_stream(path, stream, size, progress, before.chunk_bytes, sketches)
    others = [each for each in before.files if each.path != path]
    files = tuple(sorted([*others, entry], key=lambda each: each.path))
    manifest, own = Manifest(files, before.chunk_bytes), Manifest((entry,), before.chunk_bytes)

    def send() -> set[bytes]:
        missing = ask_missing(vault, own)
        send_missing(view, own, {path: source}, missing, sketches, lineage, level, progress)
        return missing

    new = send()
    try:
        commit = vault.commit(repo, branch, manifest, base=base_name, message=message)
    except ChunksMissing:
        # A collection took what was there when this began.
        send()
        commit = vault.commit(repo, branch, manifest, base=base_name, message=message)
    if new:
        improve(vault, commit, manifest, started, progress)
    return commit


def _find_manifest(vault: PushView, repo: str, branch: str) -> Manifest:
    """Returns what a branch has now: nothing, where it is not there yet."""
    try:
        return vault.resolve(repo, branch).manifest
    except Missing:
        return Manifest((), CHUNK_BYTES)
