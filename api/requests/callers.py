"""Who sent a request, and what they may do: by its token (tokens.py).

While no token was ever made, the server is open: whoever reaches it may do everything. From the
first token on, a request needs one, and sees only repos that it allows; other repos are not there.
Those without one see nothing, or public repos, or all of them, as the server is told.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass

from starlette.requests import HTTPConnection

from ...dedup.errors import Corrupt, JournalCut, VaultError
from ...dedup.local_vault import LocalVault
from ...dedup.repository.journal.lost_entries import require_whole
from ...store.catalogue.tokens import (
    EVERYWHERE,
    ROLES,
    Roles,
    TokenRow,
    find_token_by_id,
    note_use,
    was_closed,
)
from ...store.catalogue.visibility import Scope
from ...store.repo_names import namespace_of
from ..errors import Unauthorized
from .hosts import Hosts
from .quotas import Quotas
from .tokens import recognise

ANONYMOUS_READS = ("none", "public", "all")
"""What those without a token may read."""

INVALID_CREDENTIALS = "Invalid credentials in Authorization header"
"""What clients of hubs look for in the answer to a token that is none."""

BASIC_ALLOWED = "weightvault.basic_allowed"
"""Key of an ASGI scope: set by routes whose clients can send nothing but Basic credentials."""

USE_SECONDS = 3600.0
"""How exactly it is known when a token was last used."""

_log = logging.getLogger("weightvault.api")

_OPEN_NAME = "local"
_ANONYMOUS_NAME = "anonymous"
_WRITES = ("write", "admin")
_MAX_PRINCIPAL = 100


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request. `roles` are those of the token by namespace, EVERYWHERE for all of them;
    `reads` is which repos are read besides: one of ANONYMOUS_READS. `token` is the name of the
    token and `token_id` its id, None without one."""

    name: str
    roles: Roles = ()
    reads: str = "none"
    token: str | None = None
    token_id: str | None = None

    @property
    def role(self) -> str | None:
        """The highest role, wherever it holds; None without a token."""
        return max((role for _, role in self.roles), key=ROLES.index, default=None)

    @property
    def namespaces(self) -> tuple[str, ...]:
        """The namespaces that the token is limited to; none where it is not."""
        return tuple(namespace for namespace, _ in self.roles if namespace != EVERYWHERE)

    @property
    def home(self) -> str | None:
        """The namespace that counts for what names no repo: of those that the token is limited to
        the first one that may be changed, if any. None where it is not limited."""
        ranked = ((role not in _WRITES, name) for name, role in self.roles if name != EVERYWHERE)
        return min(ranked, default=(False, None))[1]

    @property
    def scope(self) -> Scope:
        """The repos that may be read."""
        return Scope(self.namespaces, self.reads == "public", self.reads_all)

    @property
    def reads_all(self) -> bool:
        """Whether every repo may be read."""
        return self.reads == "all" or self._role_in(EVERYWHERE) is not None

    @property
    def writes_all(self) -> bool:
        """Whether every repo may be changed, and the vault as a whole."""
        return self._role_in(EVERYWHERE) in _WRITES

    @property
    def writes_somewhere(self) -> bool:
        """Whether there is a namespace whose repos may be changed."""
        return self.role in _WRITES

    @property
    def owned(self) -> tuple[str, ...]:
        """The namespaces whose repos may be changed, of those that the token is limited to."""
        return tuple(n for n, role in self.roles if role in _WRITES and n != EVERYWHERE)

    @property
    def principal(self) -> str:
        """Names those who may write where this caller may, for what is kept on their record; of no
        more than 100 characters. Not for callers who may change every repo."""
        return principal_of(name for name, role in self.roles if role in _WRITES)

    def may_read(self, repo: str, public: bool | None) -> bool:
        """Says whether a repo, public or not, may be read."""
        return self.scope.includes(repo, bool(public))

    def may_write(self, repo: str) -> bool:
        """Says whether a repo may be changed, made or deleted."""
        return self.writes_all or self._role_in(namespace_of(repo)) in _WRITES

    def knows(self, repo: str) -> bool:
        """Says whether a role of the token holds for a repo, so that a refusal may name it."""
        known = (self._role_in(EVERYWHERE), self._role_in(namespace_of(repo)))
        return any(role is not None for role in known)

    def covers(self, roles: Roles) -> bool:
        """Says whether a token with these roles may do no more than this caller may."""
        mine = (max(self._ranks(space), self._ranks(EVERYWHERE)) for space, _ in roles)
        return all(rank >= ROLES.index(role) for rank, (_, role) in zip(mine, roles, strict=True))

    def administers(self, roles: Roles) -> bool:
        """Says whether this caller looks after tokens with these roles."""
        return all(
            "admin" in (self._role_in(namespace), self._role_in(EVERYWHERE))
            for namespace, _ in roles
        )

    def _ranks(self, namespace: str) -> int:
        role = self._role_in(namespace)
        return -1 if role is None else ROLES.index(role)

    def _role_in(self, namespace: str) -> str | None:
        return dict(self.roles).get(namespace)


def principal_of(namespaces: Iterable[str]) -> str:
    """Returns a name of those who may write in exactly these namespaces. That of one is its own."""
    named = "+".join(sorted(namespaces))
    if len(named) <= _MAX_PRINCIPAL:
        return named
    return "+" + hashlib.sha256(named.encode()).hexdigest()


