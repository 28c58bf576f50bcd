"""The tables of weightvault 0.1."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_DIGEST = sa.LargeBinary(32)


def upgrade() -> None:
    """Makes what is new."""
    op.create_table(
        "journal",
        sa.Column("key", sa.String(length=120), nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_table(
        "packs",
        sa.Column("id", _ID, nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("frame_bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "repos",
        sa.Column("id", _ID, nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "settings",
        sa.Column("name", sa.String(length=60), nullable=False),
        sa.Column("value", sa.String(length=200), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "chunks",
        sa.Column("id", _ID, nullable=False),
        sa.Column("digest", _DIGEST, nullable=False),
        sa.Column("pack_id", _ID, nullable=False),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.Column("frame_bytes", sa.BigInteger(), nullable=False),
        sa.Column("raw_bytes", sa.BigInteger(), nullable=False),
        sa.Column("codec", sa.SmallInteger(), nullable=False),
        sa.Column("base", _DIGEST, nullable=True),
        sa.ForeignKeyConstraint(["pack_id"], ["packs.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("digest"),
    )
    op.create_index("ix_chunks_base", "chunks", ["base"])
    op.create_index("ix_chunks_pack_id", "chunks", ["pack_id"])
    op.create_table(
        "commits",
        sa.Column("id", _ID, nullable=False),
        sa.Column("repo_id", _ID, nullable=False),
        sa.Column("oid", sa.String(length=40), nullable=False),
        sa.Column("branch", sa.String(length=255), nullable=False),
        sa.Column("parent", sa.String(length=40), nullable=True),
        sa.Column("manifest", sa.String(length=64), nullable=False),
        sa.Column("base", sa.String(length=200), nullable=True),
        sa.Column("created", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["repo_id"], ["repos.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("repo_id", "oid"),
    )
    op.create_index("ix_commits_manifest", "commits", ["manifest"])
    op.create_table(
        "commit_chunks",
        sa.Column("commit_id", _ID, nullable=False),
        sa.Column("chunk_id", _ID, nullable=False),
        sa.ForeignKeyConstraint(["chunk_id"], ["chunks.id"]),
        sa.ForeignKeyConstraint(["commit_id"], ["commits.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("commit_id", "chunk_id"),
    )
    op.create_index("ix_commit_chunks_chunk_id", "commit_chunks", ["chunk_id"])
    op.create_table(
        "files",
        sa.Column("id", _ID, nullable=False),
        sa.Column("commit_id", _ID, nullable=False),
        sa.Column("path", sa.String(length=1024), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("digest", _DIGEST, nullable=False),
        sa.Column("recipe", _DIGEST, nullable=False),
        sa.Column("tensors", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["commit_id"], ["commits.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("files_digest_recipe", "files", ["digest", "recipe"])
    op.create_index("ix_files_commit_id", "files", ["commit_id"])
    op.create_table(
        "refs",
        sa.Column("repo_id", _ID, nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("commit_id", _ID, nullable=False),
        sa.ForeignKeyConstraint(["commit_id"], ["commits.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["repo_id"], ["repos.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("repo_id", "name"),
    )
    op.create_index("ix_refs_commit_id", "refs", ["commit_id"])
