"""Tombstones, damage on record, and when packs were last found right."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_DIGEST = sa.LargeBinary(32)


def upgrade() -> None:
    """Makes what is new."""
    op.create_table(
        "tombstones",
        sa.Column("key", sa.String(length=120), nullable=False),
        sa.Column("since", sa.Float(), nullable=False),
        sa.Column("removed", sa.Float(), nullable=True),
        sa.Column("foreign", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_table(
        "damage",
        sa.Column("pack_id", _ID, nullable=False),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.Column("digest", _DIGEST, nullable=False),
        sa.Column("reason", sa.String(length=300), nullable=False),
        sa.Column("found", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["pack_id"], ["packs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("pack_id", "offset"),
    )
    op.create_index("ix_damage_digest", "damage", ["digest"])
    op.create_table(
        "verified",
        sa.Column("pack_id", _ID, nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["pack_id"], ["packs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("pack_id"),
    )
