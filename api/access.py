"""Who asks, and what they may do: by the token of a request (tokens.py).

While no token was ever made, the server is open: whoever reaches it may do everything. From the
first token on, a request needs one, and sees only repos that it allows; other repos are not there.
Those without one see nothing, or public repos, or all of them, as the server is told.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from fastapi import Request
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection

from ..dedup.errors import AccessRefused, RepoNotFound
from ..dedup.translate import store_errors
from ..store.refs import is_public, public_repos
from ..store.repo_names import namespace_of
from ..store.tokens import has_tokens
from ..store.visibility import Scope
from .errors import Unauthorized
from .quotas import Quotas
from .tokens import recognise

if TYPE_CHECKING:
    from ..dedup.incoming import Sees
    from ..dedup.local_vault import LocalVault
    from ..store.tokens import TokenRow

ANONYMOUS_READS = ("none", "public", "all")
"""What those without a token may read."""

CHALLENGE = 'Basic realm="weightvault: a token as password", charset="UTF-8"'
"""How a browser is told to ask for a token."""

_OPEN_NAME = "local"
_LIST = "/v1/repos"
# What a push asks and sends before its commit; the endpoints go by what the caller may read.
_PUSH = ("/v1/missing", "/v1/bases", "/v1/packs/")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request. `role` is that of the token, None without one; `namespace` what it is
    limited to; `reads` which repos are read besides: one of ANONYMOUS_READS. `token` is the name of
    the token and `token_id` its id, for logs and for whose turn it is."""

    name: str
    role: str | None
    namespace: str | None = None
    reads: str = "none"
    token: str | None = None
    token_id: str | None = None

    @property
    def scope(self) -> Scope:
        """The repos that may be read."""
        own = () if self.role is None or self.namespace is None else (self.namespace,)
        return Scope(own, self.reads == "public", self.reads_all)

    @property
    def reads_all(self) -> bool:
        """Whether every repo may be read."""
        return self.reads == "all" or (self.role is not None and self.namespace is None)

    def may_read(self, repo: str, public: bool | None) -> bool:
        """Says whether a repo, public or not, may be read."""
        return self.reads_all or self._owns(repo) or (bool(public) and self.reads == "public")

    def may_write(self, repo: str) -> bool:
        """Says whether a repo may be changed, made or deleted."""
        return self.role in ("write", "admin") and (self.namespace is None or self._owns(repo))

    def may_write_in(self, own: bool) -> bool:
        """Whether anything may be changed: in the whole vault, or with `own` in a namespace."""
        return self.role in ("write", "admin") and (own or self.namespace is None)

    @property
    def may_administer(self) -> bool:
        """Whether what concerns the whole vault may be done."""
        return self.role == "admin" and self.namespace is None

    def _owns(self, repo: str) -> bool:
        return self.role is not None and namespace_of(repo) == self.namespace


class Gate:
    """Tells callers apart. `anonymous_reads` is one of ANONYMOUS_READS."""

    def __init__(self, anonymous_reads: str = "none") -> None:
        self.anonymous_reads = anonymous_reads
        self._closed: set[int] = set()

    def caller(self, vault: LocalVault, headers: Headers) -> Caller:
        """Returns who sent these headers. Raises Unauthorized for a token that is none."""
        if self._is_open(vault):
            return Caller(_OPEN_NAME, "admin")
        secret = _secret(headers.get("authorization", ""))
        if secret is None:
            return Caller("anonymous", None, reads=self.anonymous_reads)
        row = recognise(vault, secret)
        if row is None:
            raise Unauthorized(
                "Invalid credentials in Authorization header",
                "`weightvault token create` makes a token",
            )
        return self.holder(row)

    def holder(self, row: TokenRow) -> Caller:
        """Returns who holds a token that is not revoked."""
        reads = "public" if self.anonymous_reads == "none" else self.anonymous_reads
        name = row.namespace or row.name
        return Caller(name, row.role, row.namespace, reads, row.name, row.id)

    def _is_open(self, vault: LocalVault) -> bool:
        # Once there is a token, there always is one, revoked or not.
        if id(vault.catalogue) in self._closed:
            return False
        with store_errors():
            if not has_tokens(vault.catalogue):
                return True
        self._closed.add(id(vault.catalogue))
        return False


def caller_of(request: HTTPConnection) -> Caller:
    """Returns who sent a request. Raises Unauthorized."""
    found = getattr(request.state, "caller", None)
    if found is None:
        state = request.app.state
        found = request.state.caller = state.gate.caller(state.vault, request.headers)
        if found.role is not None and found.namespace is not None:
            quotas_of(request).count_request(found.namespace)
    return found


