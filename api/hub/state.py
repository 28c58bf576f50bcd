"""What the hub's endpoints work with, made once for a vault."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterator

from starlette.requests import Request

from ...dedup.local_vault import LocalVault
from ...dedup.model.files.entries import FileEntry
from ...dedup.reading.chunk_reader import Buffer
from ...dedup.transfer.refs import DEFAULT_BRANCH, History
from ...dedup.transfer.uploads import IncomingFiles
from ...dedup.vault import Snapshot
from ...store.catalogue.damage import default_setting
from ..requests.settings import ServerSettings
from .signing import Signer, open_signer

_HEADS = "refs/heads/"
_HEAD = "HEAD"
_EPOCH = "session_epoch"


class Hub:
    """A vault as a hub."""

    def __init__(self, vault: LocalVault, settings: ServerSettings) -> None:
        self.vault = vault
        self.settings = settings
        self.incoming = IncomingFiles(vault, inline=settings.ingest == "inline")
        self.history = History(vault, self.incoming)
        self.signer: Signer = open_signer(vault.catalogue, settings.umask)
        # Ties sessions to the catalogue: one that is rebuilt does not know which ended.
        self.session_epoch = default_setting(vault.catalogue, _EPOCH, secrets.token_hex(8))

    def read(self, file: FileEntry, chunk_bytes: int, first: int, stop: int) -> Iterator[Buffer]:
        """Yields the bytes [first, stop) of a file whose segments are cut at `chunk_bytes`."""
        return self.vault.serve_entry(file, chunk_bytes, first, stop)

    def name_revision(self, repo: str, asked: str | None) -> str:
        """Returns the revision that clients name so: a branch may be given in full, and HEAD is the
        default branch, as None is, unless a branch is called so."""
        if asked is None or (asked == _HEAD and _HEAD not in self.history.branches(repo)):
            return default_branch(self.history.branches(repo))
        return branch_of(asked)


def hub_of(request: Request) -> Hub:
    """Returns the hub of the application's vault."""
    state = request.app.state
    hub: Hub | None = getattr(state, "hub", None)
    if hub is None or hub.vault is not state.vault:
        hub = state.hub = Hub(state.vault, state.settings)
    return hub


def open_revision(request: Request, revision: str | None = None) -> Snapshot:
    """Returns the revision that a request's path, or else `revision`, names; the default branch
    where neither does."""
    repo = request.path_params["repo"]
    hub = hub_of(request)
    wanted = revision or request.path_params.get("rev")
    found = hub.vault.resolve(repo, hub.name_revision(repo, wanted))
    request.state.commit = found.commit.id
    return found


def default_branch(branches: Collection[str]) -> str:
    """Returns which of a repo's branches stands for it."""
    return DEFAULT_BRANCH if DEFAULT_BRANCH in branches else next(iter(branches), DEFAULT_BRANCH)


def branch_of(revision: str) -> str:
    """Returns the name of a branch that may be given in full."""
    return revision.removeprefix(_HEADS)


def base_url(request: Request) -> str:
    """Returns the address that the client uses for this server, without a final slash. Raises
    UnknownHost where the server does not know itself by it."""
    request.app.state.gate.hosts.require(request)
    return str(request.base_url).rstrip("/")


def repo_url(request: Request, repo: str) -> str:
    """Returns the address of a repo's page."""
    return f"{base_url(request)}/{repo}"
