"""SARIF 2.1.0 of one or many models: a result for each BatchNormalization that stays, at its node in its file.

OASIS, Static Analysis Results Interchange Format 2.1.0; GitHub's code scanning shows it in a pull request. A model has
no lines, so a result names its node as a logical location, and the first line, which GitHub asks for.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import PurePath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from folding.refusal import CODES
from folding.report.digest import named, printable
from folding.report.gates import codes_of, staying

if TYPE_CHECKING:
    from collections.abc import Iterator

    from folding.fleet.model import Entry, FleetReport
    from folding.report.model import Outcome

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
OTHER_RULES = {
    "untold": "It stays, and the report does not say why.",
    "max-left": "More BatchNormalizations stay than --max-left allows.",
    "fail-on": "A BatchNormalization stays for a reason that --fail-on names.",
    "fail-if-grown": "The folded model is larger than the original.",
    "not-folded": "The model could not be folded.",
}


def render_sarif(fleet: FleetReport) -> str:
    """One run, whose rules are the codes of `bnfold explain` that its results have."""
    results = [result for entry in fleet.entries for result in _results(entry)]
    rules = list(dict.fromkeys(result["ruleId"] for result in results))
    for result in results:
        result["ruleIndex"] = rules.index(result["ruleId"])
    driver = {"name": "bnfold", "version": printable(fleet.version), "rules": [_rule(code) for code in rules]}
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2) + "\n"


def _rule(code: str) -> dict[str, Any]:
    meaning = OTHER_RULES.get(code) or CODES[code][0] if code in OTHER_RULES or code in CODES else code
    text = meaning[:1].upper() + meaning[1:].removesuffix(".") + "."
    help_text = f"`bnfold explain {code}` shows an example that stays and one that folds."
    shown = {"help": {"text": help_text}} if code in CODES else {}
    return {"id": code, "shortDescription": {"text": text}, **shown}


def _results(entry: Entry) -> Iterator[dict[str, Any]]:
    for outcome in staying(entry.report) if entry.report is not None else ():
        code = next(iter(codes_of(outcome)), "untold")
        yield _result(entry, code, _message(outcome), "warning", named(outcome))
    for broken in entry.gates:
        yield _result(entry, broken.gate, broken.sentence, "error", about=broken.code)
    if entry.error:
        yield _result(entry, "not-folded", entry.error, "error")


def _result(entry: Entry, code: str, message: str, level: str, node: str = "", about: str = "") -> dict[str, Any]:
    place: dict[str, Any] = {
        "physicalLocation": {"artifactLocation": {"uri": _uri(entry.source)}, "region": {"startLine": 1}}
    }
    if node:
        shown = printable(node)
        place["logicalLocations"] = [{"name": shown, "fullyQualifiedName": shown, "kind": "member"}]
    known = hashlib.sha256("\0".join((entry.source, node, code, about)).encode(errors="surrogateescape")).hexdigest()
    return {
        "ruleId": code,
        "level": level,
        "message": {"text": printable(message)},
        "locations": [place],
        "partialFingerprints": {"bnfold/v1": known},
    }


def _message(outcome: Outcome) -> str:
    ways = (("backward", outcome.backward), ("forward", outcome.forward))
    reasons = [f"{way}: {met.reason} [{met.code}]" for way, met in ways if met is not None]
    hints = dict.fromkeys(met.hint for _, met in ways if met is not None and met.hint)
    said = "; ".join([*reasons, *(f"what to do: {hint}" for hint in hints)])
    return f"{outcome.operator} {named(outcome)} stays{': ' if said else ''}{said}"


def _uri(path: str) -> str:
    """The path as a relative reference, or as a URI where it is absolute."""
    pure = PurePath(path)
    return pure.as_uri() if pure.is_absolute() else quote(pure.as_posix().encode(errors="surrogateescape"))
