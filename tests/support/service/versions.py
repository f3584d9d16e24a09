"""The next version of bnfold, installed beside this one: another number, and tables that a migration has changed."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.support import ROOT

if TYPE_CHECKING:
    from pathlib import Path

THIS, NEXT = "0.1.0", "0.2.0"
SOURCES = ("folding", "service", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in")
PLACES = {"pyproject.toml": 'version = "{}"', "folding/version.py": 'VERSION = "{}"'}
MIGRATION = '''"""What the next version adds."""

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "{next}", "{last}", None, None


def upgrade():
    """Add a column, and an index."""
    op.add_column("jobs", sa.Column("note", sa.Text, nullable=False, server_default="none"))
    op.create_index("jobs_by_note", "jobs", ["note"])


def downgrade():
    """Remove them."""
    op.drop_index("jobs_by_note")
    op.drop_column("jobs", "note")
'''
# What it adds to a message of the queue.
MESSAGE = ('{"version": int(VERSION), ', '{"version": int(VERSION), "more": [1], ')


def install(folder: Path, *, breaks: bool = False) -> Path:
    """Make it out of this one, and install it with pip; the folder for PYTHONPATH.

    Where it `breaks`, its migration begins a generation of tables: this version must not run with them.
    """
    source, target = folder / "source", folder / "installed"
    source.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source / name)
    for name, text in PLACES.items():
        _change(source / name, text.format(THIS), text.format(NEXT))
    _change(source / "service" / "ledger" / "queue.py", *MESSAGE)
    versions = source / "service" / "ledger" / "migrations" / "versions"
    last = max(re.findall(r"^v(\d+)_", path.name)[0] for path in versions.glob("v*.py"))
    revision = f"{int(last[:2]) + 1:02}01" if breaks else f"{int(last) + 1:04}"
    (versions / f"v{revision}_note.py").write_text(MIGRATION.format(next=revision, last=last))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    done = subprocess.run([*pip, "--target", target, source], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target


def _change(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert text.count(before) == 1, path
    path.write_text(text.replace(before, after))
