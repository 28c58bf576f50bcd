"""Tokens for Xet clients: short-lived, signed, each for one repo and one generation."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import Request

from ....store.repo_names import namespace_of
from ...requests.access import require_write_as, right
from ...requests.callers import note_caller
from ..errors import HubError
from ..signing import InvalidSignature, Signer
from ..state import hub_of

TOKEN_SECONDS = 3600
"""How long a token holds. Clients ask for a new one when it is about to expire."""

_PURPOSE = "xet"


@dataclass(frozen=True, slots=True)
class XetGrant:
    """What a token allows: to read, or also to write, for `repo` at the address of a generation. It
    ends with the token of the vault, given by its id, that asked for it."""

    repo: str
    generation: str
    write: bool
    token: str | None = None

    @property
    def owner(self) -> str:
        """The namespace of the repo."""
        return namespace_of(self.repo)


def issue_token(signer: Signer, grant: XetGrant, expires: int) -> str:
    """Returns a token for `grant` that holds until `expires`, Unix seconds."""
    return signer.sign(_PURPOSE, [grant.repo, grant.generation, grant.write, grant.token], expires)


def granted(request: Request) -> XetGrant:
    """Returns what the token of a request allows."""
    return request.state.granted


@right
def holds_write_token(request: Request) -> None:
    """Whoever has a token to write at the address of the path.

    Raises HubError with status 401, upon which clients ask for another token, or 403.
    """
    grant = _read_token(request)
    if grant.generation != request.path_params["generation"]:
        raise HubError(403, "this Xet token is for another address")
    if not grant.write:
        raise HubError(403, "this Xet token is for reading only")
    caller = request.app.state.gate.grantee(request, grant.token)
    if caller is None:
        raise _invalid("it ended with the token that it was made for")
    request.state.granted = grant
    note_caller(request, caller)
    require_write_as(request, caller, grant.repo)


def _read_token(request: Request) -> XetGrant:
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    try:
        if scheme.lower() != "bearer":
            raise InvalidSignature("there is none")
        return XetGrant(*hub_of(request).signer.verify(_PURPOSE, text.strip()))
    except InvalidSignature as error:
        raise _invalid(str(error)) from error


def _invalid(why: str) -> HubError:
    return HubError(401, f"no valid Xet token: {why}", headers={"WWW-Authenticate": "Bearer"})
