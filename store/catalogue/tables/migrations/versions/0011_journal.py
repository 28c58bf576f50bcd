"""What each journal entry is about, which entries it names, and which are settled as lost."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Adds the columns and the table; entries taken in before say nothing of it."""
    op.add_column("journal", sa.Column("about", sa.String(length=200), nullable=True))
    op.add_column(
        "journal", sa.Column("lost", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    op.create_table(
        "journal_edges",
        sa.Column("key", sa.String(length=120), nullable=False),
        sa.Column("after", sa.String(length=120), nullable=False),
        sa.PrimaryKeyConstraint("key", "after"),
    )
    op.create_index("ix_journal_edges_after", "journal_edges", ["after"])
