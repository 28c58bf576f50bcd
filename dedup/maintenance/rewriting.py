"""Rewrites the history of repos: squashed branches, files that go for good.

What is rewritten are names: commits stay what they are, and go where nothing keeps them.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from uuid import uuid4

from ...store.catalogue.files.hashes import commits_with, hashes_of
from ...store.catalogue.tables.rows import batches
from ..errors import Conflict, TooExpensive
from ..model.files.manifest import Manifest
from ..model.journal_entries import Forgotten
from ..repository.refs_state import read_state
from ..repository.repository import Repository
from ..transfer.refs import DeleteFile, History, Message
from ..vault import Commit

_ATTEMPTS = 10
# Each is a commit and a manifest to make.
_MOST_BRANCHES = 32


def create_empty_branch(vault: Repository, repo: str, branch: str, message: Message) -> Commit:
    """Makes a branch that has no files and no history. Raises RepoNotFound, and Conflict where it
    is there."""
    vault.require_repo(repo)
    told = (message.title, message.text, message.author)
    return vault.commit_staged(repo, branch, Manifest(()), None, (), *told)


def squash_branch(
    vault: Repository, history: History, repo: str, branch: str, message: Message
) -> Commit:
    """Makes one commit without parents of what a branch has, and lets the branch name it.

    The commits before stay as long as something keeps them: another branch, a tag, their id.
    Returns the commit. Raises RepoNotFound, RevisionNotFound, and Conflict where others commit to
    the branch all the time.
    """
    for _ in range(_ATTEMPTS):
        before = _head(vault, history, repo, branch)
        aside = f"squash-{uuid4().hex}"
        told = (message.title, message.text, message.author)
        manifest = vault.load_manifest(before.manifest)
        made = vault.commit_staged(repo, aside, manifest, None, (), *told)
        try:
            if history.branches(repo).get(branch) == before.id:
                history.point(repo, "branch", branch, made.id)
                return made
        finally:
            history.delete_branch(repo, aside)
    raise Conflict(f"{branch} of {repo} is changed by many others at once", "try again")


def erase_files(
    vault: Repository, history: History, repo: str, wanted: Collection[bytes], author: str
) -> int:
    """Takes the files of those SHA-256 out of every branch of a repo and forgets each commit that
    has one; returns how many. Branches that had one are squashed.

    Their bytes go with the next collections, as far as nothing else needs them. Raises Conflict
    where a tag names such a commit, TooExpensive where very many branches do.
    """
    affected = commits_with(vault.catalogue, repo, wanted)
    refs = read_state(vault.catalogue, repo).refs
    tagged = sorted(name for (kind, name), (oid, _) in refs.items() if kind == "tag")
    held = [name for name in tagged if refs["tag", name][0] in affected]
    if held:
        raise Conflict(f"the tag {held[0]} of {repo} names such a file", "delete the tag first")
    branches = [
        name for (kind, name), (oid, _) in refs.items() if kind == "branch" and oid in affected
    ]
    if len(branches) > _MOST_BRANCHES:
        raise TooExpensive(
            f"{len(branches)} branches of {repo} have such a file, more than {_MOST_BRANCHES}",
            "delete branches that are no longer needed first",
        )
    for branch in branches:
        _take_out(vault, history, repo, branch, wanted, author)
    state = read_state(vault.catalogue, repo)
    named = {oid for oid, _ in state.refs.values()}
    goes = {oid: row.parent for oid, row in state.commits.items() if oid in affected - named}
    for batch in batches(list(goes)):
        vault.record(Forgotten(repo, {oid: goes[oid] for oid in batch}, time.time()))
    return len(goes)


def _take_out(
    vault: Repository,
    history: History,
    repo: str,
    branch: str,
    wanted: Collection[bytes],
    author: str,
) -> None:
    manifest = vault.load_manifest(_head(vault, history, repo, branch).manifest)
    known = hashes_of(vault.catalogue, [entry.digest for entry in manifest.files])
    gone = [entry.path for entry in manifest.files if known[entry.digest].sha256 in wanted]
    message = Message("Delete files", author=author)
    history.commit(repo, branch, [DeleteFile(path) for path in gone], message)
    squash_branch(vault, history, repo, branch, Message(f"Squash {branch}", author=author))


def _head(vault: Repository, history: History, repo: str, branch: str) -> Commit:
    oid = history.branches(repo).get(branch)
    # Says which of both is not there.
    return vault.resolve(repo, branch if oid is None else oid).commit
