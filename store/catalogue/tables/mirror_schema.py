"""The catalogue's tables for repos that are copies of an upstream hub's, beside the others.

They hold what a mirror remembers of its upstream. A rebuilt catalogue has none of it: it is asked
for again.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    LargeBinary,
    String,
    Table,
    Text,
)

from .xet_schema import metadata

# `guarded`: private or gated there, so that only those may read it whom the upstream lets read it.
# `checked` is when the upstream last said so, `used` when somebody last read it, to the hour.
mirrors = Table(
    "mirrors",
    metadata,
    Column("repo", String(200), primary_key=True),
    Column("upstream", String(300), nullable=False),
    Column("guarded", Boolean, nullable=False),
    Column("checked", Float, nullable=False),
    Column("used", Float, nullable=False),
)

# What the upstream answered, by what was asked (api/mirror/answers.py).
mirror_answers = Table(
    "mirror_answers",
    metadata,
    Column("repo", ForeignKey("mirrors.repo", ondelete="CASCADE"), primary_key=True),
    Column("name", String(300), primary_key=True),
    Column("etag", String(200), nullable=True),
    Column("checked", Float, nullable=False),
    Column("body", Text, nullable=False),
)

# Files that were fetched, by the hash that the upstream names them with: SHA-256 in hexadecimal for
# those of git-lfs, else that of the git blob.
mirror_files = Table(
    "mirror_files",
    metadata,
    Column("repo", ForeignKey("mirrors.repo", ondelete="CASCADE"), primary_key=True),
    Column("etag", String(64), primary_key=True),
    Column("sha256", LargeBinary(32), nullable=False),
    Column("bytes", BigInteger, nullable=False),
)
