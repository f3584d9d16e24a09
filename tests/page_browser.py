"""A browser for the tests of the page: Chromium without a screen, each test in a profile of its own.

Whatever a test does, two things hold at its end: nothing was asked of any other server, and nothing went wrong in the
page that the test did not announce.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from page_server import serving
from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from collections.abc import Iterator

    from page_server import Fake
    from playwright.sync_api import Browser, BrowserContext, Page

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
WIDTH, HEIGHT = 1280, 900
REFUSED = "Failed to load resource"  # how the console tells an answer that is no 2xx

# What the progress panel said, in order: a test could miss what is on the page for a moment only.
RECORD = """
window.said = [];
new MutationObserver(() => {
  const text = document.querySelector('.doing')?.textContent;
  if (text && window.said.at(-1) !== text) window.said.push(text);
}).observe(document, { subtree: true, childList: true, characterData: true });
"""


@dataclass
class Visit:
    """One user's visit: the page, the service behind it, and what the browser complained about."""

    fake: Fake
    context: BrowserContext
    page: Page
    complaints: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    may_be_refused: bool = False

    def choose(self, name: str, data: bytes) -> None:
        """Choose a file, as its dialog would."""
        self.page.set_input_files("#file", {"name": name, "mimeType": "", "buffer": data})

    def fold(self, name: str, data: bytes) -> None:
        """Choose a model and fold it; wait for the report."""
        self.choose(name, data)
        self.page.click("#fold")
        self.page.wait_for_selector("#report-title")

    def module(self, name: str, expression: str, argument: Any = None) -> Any:
        """What an expression makes of a module of the page, called `m`, and an argument, called `x`."""
        code = f"async (x) => {{ const m = await import('/static/{name}.js'); return {expression}; }}"
        return self.page.evaluate(code, argument)


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


@pytest.fixture
def settings() -> dict[str, Any]:
    """What the browser is asked for; a test that wants another screen parametrizes it."""
    return {}


@pytest.fixture
def visit(browser: Browser, fake: Fake, settings: dict[str, Any]) -> Iterator[Visit]:
    screen = {"viewport": {"width": WIDTH, "height": HEIGHT}, "color_scheme": "light"} | settings
    context = browser.new_context(base_url=fake.url, **screen)
    context.set_default_timeout(PATIENCE)
    context.add_init_script(RECORD)
    seen = Visit(fake, context, context.new_page())
    seen.page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    seen.page.on("console", lambda message: _heard(seen, message.type, message.text))
    context.on("request", lambda request: seen.asked.append(request.url))
    seen.page.goto("/")
    seen.page.wait_for_selector(".option", state="attached")
    yield seen
    context.close()
    fake.key = None
    assert seen.complaints == []
    assert [url for url in seen.asked if not url.startswith((f"{fake.url}/", f"blob:{fake.url}/"))] == []


def _heard(visit: Visit, kind: str, text: str) -> None:
    if kind in {"error", "warning"} and not (visit.may_be_refused and text.startswith(REFUSED)):
        visit.complaints.append(text)
