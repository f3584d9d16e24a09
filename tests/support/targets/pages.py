"""A page for every target, written from its data: what it takes, what it fuses, and who says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from folding.targets.model import NAMES, load
from tests.support import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from folding.targets.model import Operator, Span, Target

FOLDER = ROOT / "docs" / "targets"
WRITTEN = {
    "operator": "the standard operator",
    "form": "as it is written: the runtime fuses that",
    "none": "as it is written: it runs as several operators either way",
}


def paths() -> dict[str, Path]:
    """The page of each target."""
    return {name: FOLDER / f"{name}.md" for name in NAMES}


def page(name: str) -> str:
    target = load(name)
    parts = [_head(target), _policy(target), _idioms(target), _operators(target)]
    return "\n".join(line for part in parts for line in part)


def _head(target: Target) -> Iterator[str]:
    yield f"# {target.title}\n"
    yield f"`--target {target.name}`, version {target.version}, {target.date}."
    yield f"`python -m tests.targets` writes this page from `folding/targets/data/{target.name}.toml`;"
    yield "[targets.md](../targets.md) describes the fields.\n"
    yield f"Source: {target.source}\n"


def _policy(target: Target) -> Iterator[str]:
    yield "| | |"
    yield "| --- | --- |"
    yield f"| operator sets | {target.opset[0]} to {target.opset[1]} |"
    yield f"| IR versions | {target.ir[0]} to {target.ir[1]}{', newer ones too' if target.newer_ir else ''} |"
    yield f"| model-local functions | {'taken' if target.functions else 'inlined'} |"
    yield f"| a bound per channel in Relu and Clip | {target.clamp} |"
    yield f"| external data begin at multiples of | {target.align} bytes |"
    for kind, other in sorted(target.narrow.items()):
        yield f"| {kind} | should be {other} |"
    for kind, other in sorted(target.casts.items()):
        yield f"| {kind} | is computed as {other} |"
    if target.types:
        yield f"| types | {', '.join(sorted(target.types))} |"
    if target.installed:
        yield "| verification | runs the file itself, too, as it is |"
    if target.fallback:
        below = load(target.fallback)
        yield f"| what it does not run | [{below.title}]({below.name}.md) does, in the same session |"
    yield ""


def _idioms(target: Target) -> Iterator[str]:
    yield "## Idioms\n"
    yield "| idiom | is left or becomes | forms that it recognizes |"
    yield "| --- | --- | --- |"
    for idiom, what in target.idioms.items():
        forms = "<br>".join(f"`{form}`" for form in target.recognized.get(idiom, ()))
        yield f"| {idiom} | {WRITTEN[what]} | {forms} |"
    yield ""


def _operators(target: Target) -> Iterator[str]:
    yield "## Operators\n"
    yield "| operator | operator sets | types | restrictions |"
    yield "| --- | --- | --- | --- |"
    for name in sorted(target.operators, key=lambda name: ("::" in name, name)):
        yield from _rows(name, target.operators[name])
    yield ""


def _rows(name: str, operator: Operator) -> Iterator[str]:
    for span in operator.spans:
        first, last = span.opsets
        note = operator.note.replace("|", "\\|") or ", ".join(f"`{one}`" for one in operator.restrictions)
        yield f"| {name} | {first} to {last} | {_types(span)} | {note} |"


def _types(span: Span) -> str:
    if span.is_expanded:
        return "runs as ONNX defines it, by smaller operators"
    listed = [f"{name}: {', '.join(sorted(types))}" for name, types in span.types.items() if types]
    return "; ".join(listed) or "any"


def write() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, path in paths().items():
        path.write_text(page(name))