def quotas_of(request: HTTPConnection) -> Quotas:
    """Returns what holds callers to the quotas of the application's vault."""
    state = request.app.state
    quotas: Quotas | None = getattr(state, "quotas", None)
    if quotas is None or quotas.vault is not state.vault:
        quotas = state.quotas = Quotas(state.vault, state.settings.reserve_bytes)
    return quotas


def upload_namespace(request: HTTPConnection, repo: str | None = None) -> str | None:
    """Returns the namespace that a body is counted for: that of the `repo` it is for, else of the
    caller's token; None where there is neither."""
    repo = repo or request.path_params.get("repo")
    if repo is None:
        return caller_of(request).namespace
    namespace = namespace_of(repo)
    if getattr(request.state, "caller", None) is None:
        # The address was signed for the repo: there is no token whose requests are counted.
        quotas_of(request).count_request(namespace)
    return namespace


def require_read(request: HTTPConnection, repo: str) -> Caller:
    """Returns the caller if they may read a repo. Raises RepoNotFound, as if there were none."""
    caller = caller_of(request)
    if not caller.reads_all:
        with store_errors():
            public = is_public(request.app.state.vault.catalogue, repo)
        if not caller.may_read(repo, public):
            raise RepoNotFound(f"there is no repo {repo}", "it may need a token, or another one")
    return caller


def require_write(request: HTTPConnection, repo: str) -> Caller:
    """Returns the caller if they may change a repo. Raises RepoNotFound where they may not even
    read it, Unauthorized without a token, else AccessRefused."""
    caller = caller_of(request)
    if caller.may_write(repo):
        return caller
    if caller.role is None:
        raise Unauthorized(f"changing {repo} needs a token", "`weightvault token create` makes one")
    if caller.namespace in (None, namespace_of(repo)):
        raise AccessRefused(f"this token may read {repo}, not change it", "use one that may write")
    require_read(request, repo)
    raise AccessRefused(f"this token may write in {caller.namespace}, not to {repo}")


def require_create(request: HTTPConnection, repo: str) -> Caller:
    """Returns the caller if they may make a repo of that name, whether it is there or not. Raises
    Unauthorized, AccessRefused."""
    caller = caller_of(request)
    if not caller.may_write(repo):
        _refuse(caller, f"making {repo}")
    return caller


def require_commit(request: HTTPConnection, repo: str) -> Caller:
    """Returns the caller if they may commit to a repo of that name, whether it is there or not, of
    which a refusal says nothing. Raises Unauthorized, AccessRefused."""
    caller = caller_of(request)
    if caller.role in ("write", "admin") and not caller.may_write(repo):
        raise AccessRefused(
            f"this token is for repos of {caller.namespace}, not for {repo}",
            f"push to {caller.namespace}/{repo.split('/')[-1]}, or with another token",
        )
    if not caller.may_write(repo):
        _refuse(caller, f"pushing to {repo}")
    return caller


def guard(request: Request) -> None:
    """Lets a request of our own API, or for a page, through if its caller may do what it asks."""
    caller, params, path = caller_of(request), request.path_params, request.url.path
    reads = request.method in ("GET", "HEAD") or path.endswith("/frames")
    if "namespace" in params and "name" in params:
        repo = f"{params['namespace']}/{params['name']}"
        if not reads and path.endswith(("/commits", "/commits/check")):
            require_commit(request, repo)
        else:
            require_read(request, repo) if reads else require_write(request, repo)
    elif reads and not (caller.reads_all or path == _LIST):
        _refuse(caller, "this tells of all repos")
    elif not reads and not caller.may_write_in(path.startswith(_PUSH)):
        _refuse(caller, "changing the vault")


def _refuse(caller: Caller, what: str) -> NoReturn:
    if caller.role is None:
        raise Unauthorized(f"{what} needs a token", "`weightvault token create` makes one")
    raise AccessRefused(
        f"{what}: this token is not for that", "use one of a higher role, or of that namespace"
    )


def repos_seen(request: HTTPConnection) -> Sees:
    """Returns the condition that a repo may be read by whoever sent a request."""
    caller = caller_of(request)
    public: set[str] = set()
    if not caller.reads_all and caller.reads == "public":
        with store_errors():
            public = public_repos(request.app.state.vault.catalogue)
    return lambda repo: caller.may_read(repo, repo in public)


def _secret(authorization: str) -> str | None:
    """Returns the token of an Authorization header: Bearer, or the password of Basic, which is
    what git and browsers send."""
    scheme, _, value = authorization.strip().partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(value).decode().partition(":")[2]
    except (binascii.Error, ValueError):
        return ""
