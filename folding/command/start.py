"""The entry point of the command, which imports the rest when Ctrl-C already ends it quietly."""

# ruff: noqa: PLC0415  that is its purpose

from __future__ import annotations

from folding.process.quit import INTERRUPTED, quit_when_interrupted


def main() -> int:
    """Run the command line of this process and return its exit code."""
    quit_when_interrupted()
    try:
        from folding.command.main import main as run

        return run()
    except KeyboardInterrupt:
        return INTERRUPTED
