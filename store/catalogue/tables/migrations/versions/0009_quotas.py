"""Quotas of namespaces, and an index to find the repos that declare another as their base."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Makes the table and the index."""
    op.create_table(
        "quotas",
        sa.Column("namespace", sa.String(length=100), nullable=False),
        sa.Column("stored", sa.BigInteger(), nullable=True),
        sa.Column("logical", sa.BigInteger(), nullable=True),
        sa.Column("repos", sa.Integer(), nullable=True),
        sa.Column("in_flight", sa.BigInteger(), nullable=True),
        sa.Column("requests_per_minute", sa.Integer(), nullable=True),
        sa.Column("cpu_seconds_per_minute", sa.Integer(), nullable=True),
        sa.Column("entry", sa.String(length=120), nullable=False),
        sa.Column("used_stored", sa.BigInteger(), nullable=True),
        sa.Column("used_logical", sa.BigInteger(), nullable=True),
        sa.Column("used_repos", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("namespace"),
    )
    op.create_index("ix_commits_base", "commits", ["base"])
