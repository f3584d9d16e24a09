"""Stacks of PyTorch's modules through its two exporters: ``python -m benchmarks.idioms``.

Each module, `COUNT` times in a row, is exported at several operator sets. The table says how many of them the file has
as operators, after fusing, or, where the operator set lacks the operator, as idioms that were recognized; and the same
after ``onnx.version_converter`` brought the file to the newest operator set. Near misses must stay as they are.

Needs torch, and onnxscript for the newer exporter.
"""

from __future__ import annotations

import argparse
import io
import logging
import warnings
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import version_converter
from torch import nn
from torch.nn import functional

from folding.analysis import shapes
from folding.analysis.values import indexed
from folding.editing.writeback import write_back
from folding.fusing.fuse import WRITERS, fuse, kind_of
from folding.fusing.operator import require_exact
from folding.graph import idioms
from folding.graph.idioms import BIAS, WRITTEN_OUT
from folding.onnxfile import from_bytes
from folding.onnxfile.writer import to_bytes
from folding.refusal import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from folding.graph.idioms import Occurrence
    from folding.report.changes import Change

COUNT = 4  # modules in a stack
OPSETS = (17, 20, 23)
NEWEST = 24  # the first operator set that has every operator
TOLERANCE = 2e-5  # of the largest magnitude of the output
RESULTS = Path(__file__).with_name("results") / "idioms.md"
ROWS, IMAGES, MATRIX = (2, 6, 16), (2, 8, 5, 6), (3, 16)  # shapes of samples
HEADS = 4


