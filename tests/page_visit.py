"""What a test of the page does in the browser: a visit, its uploads, and what the browser had to complain about."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from page_server import Fake
    from playwright.sync_api import BrowserContext, Page

SCREEN = {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"}
REFUSED = "Failed to load resource"  # how the console tells an answer that is no 2xx


@dataclass
class Visit:
    """One user's visit: the page, the service behind it, and what the browser complained about."""

    fake: Fake
    context: BrowserContext
    page: Page
    complaints: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    may_be_refused: bool = False

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

    def module(self, name: str, expression: str, argument: Any = None) -> Any:
        """What an expression makes of a module of the page, called `m`, and an argument, called `x`."""
        code = f"async (x) => {{ const m = await import('/static/{name}.js'); return {expression}; }}"
        return self.page.evaluate(code, argument)
