"""Tokens with a role in each of several namespaces, that expire; when they were last used; and
sessions of browsers that have ended."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0013"


def upgrade() -> None:
    """Turns role and namespace into roles, and makes the tables."""
    op.add_column("tokens", sa.Column("roles", sa.Text(), nullable=False, server_default=""))
    op.add_column("tokens", sa.Column("expires", sa.Float(), nullable=True))
    op.execute("UPDATE tokens SET roles = COALESCE(namespace, '*') || '=' || role")
    op.drop_column("tokens", "role")
    op.drop_column("tokens", "namespace")
    op.create_table(
        "token_uses",
        sa.Column("token", sa.String(length=16), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("token"),
    )
    op.create_table(
        "ended_sessions",
        sa.Column("session", sa.String(length=32), nullable=False),
        sa.Column("until", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("session"),
    )
