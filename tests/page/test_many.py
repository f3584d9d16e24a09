"""The page with several models at once, what it advises to do first, and what has an address of its own."""

from __future__ import annotations

import io
import zipfile

import onnx
import pytest
from playwright.sync_api import expect

from tests.page.test_width import WIDE, everything_open
from tests.support.page.models import varied

pytest_plugins = ["tests.support.page.browser"]

MODEL = varied()
HEADLINE = "3 of 4 BatchNormalizations folded, 1 stays"


def payload(name, data=MODEL):
    return {"name": name, "mimeType": "", "buffer": data}


def choose(visit, **files):
    visit.page.set_input_files("#file", [payload(name.replace("__", "."), data) for name, data in files.items()])


def with_open_weights():
    """A model whose initializers are inputs too: a caller may change them, so nothing folds unless they are frozen."""
    model = onnx.load_from_string(MODEL)
    for one in model.graph.initializer:
        model.graph.input.append(onnx.helper.make_tensor_value_info(one.name, one.data_type, one.dims))
    return model.SerializeToString()


@pytest.fixture
def screen(request):
    return {"viewport": {"width": getattr(request, "param", 1280), "height": 900}}


# Several models


def test_several_models_are_folded_and_listed_and_the_list_has_an_address(visit):
    choose(visit, first__onnx=MODEL, second__onnx=varied("another"), broken__onnx=b"nonsense" * 9)
    expect(visit.page.locator("#chosen")).to_have_text("first.onnx, second.onnx, broken.onnx")
    expect(visit.page.locator("#size")).to_contain_text("3 models, ")
    expect(visit.page.locator("#inspect")).to_be_disabled()
    visit.page.click("#fold")
    lines = visit.page.locator(".many li")
    for _ in ("now", "after a reload"):
        expect(visit.page.locator("#job")).to_contain_text("2 of 3 models folded")
        expect(lines).to_have_count(3)
        expect(lines.nth(0)).to_contain_text("first.onnx")
        expect(lines.nth(0)).to_contain_text(HEADLINE)
        expect(lines.nth(2)).to_contain_text("This is not a model that can be read")
        expect(visit.page.get_by_role("link", name="Download")).to_have_count(2)
        visit.page.reload()
    visit.page.get_by_role("link", name="second.onnx").click()
    expect(visit.page.locator("#report-title")).to_have_text(HEADLINE)
    visit.page.go_back()
    expect(lines).to_have_count(3)


def test_each_model_is_uploaded_with_its_own_data_files(visit):
    choose(visit, a__onnx=b"a", a__onnx__data=b"of a", ab__onnx=b"ab", ab__bin=b"of ab", c__onnx=b"c")
    expect(visit.page.locator("#chosen")).to_have_text("a.zip, ab.zip, c.onnx")
    visit.page.click("#fold")
    expect(visit.page.locator("#job")).to_contain_text("0 of 3 models folded")
    sent = [job.source.read_bytes() for job in visit.fake.jobs.values()][-3:]
    held = [zipfile.ZipFile(io.BytesIO(data)).namelist() for data in sent[:2]]
    assert (held, sent[2]) == ([["a.onnx", "a.onnx.data"], ["ab.onnx", "ab.bin"]], b"c")


def test_a_data_file_that_may_belong_to_several_models_is_asked_about(visit):
    choose(visit, a__onnx=b"a", b__onnx=b"b", weights__bin=b"w")
    expect(visit.page.get_by_role("alert")).to_contain_text("weights.bin: to which of the models does it belong?")
    expect(visit.page.locator("#fold")).to_be_disabled()


def test_one_refused_model_does_not_hold_up_the_others(visit):
    visit.may_be_refused = True
    choose(visit, busy__onnx=MODEL, good__onnx=MODEL)
    visit.page.click("#fold")
    expect(visit.page.locator("#job")).to_contain_text("1 of 2 models folded")
    expect(visit.page.locator(".many li").nth(0)).to_contain_text("The server is busy")
    expect(visit.page.locator(".many li").nth(1)).to_contain_text(HEADLINE)


def test_it_says_that_external_data_come_as_a_second_file(visit):
    expect(visit.page.locator("#hint")).to_contain_text(
        "weights in a second file, such as model.onnx.data, choose both"
    )
    detail = 'net.onnx: external data file "net.onnx.data" is missing; put it beside the model'
    advice = "m.problemCard({slug: 'invalid-model', detail: x}, [], null).querySelector('.advice').textContent"
    assert "choose both files together" in visit.module("problems", advice, detail)
    assert "choose both files together" not in visit.module("problems", advice, "net.onnx: truncated")


