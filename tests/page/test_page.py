"""The page in a real browser: from the upload to the download, what goes wrong, and what stays when one comes back."""

from __future__ import annotations

import io
import json
import re
import zipfile

import pytest
from playwright.sync_api import expect

from folding.report.digest import headline, printable
from tests.support.page.models import HOSTILE, deep, hostile, varied

pytest_plugins = ["tests.support.page.browser"]

MODEL = varied()
SLOWLY = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 300_000}  # bytes a second
NOT_FOUND, UNREACHABLE = "This is no longer here", "The server does not answer"


@pytest.fixture
def slow_network(visit):
    session = visit.context.new_cdp_session(visit.page)
    session.send("Network.enable")
    session.send("Network.emulateNetworkConditions", SLOWLY)
    yield session
    session.detach()


def only_job(visit):
    return list(visit.fake.jobs.values())[-1]


def title(visit):
    return visit.page.locator("#job h1")


# The way through


def test_a_model_is_uploaded_folded_reported_and_downloaded(visit):
    visit.fold("net.onnx", MODEL)
    job = only_job(visit)
    assert job.source.read_bytes() == MODEL
    expect(visit.page.locator("#report-title")).to_have_text(headline(job.report))
    expect(visit.page.locator("#report-title")).to_be_focused()
    assert visit.page.url.endswith(f"#/jobs/{job.id}")
    with visit.page.expect_download() as download:
        visit.page.click("text=Download the folded model")
    assert download.value.suggested_filename == "net.folded.onnx"
    assert download.value.path().read_bytes() == job.target.read_bytes() != MODEL


def test_progress_is_shown_from_the_upload_to_the_verification(visit, slow_network):
    visit.fold("slow.onnx", varied(remark="long " * 60_000))
    said = visit.page.evaluate("window.said")
    for stage in ("Uploading", "Folding", "Writing the folded model", "Running both models side by side"):
        shares = [int(match[1]) for text in said if (match := re.fullmatch(rf"{stage}, (\d+) %", text))]
        assert shares, (stage, said)
        assert shares == sorted(shares)
        assert shares[-1] > 0


def test_a_dropped_model_is_chosen(visit):
    hand = visit.page.evaluate_handle(
        "() => { const d = new DataTransfer(); d.items.add(new File(['x'], 'dropped.onnx')); return d; }"
    )
    visit.page.dispatch_event("#form", "drop", {"dataTransfer": hand})
    expect(visit.page.locator("#chosen")).to_have_text("dropped.onnx")
    expect(visit.page.locator("#fold")).to_be_focused()


def test_options_come_from_the_service_and_go_back_to_it(visit):
    page = visit.page
    page.click("summary:has-text('Options')")
    about = page.locator("#about-leftover")
    expect(about).to_have_text(
        "What becomes of a BatchNormalization that stays: as it is, Mul + Add, or a depthwise Conv."
    )
    page.fill("#option-keep", "/stem/*\n/head/*")
    page.select_option("#option-leftover", "affine")
    page.uncheck("#option-merge_branches")
    expect(page.locator("#changed")).to_have_text("3 changed")
    expect(page.locator("#shell")).to_contain_text("leftover=affine&merge_branches=false'")
    visit.fold("net.onnx", MODEL)
    options = only_job(visit).options
    assert (options.keep, options.leftover, options.merge_branches) == (("/stem/*", "/head/*"), "affine", False)
    assert options.verify


def test_inspecting_shows_the_plan_and_keeps_nothing(visit):
    visit.choose("net.onnx", MODEL)
    jobs = len(visit.fake.jobs)
    visit.page.click("#inspect")
    expect(visit.page.locator("#report-title")).to_have_text("3 of 4 BatchNormalizations can be folded, 1 stays")
    assert len(visit.fake.jobs) == jobs
    expect(visit.page.locator("text=Download the folded model")).to_have_count(0)
    visit.page.click("text=Fold it")
    expect(visit.page.locator("#report-title")).to_have_text("3 of 4 BatchNormalizations folded, 1 stays")


def test_a_model_and_its_data_files_travel_as_a_zip(visit):
    files = {"net.onnx": b"model", "net.onnx.data": bytes(range(256)) * 500, "größe.bin": b""}
    payloads = [{"name": name, "mimeType": "", "buffer": data} for name, data in files.items()]
    visit.page.set_input_files("#file", payloads)
    expect(visit.page.locator("#chosen")).to_have_text("net.zip")
    visit.page.click("#fold")
    expect(title(visit)).to_have_text("This is not a model that can be read")  # the fake service takes no zip
    with zipfile.ZipFile(io.BytesIO(only_job(visit).source.read_bytes())) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == files


# The report


