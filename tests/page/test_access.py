"""The page for everybody: keyboard, screen reader, small screens, dark rooms, little motion, a strict policy."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from playwright.sync_api import expect

from tests.support.page.models import hostile, varied
from tests.support.page.server import POLICY
from tests.support.page.visit import SCREEN

pytest_plugins = ["tests.support.page.browser"]

MODEL = varied()
READABLE = 4.5  # contrast of text with what is behind it, WCAG 2.2, 1.4.3
NARROW = {"width": 360, "height": 740}
PHONE = {"viewport": NARROW, "is_mobile": True, "has_touch": True}

# What a screen reader must be able to call by a name, in the browser's own accessibility tree.
NAMED = {"button", "link", "textbox", "searchbox", "spinbutton", "checkbox", "combobox", "listbox", "progressbar"}
NAMED |= {"image", "img", "heading", "region", "navigation", "form", "article", "DisclosureTriangle"}

# Every text that can be seen whose contrast with the background behind it is too small, with the contrast.
FAINT = """(least) => {
  const parsed = (text) => (text.match(/[\\d.]+/g) ?? [0, 0, 0, 0]).map(Number);
  const part = (c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) => 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = parsed(getComputedStyle(e).backgroundColor);
      if ((colour[3] ?? 1) === 1) return colour;
    }
    return [255, 255, 255];
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const faint = [];
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    const isAside = !element.checkVisibility() || element.closest(':disabled, noscript, svg');
    if (isAside || !texts.currentNode.data.trim()) continue;
    const [a, b] = [light(parsed(getComputedStyle(element).color)), light(behind(element))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < least) faint.push([texts.currentNode.data, contrast]);
  }
  return faint;
}"""
SETTLED = """() => {
  const passing = document.getAnimations().filter((one) => one.effect.getTiming().iterations === 1);
  return Promise.all(passing.map((one) => one.finished.catch(() => null)));
}"""
FAULTS = """() => {
  const ids = [...document.querySelectorAll('[id]')].map((e) => e.id);
  const twice = ids.filter((id, i) => ids.indexOf(id) !== i);
  const named = ['aria-labelledby', 'aria-describedby', 'aria-controls', 'for'];
  const lost = named.flatMap((name) => [...document.querySelectorAll(`[${name}]`)]
    .flatMap((e) => e.getAttribute(name).split(' ')).filter((id) => !document.getElementById(id)));
  const headings = [...document.querySelectorAll('h1, h2, h3, h4')].filter((e) => e.checkVisibility());
  return { twice, lost, levels: headings.map((e) => Number(e.tagName[1])), lang: document.documentElement.lang };
}"""


def start(visit):
    visit.page.click("summary:has-text('Options')")


def running(visit):
    visit.choose("very_slow.onnx", MODEL)
    visit.page.click("#fold")
    expect(visit.page.locator(".steps .now")).to_contain_text("Fold")


def done(visit):
    visit.fold("a_model_with_a_rather_long_name_that_has_to_go_somewhere.onnx", MODEL)
    for toggle in visit.page.locator(".toggle").all():
        toggle.click()


def hostile_names(visit):
    visit.fold("hostile.onnx", hostile())
    for toggle in visit.page.locator(".toggle").all():
        toggle.click()


def failed(visit):
    visit.choose("wrong.onnx", MODEL)
    visit.page.click("#fold")
    expect(visit.page.locator("#problem-title")).to_be_visible()


def came_back(visit):
    visit.fold("net.onnx", MODEL)
    visit.page.click("text=Another model")
    visit.choose("net.pth", b"x")


def key_wanted(visit):
    visit.may_be_refused = True
    visit.fake.key = "secret"
    visit.choose("net.onnx", MODEL)
    visit.page.click("#fold")
    expect(visit.page.locator("#key")).to_be_visible()


STATES = [start, running, done, hostile_names, failed, came_back, key_wanted]
every_state = pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)


def roles(visit):
    """Every node of the accessibility tree that is not ignored, as its role and name."""
    session = visit.context.new_cdp_session(visit.page)
    nodes = session.send("Accessibility.getFullAXTree")["nodes"]
    session.detach()
    return [(n["role"]["value"], n.get("name", {}).get("value", "")) for n in nodes if not n["ignored"]]


@every_state
def test_everybody_can_read_and_use_it(visit, state):
    """One visit for all questions, as coming to the state is what takes time."""
    state(visit)
    page, found = visit.page, roles(visit)
    assert len(found) > 10
    assert [(role, name) for role, name in found if role in NAMED and not name.strip()] == []
    faults = page.evaluate(FAULTS)
    assert (faults["twice"], faults["lost"], faults["lang"]) == ([], [], "en")
    assert faults["levels"].count(1) == 1
    assert faults["levels"][0] == 1
    assert all(deeper <= level + 1 for level, deeper in pairwise(faults["levels"]))
    for scheme in ("dark", "light"):
        page.emulate_media(color_scheme=scheme)
        page.evaluate(SETTLED)
        assert page.evaluate(FAINT, READABLE) == [], scheme
    page.set_viewport_size(NARROW)
    assert page.evaluate("[innerWidth, document.documentElement.scrollWidth]") == [360, 360]
    page.set_viewport_size(SCREEN["viewport"])


def test_a_dark_room_gets_a_dark_page(visit):
    visit.page.emulate_media(color_scheme="dark")
    red, green, blue = (
        int(number)
        for number in re.findall(r"\d+", visit.page.evaluate("getComputedStyle(document.body).backgroundColor"))
    )
    assert max(red, green, blue) < 60
    visit.page.emulate_media(color_scheme="light")


@pytest.mark.parametrize("screen", [PHONE], ids=["telephone"])
def test_a_telephone_needs_no_scrolling_sideways(visit):
    done(visit)
    assert visit.page.evaluate("[innerWidth, document.documentElement.scrollWidth]") == [360, 360]
    expect(visit.page.locator(".emblem")).to_be_hidden()


def test_nothing_moves_for_who_does_not_want_it(visit):
    visit.page.emulate_media(reduced_motion="reduce")
    running(visit)
    assert visit.page.evaluate("document.getAnimations().length") == 0
    visit.page.emulate_media(reduced_motion="no-preference")


def test_everything_works_from_the_keyboard(visit, tmp_path):
    page = visit.page
    model = tmp_path / "net.onnx"
    model.write_bytes(MODEL)

    def opened(_):
        """Take the place of the dialog."""

    def press(*keys):
        for key in keys:
            page.keyboard.press(key)

    def focused():
        outlined = "e => [e, e.parentElement].some((one) => getComputedStyle(one).outlineStyle !== 'none')"
        element = page.evaluate_handle("document.activeElement")
        assert page.evaluate(outlined, element), page.evaluate("e => e.outerHTML", element)
        return page.evaluate("e => e.id || e.textContent.trim()", element)

    page.on("filechooser", opened)  # from now on no dialog opens: asked only with the key, the browser may be too late
    press("Tab")
    assert focused() == "Skip to the content"
    press("Tab", "Tab")
    assert focused() == "file"
    with page.expect_file_chooser() as chooser:
        press("Enter")
    chooser.value.set_files(model)
    page.remove_listener("filechooser", opened)
    expect(page.locator("#fold")).to_be_focused()
    assert focused() == "fold"
    press("Enter")
    expect(page.locator("#report-title")).to_be_focused()
    press("Tab")
    assert focused() == "Download the folded model"
    with page.expect_download():
        press("Enter")
    while not focused().startswith("Graph"):
        press("Tab")
    press("Enter")
    expect(page.locator(".graph").first).to_be_visible()
    page.get_by_role("button", name="Another model").focus()
    press("Enter")
    expect(page.locator("#file")).to_be_focused()


def test_a_screen_reader_hears_what_happens(visit):
    visit.page.evaluate(
        "window.heard = []; new MutationObserver(() => window.heard.push(document.getElementById('live').textContent))"
        ".observe(document.getElementById('live'), { childList: true, characterData: true, subtree: true })"
    )
    visit.fold("slow.onnx", MODEL)
    heard = visit.page.evaluate("window.heard")
    wanted = ["slow.onnx is chosen", "Folding", "Writing the folded model", "Running both models side by side"]
    assert [text for text in heard if text in wanted] == wanted
    assert heard[-1] == "3 of 4 BatchNormalizations folded, 1 stays"
    assert len(heard) < 12  # no percentages: a reader would never stop


def test_the_page_runs_under_the_strictest_policy(visit):
    answer = visit.page.goto("/")
    assert answer.header_value("Content-Security-Policy") == POLICY
    assert POLICY.startswith("default-src 'self';")
    assert "unsafe" not in POLICY
    done(visit)
