"""Gives a repo another name, with its commits and their ids, branches, tags and visibility."""

from __future__ import annotations

import time
from dataclasses import replace

from ..errors import Conflict, InvalidInput
from ..model.files.manifest import pack_manifest
from ..model.names import check_repo
from ..repository.refs_state import changes_of, read_state
from ..repository.repository import Repository


def rename_repo(vault: Repository, old: str, new: str) -> None:
    """Makes `new` what the repo `old` is and deletes that.

    Moves no weights: each commit is told once more. Files that were uploaded for `old` and not
    committed are to be uploaded again. Raises RepoNotFound, and Conflict where there is a repo
    `new` with commits of its own. Stopped half way, it goes on when run again; until it is done,
    `old` is there, whole.
    """
    check_repo(new)
    vault.require_repo(old)
    if old == new:
        raise InvalidInput(f"{old} is called so already")
    wanted = read_state(vault.catalogue, old)
    present = read_state(vault.catalogue, new)
    if present.commits.keys() - wanted.commits.keys():
        raise Conflict(f"there is a repo {new} already", "choose another name or delete that")
    for oid, row in wanted.commits.items():
        if oid not in present.commits:
            manifest = vault.load_manifest(row.manifest)
            data = pack_manifest(manifest)
            vault.record_commit(replace(row, repo=new), manifest, data)
    for change in changes_of(new, read_state(vault.catalogue, new), wanted, time.time()):
        vault.record(change)

    def confirm() -> None:
        if read_state(vault.catalogue, old) != wanted:
            raise Conflict(f"{old} was changed while it was moved", "try again")

    vault.delete_repo(old, confirm)
