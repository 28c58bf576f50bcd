"""Tokens: made, rotated, revoked and recognised. Only their SHA-256 is kept, in the catalogue and
in the journal, so that a rebuilt catalogue admits nobody who was not admitted before."""

from __future__ import annotations

import hashlib
import secrets
import string
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from ...dedup.errors import InvalidInput, InvalidName
from ...dedup.local_vault import LocalVault
from ...dedup.model.journal_entries import TokenChange
from ...dedup.model.names import check_namespace
from ...store.catalogue.tokens import (
    EVERYWHERE,
    ROLES,
    TokenRow,
    find_token,
    last_uses,
    list_tokens,
)
from ..protocol.token_info import TokenInfo, choose_tokens

# Clients of hubs drop what does not begin so, and go by letters and digits after it.
_PREFIX = "hf_"
_ALPHABET = string.ascii_letters + string.digits
# 256 bits.
_CHARACTERS = 43


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token that was just made; `secret` is shown once and kept nowhere."""

    row: TokenRow
    secret: str

    @property
    def info(self) -> TokenInfo:
        """What is told of it."""
        return _describe(self.row, None)


@dataclass(frozen=True, slots=True)
class Rotation:
    """A token that takes the place of another one, which is valid until `old` expires."""

    new: NewToken
    old: TokenRow


def create_token(vault: LocalVault, name: str, role: str, namespace: str | None = None) -> NewToken:
    """Makes a token of one role, in one namespace or in all. Raises InvalidName for a name or
    namespace that no repo could be in."""
    return make_token(vault, name, {EVERYWHERE if namespace is None else namespace: role})


def make_token(
    vault: LocalVault,
    name: str,
    roles: Mapping[str, str],
    *,
    lifetime_seconds: float | None = None,
) -> NewToken:
    """Makes a token with a role in each of several namespaces, or in EVERYWHERE, that expires after
    its lifetime. Raises InvalidName as `create_token` does, InvalidInput for no role."""
    _check_name(name)
    for namespace, role in roles.items():
        if namespace != EVERYWHERE:
            check_namespace(namespace)
        if role not in ROLES:
            raise InvalidInput(f"{role!r} is no role", f"a role is one of {', '.join(ROLES)}")
    if not roles:
        raise InvalidInput("a token needs a role", "name one, or namespaces with one each")
    return _record_token(vault, name, tuple(sorted(roles.items())), lifetime_seconds)


def rotate_token(vault: LocalVault, wanted: str, overlap_seconds: float) -> Rotation:
    """Makes a token that takes the place of the one of that id or name, which is valid for the
    overlap only. Raises Missing; InvalidInput where several valid ones have that name."""
    now = time.time()
    found = _find_valid(vault, wanted)
    if len(found) > 1:
        ids = ", ".join(row.id for row in found)
        raise InvalidInput(f"{len(found)} valid tokens are called {wanted}", f"name one of {ids}")
    (old,) = found
    lifetime = None if old.expires is None else old.expires - old.created
    new = _record_token(vault, old.name, old.roles, lifetime)
    end = now + overlap_seconds
    old = replace(old, expires=end if old.expires is None else min(end, old.expires))
    vault.record(TokenChange(old, now))
    return Rotation(new, old)


def revoke_token(
    vault: LocalVault, wanted: str, may: Callable[[TokenRow], bool] = lambda _: True
) -> list[TokenRow]:
    """Revokes the valid token of that id, or those of that name, of those that one `may` revoke.
    Raises Missing where there is none."""
    now = time.time()
    found = _find_valid(vault, wanted, may)
    for row in found:
        vault.record(TokenChange(replace(row, revoked=now), now))
    return found


def describe_tokens(
    vault: LocalVault, may: Callable[[TokenRow], bool] = lambda _: True
) -> list[TokenInfo]:
    """Lists the tokens there are and were, oldest first, of those that one `may` see."""
    rows, used = list_tokens(vault.catalogue), last_uses(vault.catalogue)
    return [_describe(row, used.get(row.id)) for row in rows if may(row)]


def recognise(vault: LocalVault, secret: str) -> TokenRow | None:
    """Returns the token that `secret` is, if it is valid."""
    row = find_token(vault.catalogue, hash_token(secret))
    return row if row is not None and row.is_valid(time.time()) else None


def hash_token(secret: str) -> bytes:
    """Returns what is kept of a token. Its 256 random bits need no salt."""
    return hashlib.sha256(secret.encode(errors="replace")).digest()


def _record_token(
    vault: LocalVault, name: str, roles: tuple[tuple[str, str], ...], lifetime: float | None
) -> NewToken:
    secret = _PREFIX + "".join(secrets.choice(_ALPHABET) for _ in range(_CHARACTERS))
    now = time.time()
    expires = None if lifetime is None else now + lifetime
    row = TokenRow(
        secrets.token_hex(4), name, hash_token(secret), roles, now, revoked=None, expires=expires
    )
    vault.record(TokenChange(row, now))
    return NewToken(row, secret)


def _find_valid(
    vault: LocalVault, wanted: str, may: Callable[[TokenRow], bool] = lambda _: True
) -> list[TokenRow]:
    rows = {row.id: row for row in list_tokens(vault.catalogue) if may(row)}
    found = choose_tokens((_describe(row, None) for row in rows.values()), wanted)
    return [rows[info.id] for info in found]


def _describe(row: TokenRow, used: float | None) -> TokenInfo:
    roles = dict(row.roles)
    return TokenInfo(row.id, row.name, roles, row.created, row.revoked, row.expires, used)


def _check_name(name: str) -> None:
    try:
        check_namespace(name)
    except InvalidName:
        raise InvalidName(
            f"{name!r} is not allowed as a name of a token",
            "letters, digits, '.', '_' and '-', starting and ending with a letter or digit",
        ) from None
