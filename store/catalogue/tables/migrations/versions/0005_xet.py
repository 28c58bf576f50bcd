"""What Xet clients uploaded: xorbs, files, and where the chunks of the ones are in the others."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_DIGEST = sa.LargeBinary(32)


def upgrade() -> None:
    """Makes what is new."""
    op.create_table(
        "xet_generations",
        sa.Column("id", _ID, nullable=False),
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("owner", sa.String(length=100), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
        sa.UniqueConstraint("owner"),
    )
    op.create_table(
        "xet_xorbs",
        sa.Column("id", _ID, nullable=False),
        sa.Column("generation_id", _ID, nullable=False),
        sa.Column("hash", _DIGEST, nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("chunks", sa.Integer(), nullable=False),
        sa.Column("kept", sa.Boolean(), nullable=False),
        sa.Column("used", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["generation_id"], ["xet_generations.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("generation_id", "hash"),
    )
    op.create_table(
        "xet_files",
        sa.Column("id", _ID, nullable=False),
        sa.Column("generation_id", _ID, nullable=False),
        sa.Column("hash", _DIGEST, nullable=False),
        sa.Column("sha256", _DIGEST, nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["generation_id"], ["xet_generations.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("generation_id", "hash"),
    )
    op.create_table(
        "xet_places",
        sa.Column("xorb_id", _ID, nullable=False),
        sa.Column("first", sa.Integer(), nullable=False),
        sa.Column("file_id", _ID, nullable=False),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.Column("stop", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["xorb_id"], ["xet_xorbs.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["file_id"], ["xet_files.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("xorb_id", "first", "file_id", "offset"),
    )
    op.create_index("ix_xet_places_file_id", "xet_places", ["file_id"])
    op.create_table(
        "xet_marks",
        sa.Column("hash", _DIGEST, nullable=False),
        sa.Column("xorb_id", _ID, nullable=False),
        sa.ForeignKeyConstraint(["xorb_id"], ["xet_xorbs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("hash", "xorb_id"),
    )
    op.create_index("ix_xet_marks_xorb_id", "xet_marks", ["xorb_id"])