def test_the_graph_around_a_fold_is_drawn_before_and_after(visit):
    visit.fold("net.onnx", MODEL)
    page = visit.page
    toggle = page.get_by_role("button", name="Graph before and after /stage1/bn_join/BatchNormalization is folded")
    expect(toggle).to_have_attribute("aria-expanded", "false")
    expect(page.locator(".graph")).to_have_count(0)
    toggle.click()
    expect(toggle).to_have_attribute("aria-expanded", "true")
    producers = "/stage1/left/conv/Conv, Conv{0} and /stage1/right/conv/Conv, Conv{0}, then /stage1/join/Concat, Concat"
    before, after = page.locator(".graph").all()
    assert before.get_attribute("aria-label") == (
        f"Before: {producers.format('')}, then /stage1/bn_join/BatchNormalization, BatchNormalization, 8 channels"
    )
    new = ", its constants hold the map now"
    assert after.get_attribute("aria-label") == f"After: {producers.format(new)}, passed through, as it was"
    assert page.locator(".graph .old").count() == 1
    assert page.locator(".graph .new").count() == 2
    toggle.click()
    expect(page.locator(".graph").first).to_be_hidden()


def test_what_stays_is_explained(visit):
    visit.fold("net.onnx", MODEL)
    visit.page.get_by_role("button", name="why /head/bn_stays/BatchNormalization stays").click()
    card = visit.page.locator(".stay")
    expect(card.locator("h3")).to_be_focused()
    expect(card).to_contain_text("Asinh neither absorbs nor passes a scale and shift")
    expect(card).to_contain_text("backward at /head/act/Asinh, forward at asinh10")


def test_a_long_table_opens_on_request_and_can_be_searched(visit):
    visit.fold("deep.onnx", deep(70))
    rows = visit.page.locator(".affines tbody th")
    expect(rows).to_have_count(60)
    visit.page.click("text=Show all 70")
    expect(rows).to_have_count(70)
    visit.page.fill("input[type=search]", "layer42/")
    expect(rows).to_have_text(["/layer42/bn/BatchNormalization"])
    visit.page.fill("input[type=search]", "nowhere")
    expect(visit.page.locator(".affines tbody")).to_have_text("No node has such a name.")


def test_names_that_look_like_markup_are_text(visit):
    visit.fold(f"{HOSTILE[:20]}.onnx", hostile())
    for toggle in visit.page.locator(".toggle").all():
        toggle.click()
    shown = visit.page.locator("#job").inner_text()
    assert printable(f"{HOSTILE} bn") in shown.replace("\n", "")
    assert not {"\x1b", "\u202e"} & set(shown)
    assert visit.page.locator("#job :is(img, script)").count() == 0
    assert visit.page.locator(".graph title").first.text_content().count("<img src=x")


def test_the_report_can_be_taken_along(visit):
    visit.fold("net.onnx", MODEL)
    for text, name in (("Report as JSON", "net.folded.report.json"), ("Report as HTML", "net.folded.report.html")):
        with visit.page.expect_download() as download:
            visit.page.click(f"text={text}")
        assert download.value.suggested_filename == name
        content = download.value.path().read_text()
        assert json.loads(content)["bn_after"] == 1 if "JSON" in text else "<h1>" in content


# What goes wrong


def test_a_failed_verification_is_shown_with_its_report(visit):
    visit.choose("wrong.onnx", MODEL)
    visit.page.click("#fold")
    expect(title(visit)).to_have_text("The folded model computes something else, so it was thrown away")
    expect(title(visit)).to_be_focused()
    expect(visit.page.locator(".detail")).to_contain_text("where the original gives")
    expect(visit.page.locator("h2#report-title")).to_contain_text("was thrown away")
    expect(visit.page.locator(".outputs .wrong")).to_have_text("failed")
    expect(visit.page.locator("text=Download the folded model")).to_have_count(0)


def test_a_file_that_is_no_model_is_reported(visit):
    visit.choose("broken.onnx", b"nonsense" * 50)
    visit.page.click("#fold")
    expect(title(visit)).to_have_text("This is not a model that can be read")
    expect(visit.page.locator(".detail")).to_contain_text("truncated or corrupt")
    visit.page.click("text=For a bug report")
    expect(visit.page.locator(".technical")).to_contain_text("invalid-model")


def test_an_option_that_does_not_fit_can_be_changed(visit):
    visit.choose("net.onnx", MODEL)
    visit.page.click("summary:has-text('Options')")
    visit.page.fill("#option-keep", "nothing-of-that-name")
    visit.page.click("#fold")
    expect(title(visit)).to_have_text("An option does not fit")
    visit.page.click("text=Other options")
    visit.page.fill("#option-keep", "")
    visit.page.click("#fold")
    expect(visit.page.locator("#report-title")).to_be_visible()


