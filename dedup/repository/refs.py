"""Branches, tags and the log of repos, and who may see them: what changes without a commit."""

from __future__ import annotations

import re
import time

from ...store.catalogue.refs import commits_of, is_public, list_tags
from ...store.catalogue.reports.pages import list_history
from ..errors import Conflict, RevisionNotFound
from ..model.journal_entries import RefChange, Visibility
from ..model.names import check_branch
from ..vault import Commit, RefList
from .reader import make_commit
from .repository import Repository

DEFAULT_BRANCH = "main"
_PULL_REQUEST = re.compile(r"refs/pr/([1-9][0-9]{0,8})")


class Refs:
    """What names the commits of a vault's repos. Methods raise VaultError kinds."""

    def __init__(self, vault: Repository) -> None:
        self._vault = vault

    # Looking

    def list(self, repo: str) -> RefList:
        """Returns a repo's branches and tags. Raises RepoNotFound."""
        self._vault.require_repo(repo)
        return RefList(self.branches(repo), self.tags(repo))

    def branches(self, repo: str) -> dict[str, str]:
        """Returns the branches of a repo with the ids of their newest commits."""
        return {n: row.oid for n, row in self._vault.catalogue.branches(repo).items()}

    def tags(self, repo: str) -> dict[str, str]:
        """Returns the tags of a repo with the ids of the commits they name."""
        return {n: row.oid for n, row in list_tags(self._vault.catalogue, repo).items()}

    def log(self, repo: str, revision: str, limit: int | None = None) -> list[Commit]:
        """Returns a commit and those before it, newest first; with a `limit` so many at most."""
        newest = self._vault.resolve(repo, revision).commit
        if limit is not None:
            listed = list_history(self._vault.catalogue, repo, newest.id, limit)
            return [make_commit(row) for row in listed][:limit]
        rows = commits_of(self._vault.catalogue, repo)
        found: list[Commit] = []
        oid: str | None = newest.id
        while oid in rows and len(found) < len(rows):
            found.append(make_commit(rows[oid]))
            oid = rows[oid].parent
        return found

    def is_public(self, repo: str) -> bool | None:
        """Says whether a repo is public; None where there is none of that name."""
        return is_public(self._vault.catalogue, repo)

    # Changes

    def set_public(self, repo: str, public: bool) -> None:
        """Makes a repo public or private."""
        self._vault.record(Visibility(repo, public, time.time()))

    def create_branch(self, repo: str, name: str, start: str, *, overwrite: bool = False) -> None:
        """Makes a branch at the revision `start`. Raises Conflict if it is there, unless it is to
        be written over."""
        check_branch(name)
        target = self._vault.resolve(repo, start).commit.id
        if name in self.branches(repo) and not overwrite:
            raise Conflict(
                f"Reference refs/heads/{name} already exists in {repo}",
                "choose another name, or delete the branch first",
            )
        self._change_ref(repo, "branch", name, target)

    def delete_branch(self, repo: str, name: str) -> None:
        """Takes a branch away; its commits stay. Raises RevisionNotFound, and Conflict for the last
        branch and the default one."""
        found = self.branches(repo)
        if name not in found:
            raise RevisionNotFound(
                f"Invalid rev id: {repo} has no branch {name!r}",
                f"`weightvault branch {repo}` lists them",
            )
        if name == DEFAULT_BRANCH or len(found) == 1:
            raise Conflict(
                f"Cannot delete refs/heads/{name}, which {repo} needs",
                "main and the last branch stay as long as the repo does",
            )
        self._change_ref(repo, "branch", name, None)

    def create_tag(self, repo: str, name: str, revision: str, message: str | None) -> None:
        """Lets a tag name a revision. Raises Conflict if it is there."""
        target = self._vault.resolve(repo, revision).commit.id
        check_branch(name)
        if name in self.tags(repo):
            raise Conflict(
                f"Reference refs/tags/{name} already exists in {repo}",
                "choose another name, or delete the tag first",
            )
        self._change_ref(repo, "tag", name, target, message)

    def delete_tag(self, repo: str, name: str) -> None:
        """Takes a tag away. Raises RevisionNotFound."""
        if name not in self.tags(repo):
            raise RevisionNotFound(
                f"Invalid rev id: {repo} has no tag {name!r}",
                f"`weightvault tag {repo}` lists them",
            )
        self._change_ref(repo, "tag", name, None)

    def point(self, repo: str, kind: str, name: str, oid: str) -> None:
        """Lets a ref of the `kind` "branch" or "tag" name a commit, whatever it named before."""
        refs = self.branches(repo) if kind == "branch" else self.tags(repo)
        if refs.get(name) != oid:
            self._change_ref(repo, kind, check_branch(name), oid)

    def open_pull_request(self, repo: str, revision: str) -> int:
        """Makes the branch of a new pull request at a revision and returns its number."""
        target = self._vault.resolve(repo, revision).commit.id
        matches = (_PULL_REQUEST.fullmatch(name) for name in self.branches(repo))
        number = 1 + max((int(m[1]) for m in matches if m), default=0)
        self._change_ref(repo, "branch", f"refs/pr/{number}", target)
        return number

    def _change_ref(
        self, repo: str, kind: str, name: str, target: str | None, message: str | None = None
    ) -> None:
        self._vault.record(RefChange(repo, kind, name, target, time.time(), message))
