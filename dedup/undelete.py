"""Brings a deleted repo back, as long as no collection took what it needs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..store.errors import NotFound
from ..store.rows import CommitRow
from .errors import ChunksMissing, Conflict, RepoNotFound
from .journal import Entry, list_entries, load_manifest
from .manifest import Manifest, pack_manifest
from .names import check_repo
from .securing import secure
from .translate import store_errors

if TYPE_CHECKING:
    from .local import LocalVault


_ENDED = "{} have been collected: its grace has ended"
_HINT = "push the files again"


@dataclass(frozen=True, slots=True)
class Undeleted:
    """The repo that is back, when it had been deleted (Unix seconds), and its commits."""

    repo: str
    deleted: float
    commits: int


def undelete(vault: LocalVault, repo: str) -> Undeleted:
    """Makes a repo again what it was when it was last deleted: the same commits, the same ids.

    The journal still tells them. Raises RepoNotFound for a repo that was never deleted, Conflict
    where one of that name was pushed since, ChunksMissing when the grace has ended. Stopped half
    way, it goes on when run again.
    """
    check_repo(repo)
    with store_errors():
        deleted, rows = _last_state(vault, repo)
        present = {row.oid for row in vault.catalogue.all_commits() if row.repo == repo}
        if present - {row.oid for row in rows}:
            raise Conflict(f"{repo} was pushed again since it was deleted", "rename or delete that")
        lost = [(row, _load(vault, row)) for row in rows if row.oid not in present]
        for row, manifest in lost:
            vault.record_commit(row, manifest, pack_manifest(manifest), time.time())
    return Undeleted(repo, deleted, len(rows))


def _last_state(vault: LocalVault, repo: str) -> tuple[float, list[CommitRow]]:
    """Returns when a repo was last deleted and the commits it had then, oldest first."""
    rows: list[CommitRow] = []
    lost: list[CommitRow] = []
    deleted: float | None = None
    for _, entry in list_entries(vault.backend):
        if not isinstance(entry, Entry) or entry.repo != repo:
            continue
        if entry.commit is not None:
            rows.append(entry.commit)
        elif rows:
            deleted, lost, rows = entry.created, rows, []
    if deleted is None:
        raise RepoNotFound(
            f"no deletion of a repo {repo} is on record", "`weightvault ls` lists repos"
        )
    return deleted, lost


def _load(vault: LocalVault, row: CommitRow) -> Manifest:
    """Returns a commit's manifest if all it needs is there, which is safe from then on."""
    secure(vault.backend, vault.catalogue, row.manifest, ())
    try:
        manifest = load_manifest(vault.backend, row.manifest)
    except NotFound:
        raise ChunksMissing(f"manifests of {_ENDED.format(row.repo)}", _HINT) from None
    digests = manifest.digests().keys()
    secure(vault.backend, vault.catalogue, row.manifest, digests)
    gone = vault.find_missing(digests)
    if gone:
        raise ChunksMissing(f"{len(gone)} chunks of {_ENDED.format(row.repo)}", _HINT)
    return manifest