def test_a_busy_server_says_when_to_come_back(visit):
    visit.may_be_refused = True
    visit.choose("busy.onnx", MODEL)
    visit.page.click("#fold")
    expect(title(visit)).to_have_text("The server is busy")
    expect(visit.page.locator(".advice")).to_contain_text("wait 3 seconds")
    expect(visit.page.get_by_role("button", name="Try again")).to_be_visible()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("net.pth", "net.pth is a checkpoint of weights, without a graph. Export the model first"),
        ("net.tar", "Use a .zip."),
        ("readme.txt", "does not end in .onnx or .zip"),
        ("net.onnx", "net.onnx is empty, or a folder."),
    ],
)
def test_a_file_that_cannot_be_a_model_is_reported_before_it_is_sent(visit, name, said):
    visit.choose(name, b"" if name == "net.onnx" else b"x")
    expect(visit.page.get_by_role("alert")).to_contain_text(said)
    expect(visit.page.locator("#fold")).to_be_disabled()
    visit.choose("good.onnx", b"x")
    expect(visit.page.get_by_role("alert")).to_be_hidden()
    expect(visit.page.locator("#fold")).to_be_enabled()


def test_a_fold_can_be_cancelled(visit):
    visit.choose("very_slow.onnx", MODEL)
    visit.page.click("#fold")
    expect(visit.page.locator(".steps .now")).to_contain_text("Fold")
    visit.page.get_by_role("button", name="Cancel").click()
    expect(title(visit)).to_have_text("Cancelled")
    assert only_job(visit).status == "cancelled"


def test_an_upload_can_be_cancelled(visit, slow_network):
    slow_network.send("Network.emulateNetworkConditions", SLOWLY | {"uploadThroughput": 1000})  # it takes an hour
    visit.choose("large.onnx", bytes(3_000_000))
    jobs = len(visit.fake.jobs)
    visit.page.click("#fold")
    expect(visit.page.locator(".doing")).to_contain_text("Uploading")
    visit.page.get_by_role("button", name="Cancel").click()
    expect(title(visit)).to_have_text("Cancelled")
    assert len(visit.fake.jobs) == jobs


def test_a_lost_connection_is_reported_and_found_again(visit):
    visit.may_be_refused = True
    lost = []

    def drop(route):
        lost.append(route)
        route.abort() if len(lost) < 2 else route.continue_()

    visit.page.route(re.compile(r"/v1/jobs/\w+(\?wait=\d+)?$"), drop)
    visit.choose("slow.onnx", MODEL)
    visit.page.click("#fold")
    expect(visit.page.locator(".lost")).to_be_visible()
    expect(visit.page.locator("#report-title")).to_be_visible()


def test_a_server_that_asks_for_a_key_gets_one(visit):
    visit.may_be_refused = True
    visit.fake.key = "secret"
    visit.choose("net.onnx", MODEL)
    visit.page.click("#fold")
    expect(title(visit)).to_have_text("This server asks for a key")
    visit.page.fill("#key", "secret")
    visit.page.keyboard.press("Enter")
    expect(visit.page.locator("#report-title")).to_be_visible()
    with visit.page.expect_download() as download:
        visit.page.click("text=Download the folded model")
    assert download.value.path().read_bytes() == only_job(visit).target.read_bytes()
    assert visit.page.evaluate("JSON.stringify(localStorage)").count("secret") == 0


# Coming back


def test_the_history_survives_a_reload_and_can_be_deleted(visit):
    page = visit.page
    for name in ("first.onnx", "second.onnx"):
        visit.fold(name, MODEL)
        page.click("text=Another model")
    page.reload()
    entries = page.locator(".past li")
    expect(entries).to_have_count(2)
    expect(entries.first).to_contain_text("second.onnx")
    expect(entries.first).to_contain_text("3 of 4 BatchNormalizations folded, 1 stays")
    page.get_by_role("link", name="first.onnx").click()
    expect(page.locator("#report-title")).to_be_visible()
    page.go_back()
    page.get_by_role("button", name="Remove second.onnx from this list").click()
    expect(entries).to_have_count(1)
    page.click("text=Clear this list")
    expect(page.locator("#past")).to_contain_text("in this browser only")
    page.reload()
    expect(entries).to_have_count(0)


def test_a_running_fold_is_found_again_after_a_reload(visit):
    visit.choose("slow.onnx", MODEL)
    visit.page.click("#fold")
    visit.page.wait_for_url("**/#/jobs/*")
    visit.page.reload()
    expect(visit.page.locator("#report-title")).to_have_text("3 of 4 BatchNormalizations folded, 1 stays")


def test_a_job_that_is_gone_can_be_removed_from_the_list(visit):
    visit.may_be_refused = True
    visit.fold("net.onnx", MODEL)
    visit.page.click("text=Another model")
    visit.fake.jobs.clear()
    visit.page.get_by_role("link", name="net.onnx").click()
    expect(title(visit)).to_have_text(NOT_FOUND)
    visit.page.click("text=Remove it from my list")
    expect(visit.page.locator(".past li")).to_have_count(0)


@pytest.mark.parametrize("stored", ["not json", '[1, null, {"id": "<img>"}]', '{"id": "aa"}'])
def test_a_history_that_is_not_ours_is_passed_over(visit, stored):
    visit.page.evaluate("text => localStorage.setItem('bnfold.jobs', text)", stored)
    visit.page.reload()
    expect(visit.page.locator("#past")).to_contain_text("in this browser only")
    visit.fold("net.onnx", MODEL)
