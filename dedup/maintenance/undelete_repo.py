"""Brings a deleted repo back, as long as no collection took what it needs."""

from __future__ import annotations

import time
from dataclasses import dataclass

from ...store.catalogue.tables.rows import CommitRow
from ...store.errors import NotFound
from ..errors import ChunksMissing, Conflict, RepoNotFound
from ..model.files.manifest import Manifest, pack_manifest
from ..model.journal_entries import Entry
from ..model.names import check_repo
from ..repository.journal.replay import list_entries, load_manifest
from ..repository.pins import pin_chunks
from ..repository.refs_state import Replay, RepoState, changes_of
from ..repository.repository import Repository

_ENDED = "{} have been collected: its grace has ended"
_HINT = "push the files again"


@dataclass(frozen=True, slots=True)
class Undeleted:
    """The repo that is back, when it had been deleted (Unix seconds), and its commits."""

    repo: str
    deleted: float
    commits: int


def undelete(vault: Repository, repo: str) -> Undeleted:
    """Makes a repo again what it was when it was last deleted: the same commits with the same ids,
    the same branches and tags.

    The journal still tells them. Raises RepoNotFound for a repo that was never deleted, Conflict
    where one of that name was pushed since, ChunksMissing when the grace has ended. Stopped half
    way, it goes on when run again.
    """
    check_repo(repo)
    journal = Replay()
    for _, entry in list_entries(vault.backend):
        journal.take(entry)
    deleted, state = _last_state(journal, repo)
    present = journal.repos.get(repo, RepoState())
    if present.commits.keys() - state.commits.keys():
        raise Conflict(f"{repo} was pushed again since it was deleted", "rename or delete that")
    lost = [row for oid, row in state.commits.items() if oid not in present.commits]
    for row, manifest in [(row, _load(vault, row)) for row in lost]:
        vault.record_commit(row, manifest, pack_manifest(manifest))
        journal.take(Entry(repo, row.created, row))
    # Branches that were moved or taken away, tags, and who may see it.
    present = journal.repos.get(repo, RepoState())
    for change in changes_of(repo, present, state, time.time()):
        vault.record(change)
    return Undeleted(repo, deleted, len(state.commits))


def _last_state(journal: Replay, repo: str) -> tuple[float, RepoState]:
    """Returns when a repo was last deleted and what it was then."""
    found = journal.deleted.get(repo)
    if found is None:
        raise RepoNotFound(
            f"no deletion of a repo {repo} is on record", "`weightvault ls` lists repos"
        )
    return found


def _load(vault: Repository, row: CommitRow) -> Manifest:
    """Returns a commit's manifest if all it needs is there, which is safe from then on."""
    pin_chunks(vault.backend, vault.catalogue, [row.manifest], ())
    try:
        manifest = load_manifest(vault.backend, row.manifest)
    except NotFound:
        raise ChunksMissing(f"manifests of {_ENDED.format(row.repo)}", _HINT) from None
    digests = manifest.digests().keys()
    pin_chunks(vault.backend, vault.catalogue, [row.manifest], digests)
    gone = vault.find_missing(digests)
    if gone:
        raise ChunksMissing(f"{len(gone)} chunks of {_ENDED.format(row.repo)}", _HINT)
    return manifest