# What to do first


def test_what_would_fold_with_another_option_is_a_button(visit):
    visit.fold("net.onnx", with_open_weights())
    expect(visit.page.locator("#report-title")).to_contain_text("3 fold with freeze_initializers")
    visit.page.get_by_role("button", name="Fold with Freeze initializers").click()
    expect(visit.page.locator("#report-title")).to_have_text(HEADLINE)
    assert list(visit.fake.jobs.values())[-1].options.freeze_initializers


def test_an_inspection_offers_it_too(visit):
    visit.choose("net.onnx", with_open_weights())
    visit.page.click("#inspect")
    visit.page.get_by_role("button", name="Inspect with Freeze initializers").click()
    expect(visit.page.locator("#report-title")).to_have_text(HEADLINE.replace("folded", "can be folded"))


# Addresses


def test_an_inspection_has_an_address(visit):
    visit.choose("net.onnx", MODEL)
    visit.page.click("#inspect")
    visit.page.wait_for_url("**/#/plans/*")
    planned = HEADLINE.replace("folded", "can be folded")
    visit.page.reload()
    expect(visit.page.locator("#report-title")).to_have_text(planned)
    expect(visit.page.locator(".report header")).to_contain_text("net.onnx")
    expect(visit.page.get_by_role("button", name="Fold it")).to_have_count(0)  # the model is not here any more
    visit.page.click("text=Another model")
    expect(visit.page.locator(".past li")).to_contain_text(planned)
    visit.page.get_by_role("link", name="net.onnx").click()
    expect(visit.page.locator("#report-title")).to_have_text(planned)
    visit.page.goto("/")
    visit.page.click("text=Clear this list")
    visit.page.go_back()
    expect(visit.page.locator("#problem-title")).to_have_text("This inspection is not in this browser")


def test_storage_that_is_full_keeps_the_newest_inspections(visit):
    big = "'x'.repeat(2_000_000)"
    keep = f"[1, 2, 3].map((i) => m.rememberPlan({{name: `${{i}}.onnx`, size: 1}}, {{notes: {big}}}, '')).map(m.planOf)"
    assert [plan and plan["name"] for plan in visit.module("past", keep)] == [None, "2.onnx", "3.onnx"]
    assert visit.module("past", "m.rememberPlan({name: 'x', size: 1}, {notes: 'x'.repeat(9_000_000)}, '')") is None


def test_a_running_fold_has_its_name_after_a_reload(visit):
    visit.choose("very_slow.onnx", MODEL)
    visit.page.click("#fold")
    visit.page.wait_for_url("**/#/jobs/*")
    visit.page.evaluate("localStorage.clear()")
    visit.page.reload()
    expect(visit.page.locator("#progress-title")).to_have_text("very_slow.onnx")
    visit.page.get_by_role("button", name="Cancel").click()
    expect(visit.page.locator("#problem-title")).to_have_text("Cancelled")


# Copying


def test_commands_can_be_copied(visit):
    visit.context.grant_permissions(["clipboard-read", "clipboard-write"])
    visit.page.get_by_role("button", name="Copy: a command").click()
    expect(visit.page.get_by_text("Copied").first).to_be_visible()
    assert visit.page.evaluate("navigator.clipboard.readText()") == visit.page.locator("#shell").text_content()


def test_without_a_clipboard_the_command_is_selected(visit):
    visit.page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined, configurable: true })")
    visit.page.get_by_role("button", name="Copy: a command").click()
    expect(visit.page.get_by_text("Press Ctrl+C").first).to_be_visible()
    assert visit.page.evaluate("getSelection().toString()") == visit.page.locator("#shell").text_content()


# The window


@pytest.mark.parametrize("screen", [320, 1280], indirect=True)
def test_lists_of_models_fit_the_window(visit):
    names = [f"{'long_name_' * 10}{i}" for i in range(3)]
    choose(visit, **{f"{name}__onnx": MODEL for name in names})
    everything_open(visit.page)
    assert visit.page.evaluate(WIDE) == []
    visit.page.click("#fold")
    expect(visit.page.locator("#job")).to_contain_text("3 of 3 models folded")
    assert visit.page.evaluate(WIDE) == []
