"""Gives a repo another name, or makes a second one of it: commits and their ids, refs."""

from __future__ import annotations

import time
from dataclasses import replace

from ...store.cancel import check_cancelled
from ...store.catalogue.files.moved_repos import note_move
from ..errors import Conflict, InvalidInput
from ..model.files.manifest import pack_manifest
from ..model.names import check_repo
from ..repository.refs_state import RepoState, changes_of, read_state
from ..repository.repository import Repository


class NameTaken(Conflict):
    """There is another repo of the new name."""


def rename_repo(vault: Repository, old: str, new: str) -> None:
    """Makes `new` what the repo `old` is and deletes that.

    Moves no weights: each commit is told once more. Files that were uploaded for `old` and not
    committed are to be uploaded again. This catalogue remembers the name. Raises RepoNotFound, and
    NameTaken where there is a repo `new` with commits of its own. Stopped half way, it goes on when
    run again; until it is done, `old` is there, whole.
    """
    if old == new:
        raise InvalidInput(f"{old} is called so already")
    wanted = _tell_again(vault, old, new)

    def confirm() -> None:
        if read_state(vault.catalogue, old) != wanted:
            raise Conflict(f"{old} was changed while it was moved", "try again")

    # Before that goes: names that it had before lead to the new one, too.
    note_move(vault.catalogue, old, new)
    vault.delete_repo(old, confirm)


def duplicate_repo(vault: Repository, old: str, new: str, *, public: bool = False) -> None:
    """Makes a repo `new` with the commits, branches and tags that the repo `old` has.

    Stores no weights again. Raises RepoNotFound, and NameTaken where there is a repo `new` with
    commits of its own.
    """
    _tell_again(vault, old, new, public=public)


def _tell_again(vault: Repository, old: str, new: str, *, public: bool | None = None) -> RepoState:
    """Makes `new` what `old` is, which it returns; `public` or not, where that is said."""
    check_repo(new)
    vault.require_repo(old)
    wanted = read_state(vault.catalogue, old)
    present = read_state(vault.catalogue, new)
    if present.commits.keys() - wanted.commits.keys():
        raise NameTaken(f"there is a repo {new} already", "choose another name or delete that")
    for oid, row in wanted.commits.items():
        if oid not in present.commits:
            check_cancelled()
            manifest = vault.load_manifest(row.manifest)
            data = pack_manifest(manifest)
            vault.record_commit(replace(row, repo=new), manifest, data)
    after = wanted if public is None else replace(wanted, public=public)
    for change in changes_of(new, read_state(vault.catalogue, new), after, time.time()):
        vault.record(change)
    return wanted
