"""Lists of a hub select repos by what their cards and files say, which is read when a list asks."""

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"


def upgrade() -> None:
    """Adds tables, empty, and the columns that say which repos are not in them yet."""
    whole = sa.Integer()
    op.add_column("repos", sa.Column("branch_changes", whole, nullable=False, server_default="0"))
    op.add_column("repos", sa.Column("described", whole, nullable=False, server_default="-1"))
    pending = sa.text("described != branch_changes")
    op.create_index(
        "repos_undescribed", "repos", ["id"], sqlite_where=pending, postgresql_where=pending
    )
    _add_facts()
    _add_labels()


def _repo_id() -> sa.Column:
    key = sa.ForeignKey("repos.id", ondelete="CASCADE")
    return sa.Column("repo_id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), key)


def _add_facts() -> None:
    op.create_table(
        "repo_facts",
        _repo_id(),
        sa.Column("created", sa.Float(), nullable=False),
        sa.Column("parameters", sa.BigInteger(), nullable=True),
        sa.Column("pipeline_tag", sa.String(200), nullable=True),
        sa.Column("library", sa.String(200), nullable=True),
        sa.PrimaryKeyConstraint("repo_id"),
    )
    for name in ("parameters", "pipeline_tag"):
        op.create_index(f"ix_repo_facts_{name}", "repo_facts", [name])
    op.create_index("repo_facts_by_created", "repo_facts", ["created", "repo_id"])


def _add_labels() -> None:
    op.create_table(
        "repo_labels",
        sa.Column("label", sa.String(200), nullable=False),
        _repo_id(),
        sa.Column("place", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("label", "repo_id"),
    )
    op.create_index("ix_repo_labels_repo_id", "repo_labels", ["repo_id"])