class Gate:
    """Tells callers apart. `anonymous_reads` is one of ANONYMOUS_READS; `hosts` the names under
    which a server without tokens admits anybody."""

    def __init__(self, anonymous_reads: str = "none", hosts: Hosts | None = None) -> None:
        self.anonymous_reads = anonymous_reads
        self.hosts = hosts or Hosts()
        self._closed: set[int] = set()
        self._cut = False
        # When the use of a token was last put on record, by its id.
        self._used: dict[str, float] = {}

    def caller(self, request: HTTPConnection) -> Caller:
        """Returns who sent a request. Raises Unauthorized for a token that is none, UnknownHost for
        a request under another name than the server's while there are no tokens."""
        vault: LocalVault = request.app.state.vault
        if self._is_open(vault):
            return self._operator(request)
        self._require_whole()
        basic = BASIC_ALLOWED in request.scope
        secret = _secret(request.headers.get("authorization", ""), basic)
        if secret is None:
            return self._anonymous()
        row = recognise(vault, secret)
        if row is None:
            raise Unauthorized(INVALID_CREDENTIALS, "`weightvault token create` makes a token")
        return self.holder(vault, row)

    def holder(self, vault: LocalVault, row: TokenRow) -> Caller:
        """Returns who holds a token that is valid."""
        self._note_use(vault, row)
        reads = "public" if self.anonymous_reads == "none" else self.anonymous_reads
        spaces = [namespace for namespace, _ in row.roles]
        name = spaces[0] if len(spaces) == 1 and spaces != [EVERYWHERE] else row.name
        return Caller(name, row.roles, reads, row.name, row.id)

    def grantee(self, request: HTTPConnection, token: str | None) -> Caller | None:
        """Returns who acts by a grant that was made for the token of that id, or for somebody
        without one; None where the token is not valid any more."""
        vault: LocalVault = request.app.state.vault
        is_open = self._is_open(vault)
        if not is_open:
            self._require_whole()
        if token is None:
            return self._operator(request) if is_open else self._anonymous()
        row = find_token_by_id(vault.catalogue, token)
        valid = row is not None and row.is_valid(time.time())
        return self.holder(vault, row) if row is not None and valid else None

    def _operator(self, request: HTTPConnection) -> Caller:
        """Returns who may do everything: whoever asks a server without tokens by its own name."""
        self.hosts.require(request)
        return Caller(_OPEN_NAME, ((EVERYWHERE, "admin"),))

    def _anonymous(self) -> Caller:
        return Caller(_ANONYMOUS_NAME, reads=self.anonymous_reads)

    def _note_use(self, vault: LocalVault, row: TokenRow) -> None:
        now = time.time()
        if now < self._used.get(row.id, 0.0) + USE_SECONDS:
            return
        self._used[row.id] = now
        try:
            note_use(vault.catalogue, row.id, now, USE_SECONDS)
        except VaultError as error:
            # Access does not depend on it.
            _log.warning("the use of token %s is not on record: %s", row.id, error.message)

    def check_journal(self, vault: LocalVault) -> None:
        """Raises JournalCut where it cannot be known which tokens are valid."""
        if not self._is_open(vault):
            self._require_whole()

    def _require_whole(self) -> None:
        # Told to anybody, so without saying what is missing.
        if self._cut:
            raise JournalCut(
                "the journal of this store is not whole, and nobody is admitted until it is",
                "the operator finds out more with `weightvault check`",
            )

    def _is_open(self, vault: LocalVault) -> bool:
        # Once there is a token, there always is one, revoked or not.
        if id(vault.catalogue) in self._closed:
            return False
        if not was_closed(vault.catalogue):
            return True
        try:
            require_whole(vault.backend, vault.catalogue)
            self._cut = False
        except (JournalCut, Corrupt) as error:
            _log.error("%s", error.message)
            self._cut = True
        self._closed.add(id(vault.catalogue))
        return False


def caller_of(request: HTTPConnection) -> Caller:
    """Returns who sent a request. Raises Unauthorized; RateExceeded beyond a quota."""
    found = getattr(request.state, "caller", None)
    if found is None:
        found = request.app.state.gate.caller(request)
        note_caller(request, found)
    return found


def note_caller(request: HTTPConnection, caller: Caller) -> None:
    """Puts down who sent a request, and counts it. Raises RateExceeded beyond a quota."""
    request.state.caller = caller
    if caller.home is not None:
        quotas_of(request).count_request(caller.home)


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
    return namespace_of(repo) if repo else caller_of(request).home


def _secret(authorization: str, basic: bool) -> str | None:
    """Returns the token of an Authorization header: Bearer, or where `basic` the password of Basic,
    which is all that git-lfs sends. Elsewhere Basic is refused: a browser that was once asked for
    it sends it along with whatever any page makes it send."""
    scheme, _, value = authorization.strip().partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() != "basic":
        return None
    if not basic:
        raise Unauthorized("Basic credentials are taken from git-lfs only", "send a Bearer token")
    try:
        return base64.b64decode(value).decode().partition(":")[2]
    except (binascii.Error, ValueError):
        return ""
