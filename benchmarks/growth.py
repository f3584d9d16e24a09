"""``python -m benchmarks.growth``: how time and memory of a fold grow with the number of operators.

Families of graphs with small weights, so that what is measured is the work per operator. Writes
`benchmarks/results/growth.md`. CPU seconds are those of the whole process `bnfold fold --no-verify`, imports included.
The exponent is the slope of a line through the logarithms (least squares), after the time of the smallest graph's
imports was taken off: 1 is linear, 2 quadratic.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from benchmarks.measure import Bench
from benchmarks.table import MB, machine
from benchmarks.tools import TOOLS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from benchmarks.measure import Run

CHANNELS = 4
SIZES = (2_000, 8_000, 32_000)  # normalizations; three operators each
TIMEOUT = 600.0  # seconds
RESULTS = Path(__file__).with_name("results") / "growth.md"
TOOL = "bnfold"
COLUMNS = ("family", "operators", "CPU s", "ms per operator", "peak MB", "left", "exponent")


class Growing:
    """A graph to which operators are added; every value has CHANNELS channels."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.tensors: list[TensorProto] = []
        self._random = np.random.default_rng(len(COLUMNS))

    def add(self, op: str, *inputs: str, **attributes: int | list[int]) -> str:
        """Add an operator; return its output."""
        output = f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [output], output, **attributes))
        return output

    def _constant(self, shape: Sequence[int], low: float, high: float) -> str:
        name = f"w_{len(self.tensors)}"
        values = self._random.uniform(low, high, shape).astype(np.float32)
        self.tensors.append(numpy_helper.from_array(values, name))
        return name

    def conv(self, x: str, channels: int = CHANNELS, kernel: int = 1) -> str:
        """A convolution of CHANNELS outputs."""
        weight = self._constant((CHANNELS, channels, kernel, kernel), -1, 1)
        return self.add("Conv", x, weight, kernel_shape=[kernel] * 2, pads=[kernel // 2] * 4)

    def normalized(self, x: str) -> str:
        """A BatchNormalization."""
        return self.add("BatchNormalization", x, *(self._constant((CHANNELS,), 0.5, 1.5) for _ in range(4)))

    def block(self, x: str, channels: int = CHANNELS, kernel: int = 1) -> str:
        """Conv, BatchNormalization and Relu."""
        return self.add("Relu", self.normalized(self.conv(x, channels, kernel)))

    def summed(self, values: list[str]) -> str:
        """The sum of all values, as a tree."""
        while len(values) > 1:
            odd = values[-1:] if len(values) % 2 else []
            values = [self.add("Add", *pair) for pair in zip(values[::2], values[1::2], strict=False)] + odd
        return values[0]

    def model(self, result: str) -> ModelProto:
        """The whole model; `result` is its output."""
        value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, CHANNELS, 8, 8])
        end = helper.make_tensor_value_info(result, TensorProto.FLOAT, None)
        graph = helper.make_graph(self.nodes, "growing", [value], [end], self.tensors)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def chain(count: int) -> ModelProto:
    """One block after the other."""
    g, x = Growing(), "x"
    for _ in range(count):
        x = g.block(x, kernel=3)
    return g.model(x)


def residual(count: int) -> ModelProto:
    """Blocks of two convolutions and a sum; the sum is followed by a Relu in one half, by nothing in the other."""
    g = Growing()
    x = g.block("x")
    for number in range(count // 2):
        x = g.add("Add", x, g.normalized(g.conv(g.block(x, kernel=3))))
        x = g.add("Relu", x) if number % 2 else x
    return g.model(x)


def branching(count: int) -> ModelProto:
    """Modules of three branches that are concatenated; in the end many branches of one value, summed in a tree."""
    g = Growing()
    x = g.block("x")
    for _ in range(count // 8):
        x = g.block(g.add("Concat", *(g.block(x) for _ in range(3)), axis=1), 3 * CHANNELS)
    return g.model(g.summed([g.block(x) for _ in range(count // 2)]))


FAMILIES: dict[str, Callable[[int], ModelProto]] = {"chain": chain, "residual": residual, "branching": branching}


def exponent(counts: Sequence[float], figures: Sequence[float]) -> float:
    """The slope of log(figure) over log(count), by least squares."""
    x, y = (np.log(np.asarray(values, np.float64)) for values in (counts, figures))
    return float(((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum())


def measure(family: str, count: int, folder: Path) -> tuple[int, Run]:
    """Fold one graph in a fresh process; return its number of operators and the run."""
    path = folder / f"{family}.onnx"
    model = FAMILIES[family](count)
    path.write_bytes(model.SerializeToString())
    operators = len(model.graph.node)
    del model
    return operators, Bench(f"{family} {count}", [path], folder, TIMEOUT).run(TOOL, TOOLS[TOOL], 1)


def rows(family: str, runs: Sequence[tuple[int, Run]], started: float) -> Iterable[tuple[str, ...]]:
    """One row for each graph of a family; the exponent is in the last. `started` are the CPU s of an empty graph."""
    good = [(operators, run.cpu - started) for operators, run in runs if not run.failure and run.cpu > started]
    slope = f"{exponent(*zip(*good, strict=True)):.2f}" if len(good) > 1 else ""
    for number, (operators, run) in enumerate(runs):
        last = slope if number == len(runs) - 1 else ""
        if run.failure:
            yield family, f"{operators:,}", run.failure, "", "", "", last
            continue
        each = 1e3 * (run.cpu - started) / operators
        yield (
            family,
            f"{operators:,}",
            f"{run.cpu:.2f}",
            f"{each:.3f}",
            f"{run.peak / MB:,.0f}",
            f"{run.normalizations}",
            last,
        )


def markdown(table: Iterable[tuple[str, ...]], started: float) -> str:
    """The content of growth.md."""
    lines = [COLUMNS, ("---",) + ("---:",) * (len(COLUMNS) - 1), *table]
    facts = ", ".join(
        f"{key} {value}" for key, value in machine().items() if key in {"system", "processor", "cores", "python"}
    )
    return (
        "\n\n".join(
            (
                "# Growth with the number of operators",
                (sys.modules[__name__].__doc__ or "").partition("\n\n")[2].strip(),
                f"An empty graph takes {started:.2f} CPU s, which the columns after the third do not contain. {facts}.",
                "\n".join(f"| {' | '.join(row)} |" for row in lines),
            )
        )
        + "\n"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure all families; return 1 if a fold failed or left a normalization, else 0."""
    parser = argparse.ArgumentParser("python -m benchmarks.growth", description=__doc__, allow_abbrev=False)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="normalizations in a graph")
    parser.add_argument("--output", type=Path, default=RESULTS, help="where the table goes (default: %(default)s)")
    given = parser.parse_args(argv)
    table: list[tuple[str, ...]] = []
    with tempfile.TemporaryDirectory(prefix="bnfold-growth-") as name:
        folder = Path(name)
        started = min(measure("chain", 1, folder)[1].cpu for _ in range(3))
        for family in FAMILIES:
            runs = [measure(family, count, folder) for count in given.sizes]
            table += rows(family, runs, started)
            print(*table[-len(runs) :], sep="\n", flush=True)
            if any(run.failure or run.normalizations for _, run in runs):
                return 1
    given.output.write_text(markdown(table, started))
    return 0


if __name__ == "__main__":
    sys.exit(main())
