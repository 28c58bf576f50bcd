"""Frames with any number of inputs, and a table to look these up both ways."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0011"


def upgrade() -> None:
    """A base becomes the one input of its delta; nothing is derived yet."""
    op.drop_index("ix_chunks_base", "chunks")
    for table in ("chunks", "spares"):
        op.execute(f"ALTER TABLE {table} RENAME COLUMN base TO inputs")
        level = sa.Column("level", sa.SmallInteger(), nullable=False, server_default="0")
        op.add_column(table, level)
        op.execute(f"UPDATE {table} SET level = 1 WHERE inputs IS NOT NULL")
    derived = sa.text("level = 2")
    op.create_index(
        "chunks_derived", "chunks", ["level"], sqlite_where=derived, postgresql_where=derived
    )
    op.create_table(
        "chunk_inputs",
        sa.Column("chunk_id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
        sa.Column("position", sa.SmallInteger(), nullable=False),
        sa.Column("input", sa.LargeBinary(length=32), nullable=False),
        sa.ForeignKeyConstraint(["chunk_id"], ["chunks.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("chunk_id", "position"),
        sqlite_with_rowid=False,
    )
    op.execute(
        "INSERT INTO chunk_inputs (chunk_id, position, input) "
        "SELECT id, 0, inputs FROM chunks WHERE inputs IS NOT NULL ORDER BY id"
    )
    op.create_index("ix_chunk_inputs_input", "chunk_inputs", ["input"])
