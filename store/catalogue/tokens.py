"""Tokens as the catalogue keeps them: by the SHA-256 of what their holders show."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, delete, insert, or_, select

from .tables.database import Database, MakeEntry
from .tables.schema import settings
from .tables.token_schema import token_uses, tokens

EVERYWHERE = "*"
"""Stands for all namespaces; no namespace is called so."""

ROLES = ("read", "write", "admin")
"""What a token may do: read; also push, commit and delete repos; also what concerns all of the
namespace, or of the vault. Each of them holds all before it."""

Roles = tuple[tuple[str, str], ...]

CLOSED = "closed"
"""The setting that is there once a token was made, whatever the journal tells."""


@dataclass(frozen=True, slots=True)
class TokenRow:
    """A token: its `roles`, each with the namespace that it holds in, or EVERYWHERE, in order of
    those; when it was made, was revoked and expires, in Unix seconds."""

    id: str
    name: str
    hash: bytes
    roles: Roles
    created: float
    revoked: float | None = None
    expires: float | None = None

    def is_valid(self, now: float) -> bool:
        """Says whether the token is still valid."""
        return self.revoked is None and (self.expires is None or now < self.expires)

    def joined(self, known: TokenRow | None) -> TokenRow:
        """Returns the token as this and what was `known` of it tell, in whatever order they came:
        the earlier end counts, so that nothing brings back what was revoked."""
        if known is None:
            return self
        return replace(
            self,
            revoked=_earlier(self.revoked, known.revoked),
            expires=_earlier(self.expires, known.expires),
        )


def put_token(catalogue: Database, row: TokenRow, key: str | MakeEntry) -> None:
    """Records what the journal entry `key` says of a token."""
    with catalogue.writing() as connection:
        if not catalogue.take_entry(connection, key):
            return
        mine = tokens.c.id == row.id
        known = connection.execute(select(tokens).where(mine).with_for_update()).first()
        joined = row.joined(_row(known) if known else None)
        connection.execute(delete(tokens).where(mine))
        connection.execute(insert(tokens).values(**_values(joined)))
        catalogue.write_entry(connection, key)


def find_token(catalogue: Database, digest: bytes) -> TokenRow | None:
    """Returns the token whose SHA-256 is `digest`, valid or not."""
    return _find(catalogue, tokens.c.hash == digest)


def find_token_by_id(catalogue: Database, token: str) -> TokenRow | None:
    """Returns the token of that id, valid or not."""
    return _find(catalogue, tokens.c.id == token)


def list_tokens(catalogue: Database) -> list[TokenRow]:
    """Returns all tokens there ever were, oldest first."""
    with catalogue.reading() as connection:
        rows = connection.execute(select(tokens).order_by(tokens.c.created, tokens.c.id))
        return [_row(row) for row in rows]


def has_tokens(catalogue: Database) -> bool:
    """Says whether a token was ever made."""
    with catalogue.reading() as connection:
        return connection.scalar(select(tokens.c.id).limit(1)) is not None


def was_closed(catalogue: Database) -> bool:
    """Says whether a token was ever made, by the tokens or by the setting CLOSED."""
    made = select(tokens.c.id).exists()
    noted = select(settings.c.name).where(settings.c.name == CLOSED).exists()
    with catalogue.reading() as connection:
        return bool(connection.scalar(select(or_(made, noted))))


def has_tenants(connection: Connection) -> bool:
    """Says whether there was ever a token that does not hold for all namespaces."""
    limited = select(tokens.c.id).where(~tokens.c.roles.contains(f"{EVERYWHERE}="))
    return connection.scalar(limited.limit(1)) is not None


def note_use(catalogue: Database, token: str, now: float, every: float) -> None:
    """Records that a token was used `now`, unless a use of the last `every` seconds is on record.
    That is no matter of the journal: a catalogue that is rebuilt knows of no uses."""
    mine = token_uses.c.token == token
    with catalogue.writing() as connection:
        last = connection.scalar(select(token_uses.c.at).where(mine))
        if last is not None and last > now - every:
            return
        connection.execute(delete(token_uses).where(mine))
        catalogue.add_once(connection, token_uses, [{"token": token, "at": now}])


def last_uses(catalogue: Database) -> dict[str, float]:
    """Returns when tokens were last used, Unix seconds, by their ids."""
    with catalogue.reading() as connection:
        return {row.token: row.at for row in connection.execute(select(token_uses))}


def _find(catalogue: Database, condition: Any) -> TokenRow | None:
    with catalogue.reading() as connection:
        row = connection.execute(select(tokens).where(condition)).first()
        return _row(row) if row else None


def _row(row: Any) -> TokenRow:
    roles = tuple((space, role) for space, role in (r.split("=") for r in row.roles.split()))
    return TokenRow(row.id, row.name, row.hash, roles, row.created, row.revoked, row.expires)


def _values(row: TokenRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "name": row.name,
        "hash": row.hash,
        "roles": " ".join(f"{namespace}={role}" for namespace, role in row.roles),
        "created": row.created,
        "revoked": row.revoked,
        "expires": row.expires,
    }


def _earlier(one: float | None, other: float | None) -> float | None:
    return min((at for at in (one, other) if at is not None), default=None)
