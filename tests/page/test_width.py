"""On a telephone nothing is wider than the window, however long the names of a model are; long names are broken."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from playwright.sync_api import expect

from folding.report.model import Leftover, OutputError, Report, Verification
from tests.support.models import Model
from tests.support.page.visit import Visit  # noqa: TC001  pytest reads it
from tests.support.reports import GOOD, PADDED, SHARED, bn, kept, report

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytest_plugins = ["tests.support.page.browser"]

WIDTHS = [320, 390, 800, 1280]
LONG = f"/backbone/stages.3/{'reparameterized_' * 12}/{'x' * 150}/BatchNormalization_output_0"

# What reaches beyond the window. Drawings are scaled; what is only there for screen readers is cut off where it stands.
WIDE = """() => [...document.querySelectorAll("body *")].filter((one) => {
  const seen = !one.closest("svg") && !one.closest("thead, .hidden") && one.getBoundingClientRect().width > 0;
  return seen && one.getBoundingClientRect().right > document.documentElement.clientWidth + 0.5;
}).map((one) => one.outerHTML.slice(0, 200)).concat(
  document.documentElement.scrollWidth > document.documentElement.clientWidth ? ["the page scrolls sideways"] : [])"""


def long_named() -> Report:
    """A report in which every name is long."""
    padded = replace(PADDED, reason=f"{LONG} is padded with zeros", at=LONG, hint=f"pad {LONG} before")
    output = OutputError(LONG, 3.1e-6, 1.2e-6, 8.8e-7, 2.4e-5, ok=True)
    left = Leftover(f"{LONG}.add", "Add", LONG, padded, SHARED)
    return report(
        bn(LONG, path=(LONG, LONG), absorbed_by=(LONG, LONG), operators=("Relu", "Relu", "Conv", "Conv")),
        kept(LONG, padded, SHARED),
        bn(LONG, "split", direction="backward", absorbed_by=(LONG,), left=(left,)),
        bn(LONG, operator="Mul", absorbed_by=(LONG,)),
        bn(LONG, "kept", operator="Add", backward=padded, forward=SHARED),
        verification=Verification("verified", "", 3, f"generated: {LONG} float32 1x3x224x224", (output, GOOD), 2.1),
        source=f"/home{LONG}.onnx",
        target=f"/folded{LONG}.onnx",
        notes=(f"functions were inlined: {LONG}",),
    )


def model() -> bytes:
    m = Model(dtype=np.float32)
    x = m.op("Relu", m.bn(m.conv(m.x(1, 3, 8, 8), 6, name=f"{LONG}/Conv"), name=LONG))
    x = m.bn(m.op("Asinh", x, name=f"{LONG}/Asinh"), name=f"{LONG}2")
    m.op("Add", m.op("Asinh", x), m.constant((6, 1, 1)), name=f"{LONG}/Add")
    return m.build().SerializeToString()


def everything_open(page: Page) -> None:
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")


@pytest.fixture
def screen(request: pytest.FixtureRequest) -> dict[str, Any]:
    return {"viewport": {"width": request.param, "height": 844}}


@pytest.mark.parametrize("screen", WIDTHS, indirect=True)
def test_the_html_report_fits_its_window(visit: Visit) -> None:
    page = visit.context.new_page()  # the service's has a policy against the styles that a report holds
    page.set_content(long_named().to_html())
    everything_open(page)
    assert page.evaluate(WIDE) == []
    page.close()


@pytest.mark.parametrize("screen", WIDTHS, indirect=True)
def test_the_page_fits_its_window(visit: Visit) -> None:
    visit.fold(f"{'long_name_' * 12}.onnx", model())
    for button in visit.page.locator(".toggle").all():
        button.click()
    everything_open(visit.page)
    assert visit.page.evaluate(WIDE) == []


@pytest.mark.parametrize("screen", WIDTHS, indirect=True)
def test_a_report_on_the_page_fits_its_window(visit: Visit) -> None:
    show = "document.getElementById('job').replaceChildren(m.reportView(x, 'net.onnx', []))"
    visit.module("report", show, long_named().as_dict())
    visit.page.evaluate("for (const one of document.querySelectorAll('main > *')) one.hidden = one.id !== 'job'")
    expect(visit.page.locator("#report-title")).to_be_visible()
    everything_open(visit.page)
    assert visit.page.evaluate(WIDE) == []
