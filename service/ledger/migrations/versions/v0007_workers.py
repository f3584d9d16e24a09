"""Workers on other machines: which of them has a job, and which attempt of the job may change it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

ADDED = ("run", "worker", "parked")


def upgrade() -> None:
    """Add the columns, and the table of workers."""
    op.add_column("jobs", sa.Column("run", sa.String(32), nullable=False, server_default=""))
    op.add_column("jobs", sa.Column("worker", sa.BigInteger))
    op.add_column("jobs", sa.Column("parked", sa.Boolean, nullable=False, server_default=sa.false()))
    op.create_table(
        "workers",
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("engine", sa.Text, nullable=False),
        sa.Column("slots", sa.Integer, nullable=False),
        sa.Column("began", sa.Double, nullable=False),
        sa.Column("draining", sa.Boolean, nullable=False),
    )


def downgrade() -> None:
    """Remove them."""
    op.drop_table("workers")
    for name in ADDED:
        op.drop_column("jobs", name)
