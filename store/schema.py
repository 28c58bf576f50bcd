"""The catalogue's tables. Digests are 32 raw bytes; times are Unix seconds; sizes are bytes."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    UniqueConstraint,
)

metadata = MetaData()

# SQLite only counts up by itself in a column of exactly INTEGER type.
_Id = BigInteger().with_variant(Integer, "sqlite")
_Digest = LargeBinary(32)

packs = Table(
    "packs",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("bytes", BigInteger, nullable=False),
    Column("frame_bytes", BigInteger, nullable=False),
)

# Where each digest lives. `base` is the digest of the base of a delta: rows may arrive before
# their base's row when a catalogue is rebuilt pack by pack, so it is no foreign key.
chunks = Table(
    "chunks",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("digest", _Digest, nullable=False, unique=True),
    Column("pack_id", ForeignKey("packs.id"), nullable=False, index=True),
    Column("offset", BigInteger, nullable=False),
    Column("frame_bytes", BigInteger, nullable=False),
    Column("raw_bytes", BigInteger, nullable=False),
    Column("codec", SmallInteger, nullable=False),
    Column("base", _Digest, nullable=True, index=True),
)

repos = Table(
    "repos",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("name", String(200), nullable=False, unique=True),
)

commits = Table(
    "commits",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("repo_id", ForeignKey("repos.id", ondelete="CASCADE"), nullable=False),
    Column("oid", String(40), nullable=False),
    Column("branch", String(255), nullable=False),
    Column("parent", String(40), nullable=True),
    Column("manifest", String(64), nullable=False, index=True),
    Column("base", String(200), nullable=True),
    Column("created", Float, nullable=False),
    UniqueConstraint("repo_id", "oid"),
)

refs = Table(
    "refs",
    metadata,
    Column("repo_id", ForeignKey("repos.id", ondelete="CASCADE"), primary_key=True),
    Column("name", String(255), primary_key=True),
    Column("commit_id", ForeignKey("commits.id", ondelete="CASCADE"), nullable=False, index=True),
)

# `recipe` identifies the segments a file is made of: a (digest, recipe) pair that is here was
# decoded and hashed once and need not be again.
files = Table(
    "files",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("commit_id", ForeignKey("commits.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("path", String(1024), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("digest", _Digest, nullable=False),
    Column("recipe", _Digest, nullable=False),
    Column("tensors", Integer, nullable=False),
    Index("files_digest_recipe", "digest", "recipe"),
)

commit_chunks = Table(
    "commit_chunks",
    metadata,
    Column("commit_id", ForeignKey("commits.id", ondelete="CASCADE"), primary_key=True),
    Column("chunk_id", ForeignKey("chunks.id"), primary_key=True, index=True),
)

# Which journal entries this catalogue has taken in.
journal = Table("journal", metadata, Column("key", String(120), primary_key=True))

# One row per fact about the catalogue itself, such as its schema version.
settings = Table(
    "settings",
    metadata,
    Column("name", String(60), primary_key=True),
    Column("value", String(200), nullable=False),
)
