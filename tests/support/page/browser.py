"""A browser for the tests of the page: Chromium without a screen, each test as if nobody had been here before.

Whatever a test does, two things hold at its end: nothing was asked of any other server, and nothing went wrong in the
page that the test did not announce.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import sync_playwright

from tests.support.page.server import serving
from tests.support.page.visit import MILLISECONDS, Visit, opened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser

    from tests.support.page.server import Fake

COMMANDS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [  # as root in a container, and without a call home
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def chromium() -> str:
    """Where the browser is; without one the test is skipped."""
    for command in COMMANDS:
        if found := shutil.which(command):
            return found
    pytest.skip("the tests of the page need Chromium, and it is not installed: `make packages` says how to get it")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    # For a module, not for the session: while it runs, no other test can run an event loop.
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium(), args=FLAGS, timeout=MILLISECONDS)
        yield running
        running.close()


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fake]:
    with serving(tmp_path_factory.mktemp("service")) as running:
        yield running


@pytest.fixture(scope="module")
def tabs(browser: Browser, fake: Fake) -> Iterator[Callable[..., Visit]]:
    """Tabs by what their screen is; one is used again, since a new one takes the browser as long as a test."""
    known: dict[str, Visit] = {}

    def tab(**settings: Any) -> Visit:
        if (name := repr(settings)) not in known:
            known[name] = opened(browser, fake.url, **settings)
            known[name].fake = fake
        return known[name]

    yield tab
    for visit in known.values():
        visit.context.close()


@pytest.fixture
def screen() -> dict[str, Any]:
    """What kind of screen a visitor has; a test for another one parametrizes it."""
    return {}


@pytest.fixture
def visit(tabs: Callable[..., Visit], screen: dict[str, Any]) -> Iterator[Visit]:
    """A visit at the start page, by a browser that was never here."""
    visit = tabs(**screen)
    visit.begin()
    yield visit
    visit.fake.key = None
    visit.page.unroute_all()
    visit.page.evaluate("localStorage.clear(); sessionStorage.clear()")
    visit.page.goto("about:blank")  # ends what the page still asks
    visit.check()