class Function(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """What the class says."""
        return self.function(x)


class Rms(nn.Module):
    """RMSNorm as Llama writes it, before PyTorch had it."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(size) + 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """What the class says."""
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


class Product(nn.Module):
    """A product with a bias that is no Linear."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(size, size)), nn.Parameter(torch.randn(size))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """What the class says."""
        return x @ self.weight + self.bias


class Attention(nn.Module):
    """Scaled dot-product attention of a value with itself; the mask is none, boolean or a bias."""

    def __init__(self, mask: torch.Tensor | None = None) -> None:
        super().__init__()
        self.project = nn.ModuleList(nn.Linear(ROWS[2], ROWS[2]) for _ in range(3))
        self.register_buffer("mask", mask)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """What the class says."""
        q, k, v = (linear(x).reshape(*ROWS[:2], HEADS, ROWS[2] // HEADS).transpose(1, 2) for linear in self.project)
        y = functional.scaled_dot_product_attention(q, k, v, attn_mask=self.mask)
        return y.transpose(1, 2).reshape(ROWS)


def instance_norm(x: torch.Tensor) -> torch.Tensor:
    centered = x - x.mean((2, 3), keepdim=True)
    return centered / torch.sqrt(centered.pow(2).mean((2, 3), keepdim=True) + 1e-5)


def softmax(x: torch.Tensor, axis: int = -1) -> torch.Tensor:
    raised = torch.exp(x - x.max(-1, keepdim=True).values)
    return raised / raised.sum(axis, keepdim=True)


@dataclass(frozen=True)
class Case:
    """What a stack is made of: the operator that each module should become, the module and the sample's shape."""

    operator: str
    make: Callable[[], nn.Module]
    shape: tuple[int, ...]


CASES = {
    "GELU()": Case("Gelu", nn.GELU, ROWS),
    "GELU('tanh')": Case("Gelu", lambda: nn.GELU("tanh"), ROWS),
    "x * sigmoid(1.702 * x)": Case("Swish", lambda: Function(lambda x: x * torch.sigmoid(1.702 * x)), ROWS),
    "SiLU()": Case("Swish", nn.SiLU, IMAGES),
    "Mish()": Case("Mish", nn.Mish, IMAGES),
    "Hardswish()": Case("HardSwish", nn.Hardswish, IMAGES),
    "x * relu6(x + 3) / 6": Case("HardSwish", lambda: Function(lambda x: x * functional.relu6(x + 3) / 6), IMAGES),
    "Hardsigmoid()": Case("HardSigmoid", nn.Hardsigmoid, IMAGES),
    "relu6(x + 3) / 6": Case("HardSigmoid", lambda: Function(lambda x: functional.relu6(x + 3) / 6), IMAGES),
    "LayerNorm(16)": Case("LayerNormalization", lambda: nn.LayerNorm(16), ROWS),
    "LayerNorm((5, 6))": Case("LayerNormalization", lambda: nn.LayerNorm((5, 6)), IMAGES),
    "RMSNorm(16)": Case("RMSNormalization", lambda: nn.RMSNorm(16, eps=1e-6), ROWS),
    "RMSNorm as in Llama": Case("RMSNormalization", lambda: Rms(16), ROWS),
    "GroupNorm(4, 8)": Case("GroupNormalization", lambda: nn.GroupNorm(4, 8), IMAGES),
    "InstanceNorm2d(8)": Case("InstanceNormalization", lambda: nn.InstanceNorm2d(8, affine=True), IMAGES),
    "InstanceNorm2d written out": Case("InstanceNormalization", lambda: Function(instance_norm), IMAGES),
    "Softmax(-1)": Case("Softmax", lambda: nn.Softmax(-1), ROWS),
    "softmax written out": Case("Softmax", lambda: Function(softmax), ROWS),
    "LogSoftmax(-1)": Case("LogSoftmax", lambda: nn.LogSoftmax(-1), ROWS),
    "log(softmax(x))": Case("LogSoftmax", lambda: Function(lambda x: torch.log(torch.softmax(x, -1))), ROWS),
    "x - logsumexp(x)": Case("LogSoftmax", lambda: Function(lambda x: x - torch.logsumexp(x, -1, keepdim=True)), ROWS),
    "Linear(16, 16)": Case("Gemm", lambda: nn.Linear(16, 16), MATRIX),
    "x @ w + b": Case("Gemm", lambda: Product(16), MATRIX),
    "attention": Case("Attention", Attention, ROWS),
    "attention, boolean mask": Case("Attention", lambda: Attention(torch.tril(torch.ones(6, 6)).bool()), ROWS),
    "attention, bias": Case("Attention", lambda: Attention(torch.randn(6, 6)), ROWS),
}

MISSES = {
    "GELU with 1.5 for sqrt(2)": Case("Gelu", lambda: Function(lambda x: 0.5 * x * (1 + torch.erf(x / 1.5))), ROWS),
    "GELU with its erf read elsewhere": Case("Gelu", lambda: Function(_read_inside), ROWS),
    "layer norm over the channels of images": Case(
        "LayerNormalization", lambda: Function(lambda x: _normalized(x, 1)), IMAGES
    ),
    "rms norm with the epsilon outside": Case(
        "RMSNormalization", lambda: Function(lambda x: x / (x.pow(2).mean(-1, keepdim=True).sqrt() + 1e-6)), ROWS
    ),
    "SiLU of two values": Case("Swish", lambda: Function(lambda x: torch.relu(x) * torch.sigmoid(x)), ROWS),
    "Hardswish with slope 0.2": Case(
        "HardSwish", lambda: Function(lambda x: x * torch.clamp(0.2 * x + 0.5, 0, 1)), ROWS
    ),
    "softmax, sum over another axis": Case("Softmax", lambda: Function(lambda x: softmax(x, -2)), ROWS),
    "L2 normalization (it has an epsilon)": Case(
        "LpNormalization", lambda: Function(lambda x: functional.normalize(x, dim=-1)), ROWS
    ),
}


def _read_inside(x: torch.Tensor) -> torch.Tensor:
    inner = torch.erf(x / 2**0.5)
    return 0.5 * x * (1 + inner) + torch.abs(inner)


def _normalized(x: torch.Tensor, axis: int) -> torch.Tensor:
    centered = x - x.mean(axis, keepdim=True)
    return centered / torch.sqrt(centered.pow(2).mean(axis, keepdim=True) + 1e-5)


def exported(case: Case, *, dynamo: bool, opset: int) -> tuple[onnx.ModelProto, np.ndarray[Any, Any]]:
    """The stack of a case as one exporter writes it, and its sample."""
    torch.manual_seed(1)
    module = nn.Sequential(*(case.make() for _ in range(COUNT))).eval()
    x = torch.randn(case.shape)
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        if dynamo:
            program: Any = torch.onnx.export(module, (x,), dynamo=True, opset_version=opset, verbose=False)
            return program.model_proto, x.numpy()
        buffer = io.BytesIO()
        torch.onnx.export(module, (x,), buffer, dynamo=False, opset_version=opset)
    return onnx.load_from_string(buffer.getvalue()), x.numpy()


@dataclass(frozen=True)
class Outcome:
    """The outcome of a file: how many operators the exporter wrote, fusing made, and idioms are left, and the error."""

    opset: int
    own: int
    fused: int
    left: int
    error: float

    def shown(self) -> str:
        """All that were recognized, of the stack, and how."""
        ways = ((self.own, "exported"), (self.fused, "fused"), (self.left, "recognized"))
        how = " + ".join(f"{word}" for count, word in ways if count)
        return f"{self.own + self.fused + self.left} of {COUNT} {how}".strip()


def outcome(model: onnx.ModelProto, case: Case, x: np.ndarray[Any, Any]) -> Outcome:
    """Fuse a model and compare what it computes."""
    with from_bytes(model.SerializeToString()) as file:
        graph = indexed(file)
        shapes.infer(graph)
        own = Counter(node.op for node in graph.nodes())[case.operator]
        changes: list[Change] = fuse(graph)
        kinds = {kind_of(idiom) for idiom in (*WRITTEN_OUT, BIAS) if idiom.operator == case.operator}
        fused = sum(change.kind in kinds for change in changes)
        occurrences = dict.fromkeys(idioms.find(graph, WRITTEN_OUT).values())
        left = sum(found.idiom.operator == case.operator and is_exact(found) for found in occurrences)
        if changes:
            write_back(graph)
        after = onnx.load_from_string(to_bytes(file))
    onnx.checker.check_model(after, full_check=True)
    before, now = computed(model, x), computed(after, x)
    error = float(np.abs(before - now).max() / max(1.0, float(np.abs(before).max())))
    return Outcome(graph.opset, own, fused, left, error)


def is_exact(found: Occurrence) -> bool:
    """Whether a newer operator set would have an operator that is exactly this."""
    try:
        require_exact(found)
        WRITERS[found.idiom.name].write(found)
    except Refused:
        return False
    return True


def computed(model: onnx.ModelProto, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options)
    return np.asarray(session.run(None, {session.get_inputs()[0].name: x})[0], np.float64)


def rows(cases: dict[str, Case], opsets: tuple[int, ...]) -> tuple[list[str], list[Outcome]]:
    """A row for each module and exporter, and all outcomes."""
    lines, every = [], []
    for name, case in cases.items():
        for dynamo in (False, True):
            cells, found = [], []
            for opset in (*opsets, None):
                try:
                    model, x = exported(case, dynamo=dynamo, opset=opset or opsets[0])
                    onnx.checker.check_model(model)  # an exporter may write attributes that an operator set lacks
                    if opset is None:
                        model = version_converter.convert_version(model, NEWEST)
                except Exception as error:  # noqa: BLE001  an exporter or converter lacks something
                    cells.append("no valid export" if opset else "no conversion")
                    logging.info("%s: %s", name, error)
                    continue
                one = outcome(model, case, x)
                found.append(one)
                raised = f" (opset {one.opset})" if opset and one.opset != opset else ""
                cells.append(one.shown() + raised)
            error = max((one.error for one in found), default=float("nan"))
            exporter = "dynamo" if dynamo else "TorchScript"
            lines.append(f"| {name} | {case.operator} | {exporter} | {' | '.join(cells)} | {error:.0e} |")
            every += found
    return lines, every


def table(lines: list[str]) -> str:
    columns = ["module", "operator", "exporter", *(f"opset {opset}" for opset in OPSETS), f"at {NEWEST}", "error"]
    return "\n".join([f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}", *lines])


def main() -> int:
    """Print both tables and write them; 1 if a module was missed, a near miss was fused, or a result differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="names of modules that contain this")
    only = parser.parse_args().only
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    lines, found = rows({name: case for name, case in CASES.items() if only in name}, OPSETS)
    missed, near = rows({name: case for name, case in MISSES.items() if only in name}, OPSETS)
    whole = all(one.own + one.fused + one.left == COUNT for one in found)
    alone = not any(one.own + one.fused + one.left for one in near)
    equal = all(one.error <= TOLERANCE for one in (*found, *near))
    text = f"{table(lines)}\n\nNear misses:\n\n{table(missed)}\n"
    print(text)
    print(f"{len(found)} files: all recognized: {whole}; near misses left alone: {alone}; equal: {equal}")
    if not only:
        RESULTS.write_text(f"# Idioms of PyTorch's exporters\n\n{__doc__.split('.', 1)[1].strip()}\n\n{text}")
    return 0 if whole and alone and equal else 1


if __name__ == "__main__":
    raise SystemExit(main())
