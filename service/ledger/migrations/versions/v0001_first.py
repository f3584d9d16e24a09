"""The first tables: keys, jobs, holdings, idempotency."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

DIGEST = sa.String(64)


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "keys",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("hash", DIGEST, nullable=False),
        sa.Column("scopes", sa.Text, nullable=False),
        sa.Column("quota", sa.Text, nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("revoked", sa.Double),
    )
    op.create_table(
        "jobs",
        sa.Column("key", sa.String(32), primary_key=True),
        sa.Column("id", DIGEST, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("input_sha256", DIGEST, nullable=False),
        sa.Column("input_bytes", sa.BigInteger, nullable=False),
        sa.Column("archive", sa.Boolean, nullable=False),
        sa.Column("options", sa.Text, nullable=False),
        sa.Column("engine", sa.Text, nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("updated", sa.Double, nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("stage", sa.String(16)),
        sa.Column("progress", sa.Double, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("result_sha256", DIGEST),
        sa.Column("result_bytes", sa.BigInteger),
        sa.Column("media", sa.Text, nullable=False),
        sa.Column("report_sha256", DIGEST),
        sa.Column("report_bytes", sa.BigInteger),
        sa.Column("page_sha256", DIGEST),
        sa.Column("page_bytes", sa.BigInteger),
        sa.Column("problem", sa.String(64)),
        sa.Column("detail", sa.Text),
    )
    op.create_table(
        "holdings",
        sa.Column("key", sa.String(32), primary_key=True),
        sa.Column("sha256", DIGEST, primary_key=True),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("used", sa.Double, nullable=False),
    )
    op.create_table(
        "idempotency",
        sa.Column("key", sa.String(32), primary_key=True),
        sa.Column("token", sa.String(255), primary_key=True),
        sa.Column("fingerprint", DIGEST, nullable=False),
        sa.Column("created", sa.Double, nullable=False),
    )
    op.create_index("jobs_by_status", "jobs", ["status", "created"])
    op.create_index("jobs_by_input", "jobs", ["key", "input_sha256"])
    op.create_index("jobs_by_update", "jobs", ["updated"])
    op.create_index("holdings_by_content", "holdings", ["sha256"])
    op.create_index("holdings_by_use", "holdings", ["used"])


def downgrade() -> None:
    """Remove the tables."""
    for table in ("idempotency", "holdings", "jobs", "keys"):
        op.drop_table(table)
