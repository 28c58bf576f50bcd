"""The catalogue's tables for uploads over Xet, beside those of schema.py."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Integer,
    LargeBinary,
    String,
    Table,
    UniqueConstraint,
)

from .token_schema import metadata

_Id = BigInteger().with_variant(Integer, "sqlite")
_Digest = LargeBinary(32)

# What Xet clients uploaded (dedup/xet, ARCHITECTURE.md "Xet"). Clients remember for weeks which
# xorbs they sent to an address; that of an owner, a namespace of repos, holds the name of its
# generation, so a new one makes them forget. One without an owner has `ended`, at that Unix time;
# what was under way to it is still taken, for the `namespace` whose it is or was.
xet_generations = Table(
    "xet_generations",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("name", String(32), nullable=False, unique=True),
    Column("owner", String(100), nullable=True, unique=True),
    Column("namespace", String(100), nullable=True),
    Column("ended", Float, nullable=True),
)

# `kept`: its chunks are an object of their own. Otherwise they are read from files it was used in.
xet_xorbs = Table(
    "xet_xorbs",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("generation_id", ForeignKey("xet_generations.id", ondelete="CASCADE"), nullable=False),
    Column("hash", _Digest, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("chunks", Integer, nullable=False),
    Column("kept", Boolean, nullable=False),
    Column("used", Float, nullable=False),
    # Of its serialised form; not known of those from before version 0013.
    Column("sent", BigInteger),
    UniqueConstraint("generation_id", "hash"),
)

# Files by the hash that the protocol gives them.
xet_files = Table(
    "xet_files",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("generation_id", ForeignKey("xet_generations.id", ondelete="CASCADE"), nullable=False),
    Column("hash", _Digest, nullable=False),
    Column("sha256", _Digest, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    UniqueConstraint("generation_id", "hash"),
)

# The chunks [first, stop) of a xorb are the bytes of a file from `offset` on.
xet_places = Table(
    "xet_places",
    metadata,
    Column("xorb_id", ForeignKey("xet_xorbs.id", ondelete="CASCADE"), primary_key=True),
    Column("first", Integer, primary_key=True),
    Column("file_id", ForeignKey("xet_files.id", ondelete="CASCADE"), primary_key=True, index=True),
    Column("offset", BigInteger, primary_key=True),
    Column("stop", Integer, nullable=False),
)

# Chunks by which a client that remembers nothing may ask for a xorb.
xet_marks = Table(
    "xet_marks",
    metadata,
    Column("hash", _Digest, primary_key=True),
    Column("xorb_id", ForeignKey("xet_xorbs.id", ondelete="CASCADE"), primary_key=True, index=True),
)
