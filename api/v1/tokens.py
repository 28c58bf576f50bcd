"""The endpoints of tokens: whoever holds one lists and revokes their own.

Their own are those of the same name that may do no more than the one they show; an administrator's,
all those of the namespaces that they administer.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from ...store.catalogue.tokens import TokenRow
from ..requests.access import has_token, needs
from ..requests.callers import caller_of
from ..requests.tokens import describe_tokens, revoke_token
from .documented import FAILURES
from .routes import VaultParam
from .schemas import TokenSchema

router = APIRouter(
    prefix="/v1/tokens", tags=["tokens"], responses=FAILURES, dependencies=needs(has_token)
)


@router.get("", summary="List tokens")
def list_tokens(request: Request, vault: VaultParam) -> list[TokenSchema]:
    """Lists the caller's own tokens, for an administrator all, valid or not; never their secrets.

    `roles` are by namespace, `*` for all of them. Times are in Unix seconds, `last_used` to the
    hour.
    """
    found = describe_tokens(vault, lambda row: _may_see(request, row))
    return [TokenSchema.model_validate(info) for info in found]


@router.delete("/{token}", status_code=204, summary="Revoke a token")
def delete_token(
    request: Request,
    vault: VaultParam,
    token: Annotated[str, Path(pattern="^[0-9a-f]{1,16}$", description="the id of a token")],
) -> Response:
    """Revokes one of the tokens that the caller may list, with all that was granted to it."""
    revoke_token(vault, token, lambda row: row.id == token and _may_see(request, row))
    return Response(status_code=204)


def _may_see(request: Request, row: TokenRow) -> bool:
    caller = caller_of(request)
    own = row.name == caller.token and caller.covers(row.roles)
    return own or caller.administers(row.roles)
