"""What reports ask: dtypes of frames, formats of files, what chunks are used for, days."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Makes what is new."""
    for table in ("chunks", "spares"):
        op.add_column(table, sa.Column("dtype", sa.SmallInteger(), nullable=True))
    # Sketches are by dtype, and nearly every chunk has one.
    op.execute("UPDATE chunks SET dtype = (SELECT dtype FROM sketches WHERE chunk_id = chunks.id)")
    _add_number("files", "format", sa.SmallInteger())
    _add_number("files", "tensor_bytes", sa.BigInteger())
    _add_number("files", "inlined_bytes", sa.BigInteger())
    _add_number("commit_chunks", "uses", sa.Integer())
    op.create_table(
        "days",
        sa.Column("day", sa.String(length=10), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("repos", sa.Integer(), nullable=False),
        sa.Column("commits", sa.Integer(), nullable=False),
        sa.Column("logical", sa.BigInteger(), nullable=False),
        sa.Column("unique", sa.BigInteger(), nullable=False),
        sa.Column("frames", sa.BigInteger(), nullable=False),
        sa.Column("stored", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("day"),
    )


def _add_number(table: str, name: str, kind: sa.types.TypeEngine) -> None:
    op.add_column(table, sa.Column(name, kind, nullable=False, server_default="0"))
