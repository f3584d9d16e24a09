"""The card of a model: `bnfold.*` entries of its metadata_props that say what was done to it, by what, to what.

The same model, options and version give the same card: no time, no path, no figure that depends on the machine. Its own
digest a file cannot hold; that is in the digest file (`digest`) and in the report. A card stays until something is
folded again: a second run with the same options changes nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from folding.onnxfile import digests

if TYPE_CHECKING:
    from collections.abc import Mapping

    from folding.onnxfile import OnnxFile
    from folding.options import Options
    from folding.report.model import Report

PREFIX = "bnfold."
VERSION = f"{PREFIX}version"  # every card has it
DELIVERING = frozenset({"card", "digest", "triton"})  # options that change no byte of the model but its card


class Card:
    """The card that `options` ask for; the source is hashed once, when it is first needed."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._source: dict[str, str] | None = None

    def is_on(self, file: OnnxFile) -> bool:
        """Whether the model has a card."""
        return any(entry.key == VERSION for entry in file.model.metadata_props)

    def put(self, file: OnnxFile, report: Report, status: str) -> None:
        """Replace the card of a model; `status` is that of the verification.

        Raises:
            ModelError: the source cannot be read.
        """
        entries = file.model.metadata_props
        kept = [entry for entry in entries if not entry.key.startswith(PREFIX)]
        del entries[:]
        entries.extend(kept)
        for key, value in self._lines(file, report, status).items():
            entries.add(key=f"{PREFIX}{key}", value=value)

    def _lines(self, file: OnnxFile, report: Report, status: str) -> Mapping[str, str]:
        if self._source is None:
            self._source = digests(file)
        model, *data = self._source.items()
        outcomes = Counter(outcome.status for outcome in report.outcomes)
        changes: Counter[str] = Counter()
        for change in report.changes:
            changes[change.kind] += change.count
        lines = {
            "version": report.version,
            "options": _json(chosen(self._options)),
            "target": self._options.target or "",
            "source.sha256": model[1],
            "source.data.sha256": _json(dict(data)) if data else "",
            "normalizations": f"{report.bn_before} -> {report.bn_after}",
            "nodes": f"{report.nodes_before} -> {report.nodes_after}",
            "outcomes": _json(outcomes),
            "changes": _json(changes) if changes else "",
            "verification": status,
        }
        return {key: value for key, value in lines.items() if value}


def chosen(options: Options) -> dict[str, object]:
    """The options that differ from their defaults; samples by their digest, since a path is of one machine only."""
    found = {one.name: getattr(options, one.name) for one in fields(options) if one.name not in DELIVERING}
    found = {name: value for name, value in found.items() if value != type(options).__dataclass_fields__[name].default}
    if options.inputs is not None:
        found["inputs"] = f"sha256:{hashlib.sha256(Path(options.inputs).read_bytes()).hexdigest()}"
    return found


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True)
