"""Tokens for Xet clients: short-lived, signed, each for one repo and one generation."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request

from ...store.repo_names import namespace_of
from .errors import HubError
from .signing import InvalidSignature, Signer
from .state import hub_of

TOKEN_SECONDS = 3600
"""How long a token holds. Clients ask for a new one when it is about to expire."""

_PURPOSE = "xet"


@dataclass(frozen=True, slots=True)
class XetGrant:
    """What a token allows: to read, or also to write, for `repo` at the address of a generation."""

    repo: str
    generation: str
    write: bool

    @property
    def owner(self) -> str:
        """The namespace of the repo."""
        return namespace_of(self.repo)


def issue_token(signer: Signer, grant: XetGrant, expires: int) -> str:
    """Returns a token for `grant` that holds until `expires`, Unix seconds."""
    return signer.sign(_PURPOSE, [grant.repo, grant.generation, grant.write], expires)


def check_write_token(request: Request) -> XetGrant:
    """Returns what the token of a request allows at the address that the request is for.

    Raises HubError with status 401, upon which clients ask for another token, or 403.
    """
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    try:
        if scheme.lower() != "bearer":
            raise InvalidSignature("there is none")
        grant = XetGrant(*hub_of(request).signer.verify(_PURPOSE, text.strip()))
    except InvalidSignature as error:
        challenge = {"WWW-Authenticate": "Bearer"}
        raise HubError(401, f"no valid Xet token: {error}", headers=challenge) from error
    if grant.generation != request.path_params["generation"]:
        raise HubError(403, "this Xet token is for another address")
    if not grant.write:
        raise HubError(403, "this Xet token is for reading only")
    return grant
