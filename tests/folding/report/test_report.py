"""The renderings say what the report holds, first things first, and no name of a model is ever more than text."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from folding.report.digest import (
    beside,
    deed,
    duration,
    figure,
    file_size,
    headline,
    listed,
    printable,
    scale_range,
    sensitivity,
    short_name,
    shorten,
    size_change,
    sizes,
    verdict,
    worst_output,
)
from folding.report.html import render_html
from folding.report.markdown import code, prose, render_markdown
from folding.report.model import OutputError, Report, Verification
from folding.report.text import render_text, render_verification
from tests.support.reports import (
    CLAMP,
    EMPTY,
    EVERY,
    FAILED,
    FREEZE,
    HOSTILE_REPORT,
    NOT_VERIFIED,
    VARIED,
    bn,
    kept,
    report,
)

VOID = {"meta", "wbr"}
WIDTHS = (40, 80, 120)
UNSEEN = 'not even a change of 10 % of a folded bias (output "1")'
NARROWEST_TABLE = 56  # the figures of an output beside a name of eight letters: what no layout can narrow
ANSI = re.compile(r"\x1b\[\d+m")

every_report = pytest.mark.parametrize("example", EVERY.values(), ids=EVERY.keys())


# What is said


@pytest.mark.parametrize(
    ("example", "said"),
    [
        (report(bn()), "1 of 1 BatchNormalization folded"),
        (report(bn(), kept()), "1 of 2 BatchNormalizations folded, 1 stays"),
        (report(kept(), kept()), "0 of 2 BatchNormalizations folded, 2 stay"),
        (report(bn(), target=None), "1 of 1 BatchNormalization can be folded"),
        (report(bn(operator="Mul")), "No BatchNormalization; 1 of 1 other per-channel maps folded"),
        (EMPTY, "Nothing to fold: the model holds no BatchNormalization and no other per-channel map"),
        (
            report(bn(), verification=FAILED),
            "1 of 1 BatchNormalization folded, but the result is wrong and was thrown away",
        ),
        (
            report(*map(kept, "abc"), offers=(FREEZE, CLAMP)),
            "0 of 3 BatchNormalizations folded, 3 stay; 2 fold with --freeze-initializers, 1 more with --clamp always",
        ),
        (
            report(bn(), kept(), target=None, offers=(CLAMP,)),
            "1 of 2 BatchNormalizations can be folded, 1 stays; 1 more folds with --clamp always",
        ),
        (
            report(bn(operator="Mul"), offers=(FREEZE,)),
            "No BatchNormalization; 1 of 1 other per-channel maps folded; 2 more fold with --freeze-initializers",
        ),
        (
            report(bn(), kept(), verification=FAILED, offers=(CLAMP,)),
            "1 of 2 BatchNormalizations folded, 1 stays, but the result is wrong and was thrown away",
        ),
    ],
)
def test_headline(example: Report, said: str) -> None:
    assert headline(example) == said


@pytest.mark.parametrize(
    ("example", "said"),
    [
        (report(bn()), "in.onnx -> out.onnx, in 500 ms"),
        (report(bn(), seconds=0.0), "in.onnx -> out.onnx"),
        (report(bn(), target=None), "in.onnx, nothing is written, in 500 ms"),
        (report(bn(), verification=FAILED), "in.onnx, nothing is written, in 500 ms"),
    ],
)
def test_deed(example: Report, said: str) -> None:
    assert deed(example) == said


@pytest.mark.parametrize(
    ("example", "said"),
    [
        (report(bn()), ("97.8 MB", "97.6 MB", "-210 kB")),
        (report(bn(), target=None), ("97.8 MB", "", "")),
        (report(bn(), verification=FAILED), ("97.8 MB", "", "")),
    ],
)
def test_the_size_of_what_was_not_written_is_not_shown(example: Report, said: tuple[str, str, str]) -> None:
    assert sizes(example) == said


@pytest.mark.parametrize(("seconds", "said"), [(0.0, "0 ms"), (0.43, "430 ms"), (1.0, "1.0 s"), (75.25, "75.2 s")])
def test_duration(seconds: float, said: str) -> None:
    assert duration(seconds) == said


@pytest.mark.parametrize(
    ("verification", "said"),
    [
        (
            VARIED.verification,
            "Verified: the largest error is 3.1e-06 where 2.4e-05 is tolerated (1 output, 3 samples, 2.1 s)",
        ),
        (Verification("verified", samples=1), "Verified (1 sample, 0 ms)"),
        (Verification("verified", "nothing was folded"), "Verified: nothing was folded"),
        (FAILED, 'Verification failed: output "boxes" differs by 0.31'),
        (NOT_VERIFIED, "Not verified: no kernel for Custom"),
        (Verification("not verified"), "Not verified"),
    ],
)
def test_verdict(verification: Verification, said: str) -> None:
    assert verdict(verification) == said


@pytest.mark.parametrize(
    ("measured", "said"),
    [
        ([(0.0, 0.0)], ""),
        ([(0.001, 0.0), (0.01, 0.0)], "The samples show a change of 1 % of a folded weight"),
        (
            [(0.001, 0.1), (0.001, 1.0)],
            f"The samples show a change of 0.1 % of a folded weight and {UNSEEN}",
        ),
    ],
)
def test_what_the_samples_show_is_said_in_every_form(measured: list[tuple[float, float]], said: str) -> None:
    outputs = tuple(
        OutputError(str(i), 0.0, 0.0, 0.0, 1.0, ok=True, sensitivity=weights, bias_sensitivity=biases)
        for i, (weights, biases) in enumerate(measured)
    )
    verification = Verification("verified", outputs=outputs, notes=("something else",))
    assert sensitivity(verification) == said
    whole = report(bn(), verification=verification)
    for text in (
        whole.to_text(200),
        whole.to_markdown(),
        whole.to_html(),
        render_verification(verification, width=200),
    ):
        assert "something else" in text
        assert ("The samples show" in text) == bool(said)
    assert whole.as_dict()["verification"]["outputs"][0]["sensitivity"] == measured[0][0]


@pytest.mark.parametrize(
    ("errors", "worst"),
    [
        ([(1.0, 2.0, True), (1.0, 1.5, True)], 1),
        ([(5.0, 6.0, True), (1.0, 100.0, False)], 1),
        ([(9.0, 1.0, False), (float("nan"), 1.0, False)], 1),
        ([(0.0, 0.0, True), (1.0, 2.0, True)], 1),
        ([(1.0, 0.0, False), (1.0, 0.5, False)], 0),
    ],
)
def test_the_worst_output(errors: list[tuple[float, float, bool]], worst: int) -> None:
    outputs = [OutputError(str(i), error, 0.0, 0.0, limit, ok) for i, (error, limit, ok) in enumerate(errors)]
    assert worst_output(outputs).name == str(worst)


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.00 kB"),
        (97_812_345, "97.8 MB"),
        (9_999_999, "10.0 MB"),
        (123_456_789_012, "123 GB"),
    ],
)
def test_file_size(size: int, said: str) -> None:
    assert file_size(size) == said


@pytest.mark.parametrize(
    ("before", "after", "said"), [(5, 5, "same size"), (5000, 2000, "-3.00 kB"), (0, 12, "+12 bytes")]
)
def test_size_change(before: int, after: int, said: str) -> None:
    assert size_change(before, after) == said


@pytest.mark.parametrize(
    ("number", "said"), [(0.0, "0"), (3.14159, "3.14"), (1.23456e-7, "1.23e-07"), (float("nan"), "nan")]
)
def test_figure(number: float, said: str) -> None:
    assert figure(number) == said


@pytest.mark.parametrize(
    ("changes", "said"),
    [({}, "0.25 .. 2"), ({"scale_min": 2.0}, "2"), ({"channels": 0}, ""), ({"scale_min": 0.0}, "0 .. 2")],
)
def test_scale_range(changes: dict[str, Any], said: str) -> None:
    assert scale_range(bn(**changes)) == said


@pytest.mark.parametrize(
    ("text", "width", "said"),
    [("short", 5, "short"), ("abcdefghij", 8, "ab...hij"), ("abcdefghij", 3, "..."), ("abcdefghij", 4, "...j")],
)
def test_shorten(text: str, width: int, said: str) -> None:
    assert shorten(text, width) == said


@pytest.mark.parametrize(
    ("label", "node", "said"),
    [
        ("/layer1/conv1/Conv", "/layer1/bn1/BatchNormalization", ".../conv1/Conv"),
        ("/a/b/conv", "/a/b/bn", ".../conv"),
        ("/ab/conv", "/a/bn", "/ab/conv"),
        ("conv1", "bn1", "conv1"),
        ("/conv1", "/bn1", "/conv1"),
        ("a/bn", "a/bn", ".../bn"),
    ],
)
def test_shared_scopes_are_left_out_beside_a_name(label: str, node: str, said: str) -> None:
    assert beside(label, node) == said


@pytest.mark.parametrize(
    ("node", "said"), [("/a/bn1/BatchNormalization", "/a/bn1/..."), ("/BatchNormalization", "/BatchNormalization")]
)
def test_a_name_need_not_repeat_its_operator(node: str, said: str) -> None:
    assert short_name(bn(node)) == said


@pytest.mark.parametrize(("shown", "said"), [(1, "a and 2 more"), (3, "a, b, c"), (9, "a, b, c")])
def test_listed(shown: int, said: str) -> None:
    assert listed(["a", "b", "c"], shown) == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("é 层", "é 层"),
        ("a\x1b[31m", r"a\x1b[31m"),
        ("\u202eab", r"\u202eab"),
        ("\ud800", r"\ud800"),
        ("a\nb", r"a\nb"),
    ],
)
def test_printable(text: str, said: str) -> None:
    assert printable(text) == said


# JSON


@every_report
def test_json_is_strict_and_complete(example: Report) -> None:
    text = example.to_json()
    assert text.isascii()
    assert json.loads(text, parse_constant=pytest.fail) == example.as_dict()
    assert len(example.as_dict()["outcomes"]) == len(example.outcomes)


def test_figures_that_are_not_finite_become_null() -> None:
    nans = report(bn(), verification=FAILED).as_dict()["verification"]["outputs"][1]
    assert (nans["name"], nans["max_absolute"], nans["max_relative"]) == ("nans", None, None)


# Text


@every_report
@pytest.mark.parametrize("width", WIDTHS)
def test_text_keeps_to_its_width_and_to_itself(example: Report, width: int) -> None:
    text = render_text(example, width=width)
    assert all(line.isprintable() and not line.endswith(" ") for line in text.splitlines())
    assert max(map(len, text.splitlines())) <= max(width, NARROWEST_TABLE)


@every_report
def test_colour_changes_nothing_but_colour(example: Report) -> None:
    assert ANSI.sub("", render_text(example, colour=True)) == render_text(example)
    assert "\x1b" in render_text(example, colour=True)


def test_text_says_first_things_first() -> None:
    text = render_text(VARIED, width=100)
    ordered = [
        "in.onnx -> out.onnx",
        "4 of 8 BatchNormalizations folded, 1 split (one Mul or Add is left of each), 3 stay",
        "Verified: ",
        "BatchNormalization        8 -> 3",
        "size                97.8 MB -> 97.6 MB  (-210 kB)",
        "a/bn1 -> a/conv1  |scale| 0.25 .. 2",
        "bn_moved -> q, k, v",
        "through relu, reshape",
        "bn_split -> matmul",
        "bn_merged -> bn_next",
        "bn_removed",
        "What stays, and why: 3",
        "1 x backward   another operator reads the value, at cat [other-consumer]",
        "forward    a shift does not pass zero padding, at conv9 [zero-padding]",
        "what to do pad explicitly",
        "1 x both ways  it was exported in training mode [training-mode]",
        "what to do call eval()",
        "nodes      bn_untold",
        "What is left of those folded in part, and why: 1",
        "1 x both ways  Asinh passes nothing, at asinh [barrier]",
        "what to do nothing",
        "nodes      Add matmul.add behind matmul",
        "Other per-channel maps (Mul, Add, ...): 2 of 3 folded",
        "mul1 -> conv7",
        "1 x Add kept; backward: another operator reads the value [other-consumer]; forward: a",
        "what to do: pad explicitly",
        "1 x Add left; both ways: Asinh passes nothing [barrier]; what to do: nothing",
        "Note: Two nodes are read by nobody.",
    ]
    places = [text.find(part) for part in ordered]
    assert -1 not in places, ordered[places.index(-1)]
    assert places == sorted(places)


def test_long_lists_are_cut_in_the_text_and_complete_elsewhere() -> None:
    names = [f"bn{i:03}" for i in range(62)]
    large = report(*(bn(f"folded_{name}") for name in names), *(kept(name) for name in names))
    text, markdown, page = render_text(large), render_markdown(large), re.sub("<[^>]*>", "", render_html(large))
    assert "... and 52 more; --json lists all" in text
    assert re.search(r"62 x backward", text)
    assert re.search(r"and\s+58 more; --json lists all", text)
    for name in names:
        assert all(f"{kind}{name}" in form for kind in ("folded_", "") for form in (markdown, page))
    assert "bn061" not in text


def test_a_failed_verification_shows_the_failing_outputs_first() -> None:
    for text in (render_text(report(bn(), verification=FAILED)), render_verification(FAILED)):
        assert text.index("nans") < text.index("logits")
        assert text.count("FAILED") == 2


def test_the_verdict_of_verify_names_its_inputs() -> None:
    assert "inputs: generated: input float32 1x3x224x224" in render_verification(VARIED.verification)


# Markdown


@every_report
def test_markdown_tables_have_as_many_cells_as_their_head(example: Report) -> None:
    width = 0
    for line in render_markdown(example).splitlines():
        width = 0 if not line.startswith("|") else width or line.count("|")
        assert line.count("|") == width or not line.startswith("|"), line


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("conv1.bn_2", "`conv1.bn_2`"),
        ("a|b", "<code>a&#124;b</code>"),
        ("a`b", "<code>a&#96;b</code>"),
        (" a", "<code>&#32;a</code>"),
        ("", "<code></code>"),
        ("<b>", "`<b>`"),
    ],
)
def test_names_as_markdown_code(name: str, said: str) -> None:
    assert code(name) == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a shift, at 0.5", "a shift, at 0.5"),
        ("# title", "&#35; title"),
        ("> quote", "&#62; quote"),
        ("<script>", "&#60;script>"),
        ("@someone #12", "&#64;someone &#35;12"),
        ("![x](y)", "&#33;&#91;x&#93;(y)"),
    ],
)
def test_prose_is_inert_in_markdown(text: str, said: str) -> None:
    assert prose(text) == said


def test_markdown_holds_no_markup_of_a_hostile_name() -> None:
    text = render_markdown(HOSTILE_REPORT)
    assert "<script" not in text
    assert "](" not in text
    assert "\x1b" not in text
    assert "\n# h" not in text
