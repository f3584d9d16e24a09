"""Models as ONNX text, cleaned, with every check that holds for all of them: valid, equal in ONNX Runtime, stable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper, parser

from folding import onnxfile
from folding.analysis import shapes
from folding.analysis.values import indexed
from folding.cleaning.driver import LIMIT, clean
from folding.editing.writeback import write_back
from folding.graph.node import bodies

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from folding.report.changes import Change
    from tests.support.models import Array

BATCH = 2  # the length of every open axis of a sample
TYPES = {"tensor(float)": "f4", "tensor(double)": "f8", "tensor(float16)": "f2", "tensor(bool)": "?"}
TYPES |= {f"tensor({sign}int{bits})": f"{sign or 'i'}{bits // 8}" for sign in ("", "u") for bits in (8, 16, 32, 64)}


def model(text: str, opset: int = 17, ir: int = 8) -> onnx.ModelProto:
    """A model of the text of a graph, and of functions behind it."""
    head = f'<ir_version: {ir}, opset_import: ["" : {opset}, "local" : 1]>\n'
    graph = text if text.lstrip().startswith("g") else f"g {text.strip()}"
    return parser.parse_model(head + graph)


def clean_model(
    before: onnx.ModelProto,
    blocked: Collection[str] = (),
    limit: int = LIMIT,
    keeps: Callable[[str], bool] = lambda _: False,
    **options: Any,
) -> tuple[onnx.ModelProto, list[Change]]:
    """The cleaned model and what was done."""
    with onnxfile.from_bytes(before.SerializeToString()) as file:
        graph = indexed(file, **options)
        shapes.infer(graph)
        changes = clean(graph, blocked, limit, keeps)
        write_back(graph)
        return onnx.ModelProto.FromString(onnxfile.to_bytes(file)), changes


def operators(graph: onnx.GraphProto) -> Iterator[str]:
    """The operator types in order, those of bodies behind the operator that holds them."""
    for node in graph.node:
        yield node.op_type
        for body in bodies(node):
            yield from operators(body)


def samples(before: onnx.ModelProto, seed: int = 0) -> dict[str, Array]:
    """Random inputs, with NaN, infinities and both zeros among the floating-point ones."""
    random, feeds = np.random.default_rng(seed), {}
    initialized = {tensor.name for tensor in before.graph.initializer}
    for value in before.graph.input:
        if value.name in initialized:
            continue
        tensor = value.type.tensor_type
        shape = [d.dim_value if d.HasField("dim_value") else BATCH for d in tensor.shape.dim]
        dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        if dtype.kind == "f":
            array = random.normal(0, 3, shape).astype(dtype)
            odd = random.random(shape) < 0.2
            feeds[value.name] = np.where(odd, random.choice([0.0, -0.0, 1.0], shape), array).astype(dtype)
        else:
            feeds[value.name] = random.integers(0, 2 if dtype.kind == "b" else 5, shape).astype(dtype)
    return feeds


def run(which: onnx.ModelProto, feeds: Mapping[str, Array]) -> list[Array]:
    """The outputs in ONNX Runtime without its own optimizations."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(which.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found: list[Array] = session.run(None, dict(feeds))
    return found


def is_valid(which: onnx.ModelProto) -> bool:
    """Whether onnx's checker accepts a model, and its shapes and types."""
    try:
        onnx.checker.check_model(which, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError):
        return False
    return True


def can_run(which: onnx.ModelProto) -> bool:
    """Whether ONNX Runtime runs a model. (1.32 loses values that an Identity in a body of opset 11 reads.)"""
    try:
        run(which, samples(which))
    except Exception:  # noqa: BLE001  whatever it raises
        return False
    return True


def assert_equal(before: onnx.ModelProto, after: onnx.ModelProto, seeds: Sequence[int] = (0, 1)) -> None:
    """Both have the same inputs and outputs, and the outputs are equal. (ONNX Runtime's Where makes 0 of -0.)"""
    names = [[value.name for value in (*m.graph.input, *m.graph.output)] for m in (before, after)]
    assert names[0] == names[1]
    for seed in seeds:
        feeds = samples(before, seed)
        for expected, found in zip(run(before, feeds), run(after, feeds), strict=True):
            assert (expected.dtype, expected.shape) == (found.dtype, found.shape)
            assert np.array_equal(expected, found, equal_nan=expected.dtype.kind == "f")


def check(before: onnx.ModelProto, runs: bool = True, **arguments: Any) -> onnx.ModelProto:
    """Clean and check: the result is valid and equal, and cleaning it changes nothing."""
    after, changes = clean_model(before, **arguments)
    assert is_valid(after) or not is_valid(before)
    if runs:
        assert_equal(before, after)
    again, more = clean_model(after, **arguments)
    assert not more
    assert list(operators(again.graph)) == list(operators(after.graph))
    removed = sum(1 for _ in operators(before.graph)) != sum(1 for _ in operators(after.graph))
    assert bool(changes) or not removed
    return after
