"""The migrations of the ledger's tables: `upgrade` to the newest schema, `downgrade` by one version.

The first two digits of a version are its generation. Within one, a migration only adds what has defaults, so that a
bnfold that does not know it runs all the same, and can be restarted in the middle of an upgrade. A migration that an
older bnfold must not run with begins the next generation: 0101.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

if TYPE_CHECKING:
    from sqlalchemy import Connection

LOG = logging.getLogger("bnfold")
GENERATION = 2  # digits


def upgrade(connection: Connection) -> None:
    """Create the tables, or migrate them to the newest schema, in the caller's transaction.

    Tables of a newer bnfold that this one can use stay as they are.

    Raises:
        CommandError: a newer bnfold made the tables, in a way that this one does not understand.
    """
    config = _config(connection)
    head = ScriptDirectory.from_config(config).get_current_head() or ""
    version = MigrationContext.configure(connection).get_current_revision() or ""
    if version > head and version[:GENERATION] == head[:GENERATION]:
        LOG.warning("the ledger was migrated by a newer bnfold, to %s; this one goes on with it", version)
        return
    command.upgrade(config, "head")


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
