"""Keys that expire, that are rotated, and whose contents are erased."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

ADDED = ("expires", "previous", "previous_until", "erasing")


def upgrade() -> None:
    """Add the columns."""
    op.add_column("keys", sa.Column("expires", sa.Double))
    op.add_column("keys", sa.Column("previous", sa.String(64)))
    op.add_column("keys", sa.Column("previous_until", sa.Double))
    op.add_column("keys", sa.Column("erasing", sa.Boolean, nullable=False, server_default=sa.false()))


def downgrade() -> None:
    """Remove the columns."""
    for name in ADDED:
        op.drop_column("keys", name)
