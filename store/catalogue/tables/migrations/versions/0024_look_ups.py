"""Chunks that are standalone and those that nobody encodes yet are found without the others."""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"


def upgrade() -> None:
    """Adds two indexes."""
    standalone = sa.text("level = 0")
    op.create_index(
        "chunks_standalone", "chunks", ["id"], sqlite_where=standalone, postgresql_where=standalone
    )
    op.create_index("uncoded_claimed", "uncoded", ["claimed", "chunk_id"])
