"""The report over a fleet as Markdown for a pull request; no name from a model can become markup."""

from __future__ import annotations

from typing import TYPE_CHECKING

from folding.fleet.model import staying_groups
from folding.fleet.text import cells, heads
from folding.report.digest import counted
from folding.report.markdown import code, prose

if TYPE_CHECKING:
    from collections.abc import Iterator

    from folding.fleet.model import Entry, FleetReport, Staying

MARKS = {"failed": "❌", "gate not passed": "❌"}


def render_markdown(fleet: FleetReport) -> str:
    """The whole report as GitHub-flavoured Markdown; it lists every model and every normalization that stays."""
    models, bn, size = heads(fleet)
    blocks = [
        f"# {prose(models)}",
        f"{prose(bn)}  \n{prose(size)}",
        "\n".join(_rows(fleet)),
        *_staying(fleet),
        f"bnfold {prose(fleet.version)}",
    ]
    return "\n\n".join(blocks) + "\n"


def _rows(fleet: FleetReport) -> Iterator[str]:
    yield "| | model | BatchNormalization | nodes | size | outcome |"
    yield "| --- | --- | ---: | ---: | ---: | --- |"
    for entry in fleet.entries:
        name, *figures, outcome = cells(entry)
        shown = " | ".join(figure.replace("->", "→") for figure in figures)
        yield f"| {mark(entry)} | {code(name)} | {shown} | {prose(outcome)} |"


def mark(entry: Entry) -> str:
    """A sign for the eye: of a failure, of normalizations that stay, or that all is well."""
    return MARKS.get(entry.status, "⚠️" if entry.report is not None and staying_groups([entry]) else "✅")


def _staying(fleet: FleetReport) -> Iterator[str]:
    groups = staying_groups(fleet.entries)
    if groups:
        yield "## What stays, and why"
    for group in groups:
        yield "\n".join(_group(group))


def _group(group: Staying) -> Iterator[str]:
    number, models = counted(len(group.nodes), "BatchNormalization"), counted(len(group.models), "model")
    yield f"### {number} in {models}: {prose(group.codes or 'untold')}\n"
    yield from (f"- {prose(sentence)}" for sentence in group.sentences)
    yield "\n<details><summary>all of them</summary>\n"
    yield from (f"- {code(model)}: {code(node)}" for model, node in group.nodes)
    yield "\n</details>"
