"""Indexes of bands that answer with the chunk's id by themselves; SQLite's do anyway."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

_BANDS = 16


def upgrade() -> None:
    """Makes the indexes anew."""
    if op.get_bind().dialect.name == "sqlite":
        return
    for i in range(_BANDS):
        name = f"sketches_band{i}"
        op.drop_index(name, "sketches")
        op.create_index(
            name,
            "sketches",
            [f"band{i}"],
            postgresql_include=["chunk_id"],
            postgresql_where=sa.text(f"band{i} IS NOT NULL"),
        )
