"""How many bytes a xorb was sent as: files made of it are in proportion to that."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0009"


def upgrade() -> None:
    """Adds the column; nobody knows it of the xorbs that are there."""
    op.add_column("xet_xorbs", sa.Column("sent", sa.BigInteger()))
