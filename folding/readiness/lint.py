"""Findings in the JSON form of Polygraphy's ``polygraphy check lint``, which tools around TensorRT read.

    {"summary": {"passing": [...], "failing": [...]},
     "lint_entries": [{"level": "exception", "source": "...", "message": "...", "nodes": ["..."]}, ...]}

An entry without nodes is about the whole model. What fails is an exception, what falls back a warning, what is unfused
an information: Polygraphy's three levels. `failing` are the operators that fail, `passing` all others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from folding.graph.index import Graph
    from folding.report.findings import Finding

LEVELS = {"fails": "exception", "falls-back": "warning", "unfused": "info"}


def lint(findings: Iterable[Finding], graph: Graph) -> dict[str, Any]:
    """The findings about a model as Polygraphy's report."""
    listed = list(findings)
    failing = {finding.node for finding in listed if finding.severity == "fails" and finding.node}
    labels = dict.fromkeys(node.label for node in graph.nodes())
    return {
        "summary": {
            "passing": [label for label in labels if label not in failing],
            "failing": [label for label in labels if label in failing],
        },
        "lint_entries": [_entry(finding) for finding in listed],
    }


def _entry(finding: Finding) -> dict[str, Any]:
    message = f"{finding.sentence}; {finding.advice}" if finding.advice else finding.sentence
    entry: dict[str, Any] = {"level": LEVELS[finding.severity], "source": finding.source, "message": message}
    return entry | {"nodes": [finding.node]} if finding.node else entry
