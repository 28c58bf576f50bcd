"""Sketches of chunks, and second frames of them."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_DIGEST = sa.LargeBinary(32)
_BANDS = 16


def upgrade() -> None:
    """Makes what is new."""
    op.create_table(
        "sketches",
        sa.Column("chunk_id", _ID, nullable=False),
        sa.Column("kind", sa.SmallInteger(), nullable=True),
        sa.Column("dtype", sa.SmallInteger(), nullable=False),
        sa.Column("raw_bytes", sa.BigInteger(), nullable=False),
        sa.Column("bits", _DIGEST, nullable=False),
        sa.Column("words", sa.LargeBinary(), nullable=False),
        sa.Column("planned", sa.BigInteger(), nullable=True),
        *(sa.Column(f"band{i}", sa.Integer(), nullable=True) for i in range(_BANDS)),
        sa.ForeignKeyConstraint(["chunk_id"], ["chunks.id"]),
        sa.PrimaryKeyConstraint("chunk_id"),
    )
    for i in range(_BANDS):
        filled = sa.text(f"band{i} IS NOT NULL")
        op.create_index(
            f"sketches_band{i}",
            "sketches",
            [f"band{i}"],
            sqlite_where=filled,
            postgresql_where=filled,
        )
    op.create_table(
        "spares",
        sa.Column("pack_id", _ID, nullable=False),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.Column("chunk_id", _ID, nullable=False),
        sa.Column("frame_bytes", sa.BigInteger(), nullable=False),
        sa.Column("codec", sa.SmallInteger(), nullable=False),
        sa.Column("base", _DIGEST, nullable=True),
        sa.ForeignKeyConstraint(["chunk_id"], ["chunks.id"]),
        sa.ForeignKeyConstraint(["pack_id"], ["packs.id"]),
        sa.PrimaryKeyConstraint("pack_id", "offset"),
    )
    op.create_index("ix_spares_chunk_id", "spares", ["chunk_id"])
