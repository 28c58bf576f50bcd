"""The catalogue's table of long work that operators asked a server for, beside the others.

A rebuilt catalogue has none of it: it is asked for again.
"""

from __future__ import annotations

from sqlalchemy import Column, Float, String, Table, Text

from .mirror_schema import metadata

# `slot` is the kind of a job that has not ended, so that there is one of each, and null afterwards.
# `until` is when the lease of the server that is at it ends, 0 while none is. `asked`, `progress`
# and `outcome` are JSON.
jobs = Table(
    "jobs",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("kind", String(40), nullable=False),
    Column("slot", String(40), unique=True, nullable=True),
    Column("state", String(20), nullable=False),
    Column("asked", Text, nullable=False),
    Column("created", Float, nullable=False, index=True),
    Column("until", Float, nullable=False),
    Column("progress", Text, nullable=True),
    Column("outcome", Text, nullable=True),
)
