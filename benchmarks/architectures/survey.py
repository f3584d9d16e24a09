"""One row of the survey: exports a network, folds it twice, verifies it, and counts what stays."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from benchmarks import fusions
from folding.editing.functions import count
from folding.report.model import BATCH_NORMALIZATION

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.architectures.families import Network

EXPORTERS = ("torchscript", "dynamo")
CLAMPS = ("--clamp", "always")
MESSAGE_LENGTH = 160  # characters of an error message that a table shows
ROOT = Path(__file__).parents[2]  # processes start here, to find this folder and the library


@dataclass(frozen=True)
class Stay:
    """Why `count` BatchNormalizations stay: the codes of both directions, each with the operator that refused."""

    backward: str
    forward: str
    count: int


@dataclass(frozen=True)
class Fold:
    """The outcome of one fold of an exported file; `failure` says why there is none, "" otherwise."""

    left: int = 0  # BatchNormalizations
    gone: Mapping[str, int] = field(default_factory=dict)  # by status: folded, split, merged, removed
    stays: Sequence[Stay] = ()  # the most frequent first
    verdict: str = ""
    error: float = 0.0  # of the output closest to its tolerance; both are absolute
    tolerance: float = 0.0
    runtime: tuple[int, int] = (0, 0)  # operators of ONNX Runtime's optimized graph, before and after
    cost: Sequence[str] = ()  # what of that graph got worse
    failure: str = ""


@dataclass(frozen=True)
class Row:
    """One network from one exporter; `failure` says why it was not exported, "" otherwise."""

    family: str
    network: str
    source: str
    exporter: str
    in_module: int = 0  # BatchNormalizations of the PyTorch module
    in_file: int = 0  # of the exported file
    default: Fold = Fold()
    clamps: Fold = Fold()
    failure: str = ""


@dataclass(frozen=True)
class Survey:
    """The folder for exports, and the seconds that one process may take."""

    folder: Path
    timeout: float

    def row(self, family: str, name: str, network: Network, exporter: str) -> Row:
        """Export a network, unless that was done before; fold it, and count."""
        known = (family, name, network.make, exporter)
        if network.package and installed(network.package) is None:
            return Row(*known, failure=f"{network.package} is not installed")
        path = self.folder / f"{name}.{exporter}.onnx"
        try:
            in_module = self._export(network, exporter, path)
        except ProcessError as error:
            return Row(*known, failure=str(error))
        in_file = count(onnx.load(path)).normalizations
        return Row(*known, in_module, in_file, self.fold(path), self.fold(path, CLAMPS))

    def _export(self, network: Network, exporter: str, path: Path) -> int:
        """Write `path`, unless the same request did; return the number of BatchNormalizations in the module."""
        request = [network.make, json.dumps(network.shape), json.dumps(dict(network.arguments)), exporter]
        record = path.with_suffix(".json")
        asked = [*request, installed("torch"), installed(network.package)]
        if record.exists() and path.exists():
            known = json.loads(record.read_text())
            if known.get("asked") == asked:
                return int(known["normalizations"])
        record.unlink(missing_ok=True)
        result = self._run("-m", "benchmarks.architectures.export", *request, str(path))
        record.write_text(json.dumps({"asked": asked, **result}) + "\n")
        return int(result["normalizations"])

    def fold(self, path: Path, options: Sequence[str] = ()) -> Fold:
        """Fold a file as the command line does, and read its report."""
        folded = path.with_suffix(".folded")
        try:
            report = self._run("-m", "folding", "fold", str(path), "-o", str(folded), "--json", *options)
            operators = _operators(folded if folded.exists() else path)
            graphs = fusions.optimized(path), fusions.optimized(folded if folded.exists() else path)
        except ProcessError as error:
            return Fold(failure=str(error))
        finally:
            folded.unlink(missing_ok=True)
        before, after = map(fusions.total, graphs)
        return replace(read(report, operators), runtime=(before, after), cost=fusions.worse(*graphs))

    def _run(self, *arguments: str) -> dict[str, Any]:
        """The JSON that a process of this Python prints, whatever its exit code.

        Raises:
            ProcessError: it printed no JSON, or took too long.
        """
        command = [sys.executable, *arguments]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=self.timeout)
        except subprocess.TimeoutExpired:
            raise ProcessError(f"stopped after {self.timeout:g} s") from None
        try:
            result: dict[str, Any] = json.loads(done.stdout)
        except ValueError:
            raise ProcessError(_last_line(done)) from None
        return result


class ProcessError(Exception):
    """A process returned no result; the message says why, in one line."""


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode < 0:
        return f"ended by signal {-done.returncode}"
    lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    line = lines[-1].replace(str(ROOT), ".")
    return line if len(line) <= MESSAGE_LENGTH else f"{line[:MESSAGE_LENGTH]}..."


def installed(package: str) -> str | None:
    """The version of a package, "" for none, None if it is not installed."""
    try:
        return version(package) if package else ""
    except PackageNotFoundError:
        return None


def read(report: Mapping[str, Any], operators: Mapping[str, str]) -> Fold:
    """The survey's figures from a report; `operators` maps the labels of the folded model's nodes to operators."""
    outcomes = [outcome for outcome in report["outcomes"] if outcome["operator"] == BATCH_NORMALIZATION]
    pairs = Counter(
        (_why(outcome["backward"], operators), _why(outcome["forward"], operators))
        for outcome in outcomes
        if outcome["status"] == "kept"
    )
    verification = report["verification"]
    worst = max(verification["outputs"], key=_closeness, default={"max_absolute": 0.0, "tolerance": 0.0})
    return Fold(
        report["bn_after"],
        dict(Counter(outcome["status"] for outcome in outcomes if outcome["status"] != "kept")),
        [Stay(*pair, count) for pair, count in pairs.most_common()],
        verification["status"],
        worst["max_absolute"],
        worst["tolerance"],
    )


def _why(refusal: Mapping[str, str], operators: Mapping[str, str]) -> str:
    """The code of a refusal, with the operator that refused, if that is not the normalization itself."""
    operator = operators.get(refusal["at"], "")
    return f"{refusal['code']} {operator}".strip()


def _closeness(output: Mapping[str, Any]) -> float:
    """An output's error as a share of its tolerance; infinite if either is not finite."""
    error, tolerance = output["max_absolute"], output["tolerance"]
    if error is None or tolerance is None:
        return float("inf")
    return float(error / tolerance) if tolerance else float(error)


def _operators(path: Path) -> dict[str, str]:
    """The operator of each node, by its label in reports: its name, or its first output."""
    nodes = onnx.load(path, load_external_data=False).graph.node
    return {node.name or next(iter(node.output), ""): node.op_type for node in nodes}
