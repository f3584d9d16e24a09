"""All tests: hypothesis draws the same examples on every machine, however slow; who fails is named at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    import pytest

# Files that take a minute or more; they come first, so that no worker is left with one of them at the end
LONG = (
    "folding/test_mutation.py", "service/test_hostile.py", "service/openapi/test_schema.py", "service/test_walls.py",
    "folding/test_precision_gate.py", "folding/test_ready_gate.py", "folding/test_gate.py", "service/test_chaos.py",
)  # fmt: skip

settings.register_profile(
    "everywhere", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("everywhere")


class _Announcing:
    """Names every test that fails at once: the reasons come at the end, which may be minutes away."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        terminal = self._config.pluginmanager.getplugin("terminalreporter")
        if report.failed and terminal is not None:
            terminal.write_line(f"\nFAILED {report.nodeid} ({report.when})", red=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.path.as_posix().endswith(LONG))


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # the workers of xdist have no terminal; what they report comes here, too
        config.pluginmanager.register(_Announcing(config), "announcing")
