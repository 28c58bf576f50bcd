"""Chunks that were sent for a namespace: what a commit there may name."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Makes the table."""
    op.create_table(
        "received",
        sa.Column("namespace", sa.String(length=100), nullable=False),
        sa.Column("chunk_id", _ID, nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["chunk_id"], ["chunks.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("namespace", "chunk_id"),
    )
    op.create_index("ix_received_chunk_id", "received", ["chunk_id"])
    op.create_index("ix_received_at", "received", ["at"])
