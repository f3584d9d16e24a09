"""Whose fault the end of an attempt was, and a clock that only a running server advances."""

from __future__ import annotations

import json
import time

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TIMES = (("holdings", "used"), ("idempotency", "created"), ("webhooks", "updated"), ("webhooks", "due"))
COUNTS = ("crashes", "kills", "interruptions")
KNOWN = ("rate", "open_jobs", "bytes")  # the quotas of the version before


def upgrade() -> None:
    """Add the columns, and a clock that begins with the time of the times that are stored."""
    for name in COUNTS:
        op.add_column("jobs", sa.Column(name, sa.Integer, nullable=False, server_default="0"))
    op.add_column("jobs", sa.Column("touched", sa.Double, nullable=False, server_default="0"))
    op.execute("UPDATE jobs SET touched = updated")
    clock = op.create_table(
        "clock", sa.Column("id", sa.Integer, primary_key=True), sa.Column("seconds", sa.Double, nullable=False)
    )
    op.bulk_insert(clock, [{"id": 1, "seconds": time.time()}])


def downgrade() -> None:
    """Set the stored times to those of the system's clock, and remove what the version before does not know."""
    connection = op.get_bind()
    ahead = time.time() - connection.execute(sa.text("SELECT seconds FROM clock")).scalar_one()
    for table, column in TIMES:
        connection.execute(sa.text(f"UPDATE {table} SET {column} = {column} + :ahead"), {"ahead": ahead})  # noqa: S608
    for id_, quota in connection.execute(sa.text("SELECT id, quota FROM keys")).all():
        known = {name: value for name, value in json.loads(quota).items() if name in KNOWN}
        values = {"quota": json.dumps(known), "id": id_}
        connection.execute(sa.text("UPDATE keys SET quota = :quota WHERE id = :id"), values)
    op.drop_table("clock")
    for name in ("touched", *COUNTS):
        op.drop_column("jobs", name)
