"""Generations of Xet uploads that have ended still take what is under way, for whose they were."""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0018"


def upgrade() -> None:
    """Adds whose each generation is or was, and when it ended. What ended before is empty."""
    op.add_column("xet_generations", sa.Column("namespace", sa.String(100)))
    op.add_column("xet_generations", sa.Column("ended", sa.Float))
    op.execute("UPDATE xet_generations SET namespace = owner")
