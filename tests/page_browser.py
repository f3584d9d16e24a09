"""A browser for the tests of the page: Chromium without a screen, each test as if nobody had been here before.

Whatever a test does, two things hold at its end: nothing was asked of any other server, and nothing went wrong in the
page that the test did not announce.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest
from page_server import serving
from page_visit import SCREEN, Visit
from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from page_server import Fake
    from playwright.sync_api import Browser

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
PATIENCE = 20_000  # milliseconds until a page that does not get there fails its test

# What the progress panel said, in order: a test could miss what is on the page for a moment only.
RECORD = """
window.said = [];
new MutationObserver(() => {
  const text = document.querySelector('.doing')?.textContent;
  if (text && window.said.at(-1) !== text) window.said.push(text);
}).observe(document, { subtree: true, childList: true, characterData: true });
"""


def chromium() -> str:
    """Where the browser is.

    Raises:
        RuntimeError: it is not installed; the sentence says how to.
    """
    for command in COMMANDS:
        if found := shutil.which(command):
            return found
    raise RuntimeError("the tests of the page need Chromium: run `make browser`, which installs it")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    # For a module, not for the session: while it runs, no other test can run an event loop.
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        yield running
        running.close()


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fake]:
    with serving(tmp_path_factory.mktemp("service")) as running:
        yield running


@pytest.fixture(scope="module")
def tabs(browser: Browser, fake: Fake) -> Iterator[Callable[..., Visit]]:
    """Tabs by what their screen is; one is used again, since a new one takes the browser as long as a test."""
    opened: dict[str, Visit] = {}

    def tab(**settings: Any) -> Visit:
        if (name := repr(settings)) not in opened:
            opened[name] = _opened(browser, fake, SCREEN | settings)
        return opened[name]

    yield tab
    for visit in opened.values():
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
    own = (f"{visit.fake.url}/", f"blob:{visit.fake.url}/", "about:blank")
    assert visit.complaints == []
    assert [url for url in visit.asked if not url.startswith(own)] == []


def _opened(browser: Browser, fake: Fake, settings: dict[str, Any]) -> Visit:
    context = browser.new_context(base_url=fake.url, **settings)
    context.set_default_timeout(PATIENCE)
    context.add_init_script(RECORD)
    visit = Visit(fake, context, context.new_page())
    visit.page.on("pageerror", lambda error: visit.complaints.append(str(error)))
    visit.page.on("console", lambda message: visit.hear(message.type, message.text))
    context.on("request", lambda request: visit.asked.append(request.url))
    return visit
