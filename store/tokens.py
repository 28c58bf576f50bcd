"""Tokens as the catalogue keeps them: by the SHA-256 of what their holders show."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from sqlalchemy import delete, insert, select

from .database import Database
from .schema import tokens


@dataclass(frozen=True, slots=True)
class TokenRow:
    """A token: what it may do (`role`), in which namespace (None: all), when it was made and
    revoked, in Unix seconds."""

    id: str
    name: str
    hash: bytes
    role: str
    namespace: str | None
    created: float
    revoked: float | None = None


def put_token(catalogue: Database, row: TokenRow, key: str) -> None:
    """Records a token, or that it was revoked, as the journal entry `key` says."""
    with catalogue.writing() as connection:
        if catalogue.take_entry(connection, key):
            connection.execute(delete(tokens).where(tokens.c.id == row.id))
            connection.execute(insert(tokens).values(**asdict(row)))


def find_token(catalogue: Database, digest: bytes) -> TokenRow | None:
    """Returns the token whose SHA-256 is `digest`, revoked or not."""
    with catalogue.reading() as connection:
        row = connection.execute(select(tokens).where(tokens.c.hash == digest)).first()
        return TokenRow(*row) if row else None


def find_token_by_id(catalogue: Database, token: str) -> TokenRow | None:
    """Returns the token of that id, revoked or not."""
    with catalogue.reading() as connection:
        row = connection.execute(select(tokens).where(tokens.c.id == token)).first()
        return TokenRow(*row) if row else None


def list_tokens(catalogue: Database) -> list[TokenRow]:
    """Returns all tokens there ever were, oldest first."""
    with catalogue.reading() as connection:
        rows = connection.execute(select(tokens).order_by(tokens.c.created, tokens.c.id))
        return [TokenRow(*row) for row in rows]


def has_tokens(catalogue: Database) -> bool:
    """Says whether a token was ever made."""
    with catalogue.reading() as connection:
        return connection.scalar(select(tokens.c.id).limit(1)) is not None
