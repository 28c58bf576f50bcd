"""The tables of tokens and sessions."""

from __future__ import annotations

from sqlalchemy import Column, Float, String, Table, Text

from .blobs import Blob
from .schema import metadata

# API tokens: `hash` is the SHA-256 of the token itself, which is kept nowhere.
tokens = Table(
    "tokens",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("name", String(100), nullable=False),
    Column("hash", Blob(32), nullable=False, unique=True),
    Column("created", Float, nullable=False),
    Column("revoked", Float, nullable=True),
    # As "acme=write lab=read", with "*" for all namespaces.
    Column("roles", Text, nullable=False, server_default=""),
    Column("expires", Float, nullable=True),
)

# When tokens were last used, to the hour.
token_uses = Table(
    "token_uses",
    metadata,
    Column("token", String(16), primary_key=True),
    Column("at", Float, nullable=False),
)

# Sessions of browsers that ended before `until`, when they would have ended by themselves.
ended_sessions = Table(
    "ended_sessions",
    metadata,
    Column("session", String(32), primary_key=True),
    Column("until", Float, nullable=False),
)
