"""The catalogue's tables of what lists of a hub select repos by, and of names that repos had.

What cards and files of default branches say (store/catalogue/repo_facts.py) is read again after a
catalogue was rebuilt. Names of before (store/catalogue/files/moved_repos.py) go with it.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, ForeignKey, Index, String, Table

from .job_schema import metadata

# `created` is when the first commit was made; `parameters` is how many its tensors have, NULL for
# none. A label is a tag as lists show it.
repo_facts = Table(
    "repo_facts",
    metadata,
    Column("repo_id", ForeignKey("repos.id", ondelete="CASCADE"), primary_key=True),
    Column("created", Float, nullable=False),
    Column("parameters", BigInteger, nullable=True, index=True),
    Column("pipeline_tag", String(200), nullable=True, index=True),
    Column("library", String(200), nullable=True),
    Index("repo_facts_by_created", "created", "repo_id"),
)

repo_labels = Table(
    "repo_labels",
    metadata,
    Column("label", String(200), primary_key=True),
    Column("repo_id", ForeignKey("repos.id", ondelete="CASCADE"), primary_key=True, index=True),
    Column("place", BigInteger, nullable=False),
)

# A name that a repo had before it was moved.
repo_moves = Table(
    "repo_moves",
    metadata,
    Column("name", String(200), primary_key=True),
    Column("repo_id", ForeignKey("repos.id", ondelete="CASCADE"), nullable=False, index=True),
)
