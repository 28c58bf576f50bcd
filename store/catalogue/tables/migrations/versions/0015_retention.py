"""Which commits of its repos each namespace keeps."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    """Makes the table."""
    numbers = ("last", "hourly", "daily", "weekly", "monthly", "yearly")
    op.create_table(
        "retention",
        sa.Column("namespace", sa.String(length=100), nullable=False),
        *(sa.Column(name, sa.Integer(), nullable=True) for name in numbers),
        sa.Column("within_seconds", sa.Float(), nullable=True),
        sa.Column("tagged", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("entry", sa.String(length=120), nullable=False),
        sa.PrimaryKeyConstraint("namespace"),
    )
