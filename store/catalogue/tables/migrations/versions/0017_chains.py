"""Chains of deltas: derived frames have a level above that of the longest chain."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    """Gives derived frames their new level, 9 instead of 2, and the index of these with it."""
    op.drop_index("chunks_derived", "chunks")
    for table in ("chunks", "spares"):
        op.execute(f"UPDATE {table} SET level = 9 WHERE level = 2")
    derived = sa.text("level = 9")
    op.create_index(
        "chunks_derived", "chunks", ["level"], sqlite_where=derived, postgresql_where=derived
    )
