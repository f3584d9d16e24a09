"""Break the algebra one place at a time; the random-graph gate or the rule tables must notice each time.

``python -m tests.mutation`` tries every mutant and lists those that survive, ``--sample N`` a fixed few of them.
A mutant runs in a process of its own, on a copy of the package in which one place differs.
"""

from __future__ import annotations

import argparse
import ast
import copy
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import ml_dtypes  # noqa: F401  the large libraries, once for all mutants
import numpy  # noqa: F401, ICN001
import onnxruntime  # noqa: F401
import pytest

from tests.support import ROOT, TESTS

if TYPE_CHECKING:
    from collections.abc import Iterator

ALGEBRA = [
    *(f"algebra/{name}.py" for name in ("affine", "clamp", "equalization", "quantization", "regroup")),
    *("graph/grids.py", "graph/sites.py", "planning/branches.py", "planning/halves.py", "planning/planner.py"),
    *sorted(f"rules/{path.name}" for path in (ROOT / "folding" / "rules").glob("[!_]*.py")),
]
LAST = "folding/test_gate.py"  # the random graphs: slow, and find the rest
# Fast, and find most.
FIRST = [f"folding/{name}.py" for name in ("rules/test_rules", "algebra/test_affine", "algebra/test_regroup")]
# Whose tests are about the algebra.
ROOMS = ("algebra", "analysis", "editing", "graph", "pipeline", "planning", "rules", "scaling")
NOT_ALGEBRA = {"folding/rules/test_patterns.py"}  # holds a document
OTHERS = [
    str(path.relative_to(TESTS)) for room in ROOMS for path in sorted((TESTS / "folding" / room).glob("test_*.py"))
]
SUITES = [*FIRST, *(name for name in OTHERS if name not in {*FIRST, *NOT_ALGEBRA}), "folding/test_densenet.py", LAST]
KILLER = "killer.txt"
SECONDS = 600  # of processor time for all suites on one mutant: an endless loop is noticed, on a busy machine too
WAITING = 10  # times as long on the clock: a machine that is as busy as that
ENDLESS = {signal.SIGXCPU, signal.SIGKILL}  # how the processor time ends a process, and how the clock does
LOOK_EVERY = 0.02  # seconds between two looks at a process
WORKERS = 2
SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE,
    ast.GtE: ast.Gt, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    file: str
    line: int
    what: str
    source: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.what}"


def mutants() -> Iterator[Mutant]:
    for file in ALGEBRA:
        tree = ast.parse((ROOT / "folding" / file).read_text())
        for number, node in enumerate(ast.walk(tree)):
            for what in _changes(node):
                yield _mutant(file, tree, number, what)


def _changes(node: ast.AST) -> list[str]:
    """The ways to break one place."""
    if isinstance(node, ast.BinOp | ast.BoolOp):
        swap = SWAPS.get(type(node.op))
        union = isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr | ast.BitXor)
        return [] if swap is None or union else ["swap"]
    if isinstance(node, ast.Compare):
        return ["swap"] if type(node.ops[0]) in SWAPS else []
    if isinstance(node, ast.UnaryOp):
        return ["drop"] if isinstance(node.op, ast.USub | ast.Not) else []
    if isinstance(node, ast.Constant):
        return ["flip"] if type(node.value) in (int, float) and node.value in (0, 1) else []
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "require":
        return ["require nothing"]
    return []


