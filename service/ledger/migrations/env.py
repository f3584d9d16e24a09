"""The environment of alembic: runs the migrations on the ledger's connection."""

from __future__ import annotations

from alembic import context

from service.ledger.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
