"""Tokens: made, revoked and recognised. Only their SHA-256 is kept, in the catalogue and in the
journal, so that a catalogue built anew lets nobody in who was not let in before."""

from __future__ import annotations

import hashlib
import secrets
import time
from dataclasses import dataclass, replace

from ..dedup.entries import TokenChange
from ..dedup.errors import InvalidName, Missing
from ..dedup.local_vault import LocalVault
from ..dedup.names import check_repo
from ..dedup.translate import store_errors
from ..store.tokens import TokenRow, find_token, list_tokens

ROLES = ("read", "write", "admin")
"""What a token may do: read; also push, commit and delete repos; also what concerns the whole
vault. Each in one namespace, if the token has one."""

EVERYWHERE = "*"
"""Stands for all namespaces; no namespace is called so."""

_PREFIX = "wv_"


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token that was just made; `secret` is shown once and kept nowhere."""

    row: TokenRow
    secret: str


def create_token(vault: LocalVault, name: str, role: str, namespace: str | None = None) -> NewToken:
    """Makes a token. Raises InvalidName for a name or namespace that no repo could be in."""
    _check_name(name)
    if namespace is not None:
        _check_name(namespace)
    secret = _PREFIX + secrets.token_urlsafe(32)
    now = time.time()
    row = TokenRow(secrets.token_hex(4), name, hash_token(secret), role, namespace, now)
    with store_errors():
        vault.record(TokenChange(row, now))
    return NewToken(row, secret)


def revoke_token(vault: LocalVault, wanted: str) -> list[TokenRow]:
    """Revokes the token of that id, or those of that name. Raises Missing."""
    now = time.time()
    with store_errors():
        found = [
            row
            for row in list_tokens(vault.catalogue)
            if wanted in (row.id, row.name) and row.revoked is None
        ]
        if not found:
            raise Missing(f"there is no token {wanted!r}", "`weightvault token list` names them")
        for row in found:
            vault.record(TokenChange(replace(row, revoked=now), now))
    return found


def recognise(vault: LocalVault, secret: str) -> TokenRow | None:
    """Returns the token that `secret` is, unless it was revoked."""
    with store_errors():
        row = find_token(vault.catalogue, hash_token(secret))
    return row if row is not None and row.revoked is None else None


def hash_token(secret: str) -> bytes:
    """Returns what is kept of a token. Its 256 random bits need no salt."""
    return hashlib.sha256(secret.encode(errors="replace")).digest()


def _check_name(name: str) -> None:
    try:
        check_repo(f"{name}/x")
    except InvalidName:
        raise InvalidName(
            f"{name!r} is not allowed as a name of a token or a namespace",
            "letters, digits, '.', '_' and '-', starting and ending with a letter or digit",
        ) from None
