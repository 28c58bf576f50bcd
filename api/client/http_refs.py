"""What a client asks a server about the branches, tags and commits of a repo, and has it change."""

from __future__ import annotations

from dataclasses import asdict
from typing import TypeVar
from urllib.parse import quote

from pydantic import TypeAdapter, ValidationError

from ...dedup.errors import Unreachable
from ...dedup.model.history import Forgetting
from ...dedup.model.names import check_branch, check_repo, check_revision
from ...dedup.vault import Commit, RefList
from ...store.catalogue.access.rules import RetentionRules
from .transport import MAX_ANSWER_BYTES, Answer, Transport

_T = TypeVar("_T")

# Commits that servers list at once, and that a client takes of any.
_PAGE = 1000
_MOST = 1_000_000


class HttpRefs:
    """The part of HttpVault that is about commits and what names them."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.url = transport.url

    def list_refs(self, repo: str) -> RefList:
        """See Vault.list_refs."""
        path = f"{repo_path(repo)}/refs"
        return self._parse(
            RefList, self._transport.request("GET", path, most_bytes=MAX_ANSWER_BYTES)
        )

    def list_commits(
        self, repo: str, revision: str = "main", limit: int | None = None
    ) -> list[Commit]:
        """See Vault.list_commits."""
        most = _MOST if limit is None else min(limit, _MOST)
        found = self._read_commits(repo, check_revision(revision), most)
        while found and len(found) < most:
            # A page begins at the last commit of the one before, which may be the first ever.
            page = self._read_commits(repo, found[-1].id, most - len(found) + 1)
            if len(page) < 2 or page[0] != found[-1]:
                break
            found += page[1:]
        return found

    def _read_commits(self, repo: str, revision: str, most: int) -> list[Commit]:
        params = {"revision": revision, "limit": min(most, _PAGE)}
        path = f"{repo_path(repo)}/commits"
        answer = self._transport.request("GET", path, params=params, most_bytes=MAX_ANSWER_BYTES)
        return self._parse(list[Commit], answer)

    def create_branch(self, repo: str, name: str, revision: str = "main") -> None:
        """See Vault.create_branch."""
        self._change("PUT", f"{repo_path(repo)}/branches/", name, revision=check_revision(revision))

    def delete_branch(self, repo: str, name: str) -> None:
        """See Vault.delete_branch."""
        self._change("DELETE", f"{repo_path(repo)}/branches/", name)

    def create_tag(
        self, repo: str, name: str, revision: str = "main", message: str | None = None
    ) -> None:
        """See Vault.create_tag."""
        told = {} if message is None else {"message": message}
        path = f"{repo_path(repo)}/tags/"
        self._change("PUT", path, name, revision=check_revision(revision), **told)

    def delete_tag(self, repo: str, name: str) -> None:
        """See Vault.delete_tag."""
        self._change("DELETE", f"{repo_path(repo)}/tags/", name)

    def rename_repo(self, repo: str, new: str) -> None:
        """See Vault.rename_repo."""
        path = f"{repo_path(repo)}/move"
        params = {"to": check_repo(new)}
        self._transport.request("POST", path, params=params, repeatable=False, slow=True)

    def forget(self, repo: str, rules: RetentionRules, *, dry_run: bool = False) -> Forgetting:
        """See Vault.forget."""
        told = {f"keep_{name.removesuffix('_seconds')}": v for name, v in asdict(rules).items()}
        params = {name: value for name, value in told.items() if value not in (None, False)}
        answer = self._transport.request(
            "POST",
            f"{repo_path(repo)}/forget",
            params={**params, "dry_run": dry_run},
            most_bytes=MAX_ANSWER_BYTES,
            repeatable=False,
            slow=True,
        )
        return self._parse(Forgetting, answer)

    def _change(self, method: str, path: str, name: str, **params: str) -> None:
        named = path + quote(check_branch(name))
        self._transport.request(method, named, params=params, repeatable=False)

    def _parse(self, kind: type[_T], answer: Answer, text: str | None = None) -> _T:
        """Reads JSON, the answer's own unless `text` is given, as a value of type `kind`."""
        try:
            return TypeAdapter(kind).validate_json(answer.body if text is None else text)
        except ValidationError as error:
            raise Unreachable(
                f"the server at {self.url} sent an answer that this weightvault cannot read",
                "client and server may be of different versions: see `weightvault version`",
            ) from error


def repo_path(repo: str) -> str:
    """Returns the address of a repo on a server. Raises InvalidName."""
    return f"/v1/repos/{quote(check_repo(repo))}"
