"""A vault as Python programs hold it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ...dedup.errors import Missing
from .handle import Handle
from .names import split_repo
from .repo import Repo

if TYPE_CHECKING:
    from ...dedup.vault import RepoSummary


class Vault(Handle):
    """A vault: a folder, an S3 bucket, or a server; the same on all three. Made by `open`.

    Close it, or use it in a `with` statement. Safe to use from several threads, and in processes
    forked from this one. Every method raises the errors of `weightvault.errors`, and no others on
    purpose. Wherever a repo is named, `org/tune@v1` names a revision of it, too.
    """

    def __getitem__(self, repo: str) -> Repo:
        """Returns a repo, or with `org/tune@v1` a revision of it. Nothing is asked yet, so it need
        not be there."""
        name, revision = split_repo(repo)
        return Repo(self, name, revision)

    def __contains__(self, repo: object) -> bool:
        if not isinstance(repo, str):
            return False
        try:
            self.connect().list_refs(repo)
        except Missing:
            return False
        return True

    def __iter__(self) -> Iterator[str]:
        return iter([repo.name for repo in self.repos()])

    def repos(self) -> list[RepoSummary]:
        """Returns all repos by name: branches, files, size, when they were changed last."""
        try:
            return self.connect().list_repos()
        except Missing:
            return []
