"""Indexes on the outputs of jobs: the release of a blob must find the jobs that produced it."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

OUTPUTS = ("result", "report", "page")


def upgrade() -> None:
    """Create the indexes."""
    for name in OUTPUTS:
        op.create_index(f"jobs_by_{name}", "jobs", ["key", f"{name}_sha256"])


def downgrade() -> None:
    """Remove the indexes."""
    for name in OUTPUTS:
        op.drop_index(f"jobs_by_{name}", "jobs")
