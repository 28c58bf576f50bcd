"""What a mirror remembers of its upstream hub."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    """Adds three tables; nothing is mirrored yet."""
    op.create_table(
        "mirrors",
        sa.Column("repo", sa.String(length=200), nullable=False),
        sa.Column("upstream", sa.String(length=300), nullable=False),
        sa.Column("guarded", sa.Boolean(), nullable=False),
        sa.Column("checked", sa.Float(), nullable=False),
        sa.Column("used", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("repo"),
    )
    op.create_table(
        "mirror_answers",
        sa.Column("repo", sa.String(length=200), nullable=False),
        sa.Column("name", sa.String(length=300), nullable=False),
        sa.Column("etag", sa.String(length=200), nullable=True),
        sa.Column("checked", sa.Float(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["repo"], ["mirrors.repo"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("repo", "name"),
    )
    op.create_table(
        "mirror_files",
        sa.Column("repo", sa.String(length=200), nullable=False),
        sa.Column("etag", sa.String(length=64), nullable=False),
        sa.Column("sha256", sa.LargeBinary(length=32), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["repo"], ["mirrors.repo"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("repo", "etag"),
    )
