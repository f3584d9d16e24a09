"""The page and the real service together: what the fake service of the other tests stands for."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import onnx
import pytest
from playwright.sync_api import expect

from folding.options import option_fields
from service.problems import KINDS
from tests.page.test_width import WIDE, everything_open
from tests.support.page.models import hostile, varied
from tests.support.page.visit import Visit, opened
from tests.support.service.server import Running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

pytest_plugins = ["tests.support.page.browser"]

MODEL = varied()
HEADLINE = "3 of 4 BatchNormalizations folded, 1 stays"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with Running(tmp_path_factory.mktemp("service") / "data", None) as running:
        yield running


@pytest.fixture
def visit(browser: Browser, server: Running) -> Iterator[Visit]:
    visit = opened(browser, server.url)
    visit.begin()
    yield visit
    visit.context.close()
    visit.check()


def test_a_model_is_folded_by_the_service(visit):
    visit.fold("net.onnx", MODEL)
    expect(visit.page.locator("#report-title")).to_have_text(HEADLINE)
    with visit.page.expect_download() as download:
        visit.page.click("text=Download the folded model")
    assert download.value.suggested_filename == "net.folded.onnx"
    folded = onnx.load(download.value.path())
    assert [node.op_type for node in folded.graph.node].count("BatchNormalization") == 1
    for name in ("Report as HTML", "Report as JSON"):
        with visit.page.expect_download() as download:
            visit.page.click(f"text={name}")
        assert "bn_stays" in download.value.path().read_text()
    visit.page.reload()
    expect(visit.page.locator("#report-title")).to_have_text(HEADLINE)


def test_a_model_with_data_files_comes_back_as_it_went(visit, tmp_path):
    model, data = tmp_path / "net.onnx", "net.onnx.data"
    parts = onnx.load_from_string(MODEL)
    onnx.save(parts, model, save_as_external_data=True, location=data, size_threshold=0)
    visit.page.set_input_files("#file", [model, tmp_path / data])
    visit.page.click("#fold:enabled")
    expect(visit.page.locator("#report-title")).to_have_text(HEADLINE)
    with visit.page.expect_download() as download:
        visit.page.click("text=Download the folded model")
    assert sorted(zipfile.ZipFile(download.value.path()).namelist()) == ["net.onnx", data]


@pytest.mark.parametrize(
    ("option", "expected"),
    [("digest", ["net.onnx", "net.onnx.sha256"]), ("triton", ["served/1/model.onnx", "served/config.pbtxt"])],
)
def test_files_beside_the_model_come_with_it_as_a_zip(visit, option, expected):
    visit.page.evaluate("document.querySelectorAll('details').forEach((e) => { e.open = true; })")
    if option == "digest":
        visit.page.check("#option-digest")
    else:
        visit.page.fill("#option-triton", "served")
    visit.fold("net.onnx", MODEL)
    expect(visit.page.locator("#report-title")).to_have_text(HEADLINE)
    with visit.page.expect_download() as download:
        visit.page.click("text=Download the folded model")
    assert download.value.suggested_filename == "net.folded.zip"
    assert sorted(zipfile.ZipFile(download.value.path()).namelist()) == expected


def test_every_option_of_the_service_is_offered(visit):
    offered = visit.page.evaluate("[...document.querySelectorAll('.option [name]')].map((e) => e.name)")
    assert offered == [name for name in option_fields() if name != "inputs"]


def test_a_plan_is_shown(visit):
    visit.choose("net.onnx", MODEL)
    visit.page.click("#inspect")
    expect(visit.page.locator("#report-title")).to_have_text(HEADLINE.replace("folded", "can be folded"))


def test_names_that_look_like_markup_are_text(visit):
    visit.fold("hostile.onnx", hostile())
    assert visit.page.locator("#job :is(img, script)").count() == 0


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("broken.onnx", b"nonsense" * 9, "This is not a model that can be read"),
        ("broken.zip", b"nonsense" * 9, "This archive is not accepted"),
    ],
)
def test_what_cannot_be_folded_is_reported(visit, name, data, said):
    visit.may_be_refused = True
    visit.choose(name, data)
    visit.page.click("#fold")
    expect(visit.page.locator("#problem-title")).to_have_text(said)


def test_every_problem_of_the_service_has_a_heading_and_advice(visit):
    texts = visit.module("problems", "m.ADVICE")
    assert set(texts) >= set(KINDS)
    assert set(texts) - set(KINDS) == {"unreachable", "unreadable", "no-plan"}  # the page's own
    assert all(title and advice.endswith(".") for title, advice in texts.values())


@pytest.mark.parametrize("path", ["/docs", "/problems/", "/problems/invalid-model"])
def test_the_pages_to_read_fit_the_window(visit, path):
    visit.page.set_viewport_size({"width": 320, "height": 844})
    visit.page.goto(path)
    everything_open(visit.page)
    assert visit.page.evaluate(WIDE) == []