def _mutant(file: str, tree: ast.Module, number: int, what: str) -> Mutant:
    broken = copy.deepcopy(tree)
    node = list(ast.walk(broken))[number]
    before = ast.unparse(node)
    if what == "swap" and isinstance(node, ast.BinOp | ast.BoolOp):
        node.op = SWAPS[type(node.op)]()  # type: ignore[assignment]
    elif what == "swap" and isinstance(node, ast.Compare):
        node.ops[0] = SWAPS[type(node.ops[0])]()  # type: ignore[call-overload]
    elif what == "drop" and isinstance(node, ast.UnaryOp):
        node.op = ast.UAdd() if isinstance(node.op, ast.USub) else ast.Not()
        if isinstance(node.op, ast.Not):
            node.operand = ast.UnaryOp(ast.Not(), node.operand)
    elif what == "flip" and isinstance(node, ast.Constant):
        node.value = type(node.value)(1 - node.value)  # type: ignore[operator,arg-type]
    elif isinstance(node, ast.Call):
        node.args[0] = ast.Constant(value=True)
    after = ast.unparse(ast.fix_missing_locations(node))
    line = getattr(node, "lineno", 0)
    return Mutant(file, line, f"{_short(before)}  ->  {_short(after)}", ast.unparse(ast.fix_missing_locations(broken)))


def _short(code: str) -> str:
    code = " ".join(code.split())
    return code if len(code) < 70 else code[:67] + "..."


def killer(mutant: Mutant, suites: list[str] = SUITES) -> str | None:
    """The suite that fails on a mutant, None if it survives.

    It runs in a fork of this process, which has the large libraries in memory already.
    """
    with tempfile.TemporaryDirectory() as folder:
        for part in ("folding", "tests", "benchmarks"):  # some tests measure what a benchmark builds
            shutil.copytree(ROOT / part, Path(folder, part), ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", folder)
        Path(folder, "folding", mutant.file).write_text(mutant.source)
        child = os.fork()
        if child == 0:
            try:
                resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
                _judge(folder, mutant.file, suites)
            finally:
                os._exit(0)
        if _ended(child) in ENDLESS:
            return "an endless loop"
        killer = Path(folder, KILLER)
        return killer.read_text() if killer.exists() else None


def _ended(child: int) -> int:
    """The signal that ended a process, 0 where none did; one that only waits is ended, too."""
    end = time.monotonic() + WAITING * SECONDS
    while (found := os.waitpid(child, os.WNOHANG)) == (0, 0):
        time.sleep(LOOK_EVERY)
        if time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
    return os.WTERMSIG(found[1]) if os.WIFSIGNALED(found[1]) else 0


class _First:
    """A pytest plugin that remembers the file of the first test that fails."""

    def __init__(self) -> None:
        self.file = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and not self.file:
            self.file = report.nodeid.split("::")[0].removeprefix("tests/")


def _judge(folder: str, file: str, suites: list[str]) -> None:
    """In the child: run the suites and leave the name of the first that fails in the file `KILLER`."""
    os.chdir(folder)
    os.environ["MUTANT"] = Path(file).stem  # the tests look at it: its own rows come first, each once
    sys.dont_write_bytecode = True
    sys.path[:] = [folder, *(path for path in sys.path if Path(path) != ROOT)]
    for name in [name for name in sys.modules if name.partition(".")[0] == "tests"]:  # this module among them
        del sys.modules[name]
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    first = _First()
    arguments = ["-x", "-q", "-p", "no:cacheprovider", "--no-cov", *(f"tests/{name}" for name in suites)]
    if pytest.main(arguments, plugins=[first]):
        Path(KILLER).write_text(first.file or "collection")


def survivors(chosen: list[Mutant]) -> list[Mutant]:
    with multiprocessing.get_context("fork").Pool(WORKERS) as pool:
        found = []
        for mutant, suite in zip(chosen, pool.imap(killer, chosen), strict=True):
            print(f"{'SURVIVED' if suite is None else 'killed by ' + suite}  {mutant}", flush=True)
            found += [mutant] if suite is None else []
    return found


def sample(count: int) -> list[Mutant]:
    """A fixed choice, the same wherever it runs."""
    return random.Random(0).sample(list(mutants()), count)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", type=int, help="try a fixed choice of this many mutants (default: all)")
    parser.add_argument("--file", help="only mutants of this file")
    given = parser.parse_args()
    chosen = sample(given.sample or len(list(mutants())))
    chosen = [mutant for mutant in chosen if given.file in (None, mutant.file)]
    left = survivors(chosen)
    print(f"{len(chosen) - len(left)} of {len(chosen)} mutants killed")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
