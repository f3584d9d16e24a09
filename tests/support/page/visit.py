"""What a test of the page does in the browser: a visit, its uploads, and what the browser had to complain about."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from playwright.sync_api import expect

from tests.support.waiting import PATIENCE

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

    from tests.support.page.server import Fake

SCREEN = {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"}
MILLISECONDS = PATIENCE * 1000  # until a page that does not get there fails its test
REFUSED = "Failed to load resource"  # how the console reports an answer that is no 2xx

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

    url: str
    context: BrowserContext
    page: Page
    complaints: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    may_be_refused: bool = False
    fake: Fake | None = None  # the service, where it is the fake one

    def begin(self) -> None:
        """Come to the start page."""
        self.complaints, self.asked, self.may_be_refused = [], [], False
        self.page.goto("/")
        self.page.wait_for_selector(".option", state="attached")

    def hear(self, kind: str, text: str) -> None:
        """Note what the console says, unless it is a refusal that the test announced."""
        if kind in {"error", "warning"} and not (self.may_be_refused and text.startswith(REFUSED)):
            self.complaints.append(text)

    def choose(self, name: str, data: bytes) -> None:
        """Choose a file, as its dialog would."""
        self.page.set_input_files("#file", {"name": name, "mimeType": "", "buffer": data})

    def fold(self, name: str, data: bytes) -> None:
        """Choose a model and fold it; wait for the report."""
        self.choose(name, data)
        self.page.click("#fold")
        self.page.wait_for_selector("#report-title")

    def check(self) -> None:
        """Nothing was asked of any other server, and nothing went wrong that the test did not announce."""
        own = (f"{self.url}/", f"blob:{self.url}/", "about:blank")
        assert self.complaints == []
        assert [url for url in self.asked if not url.startswith(own)] == []

    def module(self, name: str, expression: str, argument: Any = None) -> Any:
        """What an expression makes of a module of the page, called `m`, and an argument, called `x`."""
        code = f"async (x) => {{ const m = await import('/static/{name}.js'); return {expression}; }}"
        return self.page.evaluate(code, argument)


def opened(browser: Browser, url: str, **settings: Any) -> Visit:
    """A browser that was never here before, which a page of this server is to be opened in."""
    context = browser.new_context(base_url=url, **SCREEN | settings)
    context.set_default_timeout(MILLISECONDS)
    expect.set_options(timeout=MILLISECONDS)
    context.add_init_script(RECORD)
    visit = Visit(url, context, context.new_page())
    visit.page.on("pageerror", lambda error: visit.complaints.append(str(error)))
    visit.page.on("console", lambda message: visit.hear(message.type, message.text))
    context.on("request", lambda request: visit.asked.append(request.url))
    return visit
