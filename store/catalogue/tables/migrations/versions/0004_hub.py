"""Titles of commits, tags, hashes of files, uploads without a commit, tokens."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_DIGEST = sa.LargeBinary(32)


def upgrade() -> None:
    """Makes what is new."""
    for name in ("title", "message", "author"):
        op.add_column("commits", sa.Column(name, sa.Text(), nullable=True))
    public = sa.Column("public", sa.Boolean(), nullable=False, server_default=sa.false())
    op.add_column("repos", public)
    op.create_table(
        "tags",
        sa.Column("repo_id", _ID, nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("commit_id", _ID, nullable=False),
        sa.Column("message", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["repo_id"], ["repos.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["commit_id"], ["commits.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("repo_id", "name"),
    )
    op.create_index("ix_tags_commit_id", "tags", ["commit_id"])
    op.create_table(
        "hashes",
        sa.Column("digest", _DIGEST, nullable=False),
        sa.Column("sha256", _DIGEST, nullable=False),
        sa.Column("git_sha1", sa.LargeBinary(20), nullable=False),
        sa.PrimaryKeyConstraint("digest"),
    )
    op.create_index("ix_hashes_sha256", "hashes", ["sha256"])
    _create_loose_files()
    op.create_table(
        "uncoded",
        sa.Column("chunk_id", _ID, nullable=False),
        sa.Column("claimed", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["chunk_id"], ["chunks.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("chunk_id"),
    )
    op.create_table(
        "tokens",
        sa.Column("id", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("hash", _DIGEST, nullable=False),
        sa.Column("role", sa.String(length=10), nullable=False),
        sa.Column("namespace", sa.String(length=100), nullable=True),
        sa.Column("created", sa.Float(), nullable=False),
        sa.Column("revoked", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("hash"),
    )


def _create_loose_files() -> None:
    op.create_table(
        "loose_files",
        sa.Column("id", _ID, nullable=False),
        sa.Column("sha256", _DIGEST, nullable=False),
        sa.Column("repo", sa.String(length=200), nullable=False),
        sa.Column("digest", _DIGEST, nullable=False),
        sa.Column("recipe", _DIGEST, nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("manifest", sa.String(length=64), nullable=False),
        sa.Column("expires", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("sha256", "repo"),
    )
    op.create_index("ix_loose_files_manifest", "loose_files", ["manifest"])
    op.create_index("ix_loose_files_digest", "loose_files", ["digest"])
    op.create_table(
        "loose_chunks",
        sa.Column("loose_id", _ID, nullable=False),
        sa.Column("chunk_id", _ID, nullable=False),
        sa.ForeignKeyConstraint(["loose_id"], ["loose_files.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["chunk_id"], ["chunks.id"]),
        sa.PrimaryKeyConstraint("loose_id", "chunk_id"),
    )
    op.create_index("ix_loose_chunks_chunk_id", "loose_chunks", ["chunk_id"])
