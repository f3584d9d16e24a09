"""JUnit XML of one or many models: each BatchNormalization is a test case, and one that stays has failed.

The form is the one that CI servers read (GitLab, Jenkins, GitHub actions for tests): testsuites, testsuite, testcase.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.etree.ElementTree import indent, tostring

from folding.report.digest import is_bn, named, printable, verdict
from folding.report.gates import codes_of
from folding.report.pictures import tag

if TYPE_CHECKING:
    from collections.abc import Iterator
    from xml.etree.ElementTree import Element

    from folding.fleet.model import Entry, FleetReport
    from folding.report.model import Outcome

NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, 2.2


def render_junit(fleet: FleetReport) -> str:
    """One test suite a model; its cases are the normalizations, the verification and the gates."""
    suites = [_suite(entry) for entry in fleet.entries]
    page = tag("testsuites", suites, name="bnfold", **_totals(suites), time=f"{fleet.seconds:.3f}")
    indent(page)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{tostring(page, encoding="unicode")}\n'


def _suite(entry: Entry) -> Element:
    cases = list(_cases(entry))
    failures = sum(case.find("failure") is not None for case in cases)
    errors = sum(case.find("error") is not None for case in cases)
    seconds = entry.report.seconds if entry.report is not None else 0.0
    figures = {"tests": str(len(cases)), "failures": str(failures), "errors": str(errors), "time": f"{seconds:.3f}"}
    return tag("testsuite", cases, name=_text(entry.source), **figures)


def _totals(suites: list[Element]) -> dict[str, str]:
    keys = ("tests", "failures", "errors")
    return {key: str(sum(int(suite.get(key, "0")) for suite in suites)) for key in keys}


def _cases(entry: Entry) -> Iterator[Element]:
    report = entry.report
    for outcome in filter(is_bn, report.outcomes if report is not None else ()):
        yield _case(entry, named(outcome), *([_failure(outcome)] if outcome.status == "kept" else []))
    if report is not None and report.verification.outputs:
        said = verdict(report.verification)
        failed = [tag("failure", message=_text(said), type="verification")]
        yield _case(entry, "verification", *(failed if report.verification.status == "failed" else []))
    for broken in entry.gates:
        yield _case(entry, f"--{broken.gate}", tag("failure", message=_text(broken.sentence), type=broken.gate))
    if entry.error:
        yield _case(entry, "fold", tag("error", message=_text(entry.error), type=f"exit-{entry.code}"))


def _case(entry: Entry, name: str, *children: Element) -> Element:
    return tag("testcase", *children, classname=_text(entry.source), name=_text(name))


def _failure(outcome: Outcome) -> Element:
    ways = (("backward", outcome.backward), ("forward", outcome.forward))
    lines = [f"{way}: {met.reason} [{met.code}]{_at(met.at)}" for way, met in ways if met is not None]
    hints = dict.fromkeys(met.hint for _, met in ways if met is not None and met.hint)
    details = "\n".join(map(_text, [*lines, *(f"what to do: {hint}" for hint in hints)]))
    codes = ", ".join(codes_of(outcome)) or "untold"
    first = next((met.reason for _, met in ways if met is not None), "it stays")
    return tag("failure", details, message=_text(f"it stays: {first}"), type=codes)


def _at(node: str) -> str:
    return f", at {node}" if node else ""


def _text(text: str) -> str:
    """The text on one line, without what XML cannot hold."""
    return NOT_XML.sub("", printable(text))
