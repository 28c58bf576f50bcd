"""Repos are found by the names that they had, and by other capital letters."""

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"


def upgrade() -> None:
    """Adds an index and a table, empty: nobody knows what was moved before."""
    op.create_index("repos_by_folded_name", "repos", [sa.text("lower(name)")])
    key = sa.ForeignKey("repos.id", ondelete="CASCADE")
    number = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "repo_moves",
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("repo_id", number, key, nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_index("ix_repo_moves_repo_id", "repo_moves", ["repo_id"])
