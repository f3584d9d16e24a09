"""What reports say beyond folding: changes by kind, what a runtime makes of the file, and what to do with it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from folding.report.changes import EXAMPLES, Change
from folding.report.findings import Finding
from folding.report.model import Report
from folding.report.ready import finding_groups, is_refused, merged, readiness
from folding.report.text import render_text
from tests.support.reports import HOSTILE, bn, report

IDENTITY = Change("cleaned", "Identity removed", 2, ("id1", "id2"))
GELU = Change("fused", "GELU written as Gelu", 1, ("gelu",), "fuse:0:y")
NONZERO = Finding("nz", "NonZero", "fails", "operator", "TensorRT has no NonZero", "operators.md", "leave it out")
TOPK = Finding("top", "TopK", "falls-back", "operator", "it has no TopK", "operators.md")
NORM = Finding("norm", "Div", "unfused", "idiom", "it runs in parts", "", "give `fuse`")
READY = report(
    bn(),
    runtime="TensorRT 11",
    changes=(IDENTITY, replace(GELU, nbytes=2000)),
    findings=(NORM, NONZERO, replace(NONZERO, node="nz2")),
    recipe=("trtexec --onnx=out.onnx",),
)


def test_changes_of_one_kind_are_one():
    many = [Change("cleaned", "Identity removed", 1, (f"id{i}",), f"clean:{i}", 10) for i in range(EXAMPLES + 5)]
    assert merged([GELU, *many]) == (
        GELU,
        Change("cleaned", "Identity removed", 15, tuple(f"id{i}" for i in range(EXAMPLES)), "", 150),
    )


@pytest.mark.parametrize(
    ("findings", "said", "refused"),
    [
        ((), "TensorRT 11 takes every operator", False),
        ((NORM,), "TensorRT 11: 1 idiom runs in parts", False),
        ((NONZERO,), "TensorRT 11: 1 operator is refused", True),
        ((NONZERO, NONZERO, TOPK), "TensorRT 11: 2 operators are refused, 1 operator runs on the CPU", True),
    ],
)
def test_readiness_is_one_sentence(findings, said, refused):
    made = replace(READY, findings=findings)
    assert readiness(made) == said
    assert is_refused(findings) == refused
    assert said in made.to_text()
    assert said in made.to_html()


def test_without_a_runtime_nothing_is_said_of_one():
    assert readiness(report(bn())) == ""


def test_what_fails_comes_first():
    groups = finding_groups([NORM, TOPK, NONZERO, replace(NONZERO, node="nz2")])
    assert [(group.first.severity, len(group.findings)) for group in groups] == [
        ("fails", 2),
        ("falls-back", 1),
        ("unfused", 1),
    ]
    assert groups[0].operators == "NonZero"


def test_the_text_has_all_of_it():
    text = render_text(READY, width=100)
    for line in (
        "Removed or computed ahead: 2",
        "  2 x Identity removed",
        "Written as one operator: 1",
        "  1 x GELU written as Gelu, +2.00 kB",
        "What TensorRT 11 does not run as it is: 3",
        "  2 x refused    NonZero: TensorRT has no NonZero [operator]",
        "      what to do leave it out",
        "      nodes      nz, nz2",
        "  trtexec --onnx=out.onnx",
    ):
        assert line in text.splitlines(), line


def test_markdown_and_html_have_all_of_it():
    for page in (READY.to_markdown(), READY.to_html()):
        for part in ("Identity removed", "GELU written as Gelu", "nz2", "TensorRT has no NonZero", "leave it out"):
            assert part in page
        assert "trtexec --onnx=out.onnx" in page


def test_a_report_comes_back_from_json():
    assert Report.from_dict(READY.as_dict()) == READY


def test_flags_are_those_of_the_command_line():
    assert READY.with_flags().findings[0].advice == "give --fuse"


def test_hostile_names_stay_text():
    hostile = replace(
        READY,
        changes=(replace(IDENTITY, kind=HOSTILE, examples=(HOSTILE,)),),
        findings=(replace(NONZERO, node=HOSTILE, sentence=HOSTILE, advice=HOSTILE, source=HOSTILE),),
        recipe=(HOSTILE,),
        runtime=HOSTILE,
    )
    text, page, markdown = hostile.to_text(), hostile.to_html(), hostile.to_markdown()
    assert "<script>" not in page
    assert all(line.startswith("    ") for line in markdown.splitlines() if "<script>" in line)  # a block of code
    for form in (text, page, markdown):
        assert "\x1b" not in form
        assert "\u202e" not in form
