"""The migrations of the ledger's tables: `upgrade` to the newest schema, `downgrade` by one version."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

if TYPE_CHECKING:
    from sqlalchemy import Connection


def upgrade(connection: Connection) -> None:
    """Create the tables, or migrate them to the newest schema, in the caller's transaction."""
    command.upgrade(_config(connection), "head")


def downgrade(connection: Connection) -> str:
    """Migrate the tables to the schema before theirs, in the caller's transaction; return its version.

    Raises:
        LookupError: there is no older version.
        CommandError: a newer bnfold made theirs.
    """
    config = _config(connection)
    version = MigrationContext.configure(connection).get_current_revision()
    older = version and str(ScriptDirectory.from_config(config).get_revision(version).down_revision or "")
    if not older:
        raise LookupError(f"there is no version before {version}")
    command.downgrade(config, older)
    return older


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    return config
