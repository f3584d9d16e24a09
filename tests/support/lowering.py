"""Lower small models to 16 bits and look at what came out: types, Casts, a full check, and values in ONNX Runtime."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, shape_inference

from folding import Options, Report, onnxfile
from folding.analysis import shapes
from folding.analysis.values import indexed
from folding.api import fold_model
from folding.editing.writeback import write_back
from folding.execution.emulation import emulate
from folding.precision.lower import lower
from folding.precision.ranges import measure
from tests.support.inprocess import in_process

if TYPE_CHECKING:
    from collections.abc import Mapping

    from folding.precision.lower import Lowered

Array = np.ndarray[Any, np.dtype[Any]]
HALF, BRAIN, FLOAT = onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16, onnx.TensorProto.FLOAT


def parsed(text: str, opset: int = 17, **initializers: Any) -> onnx.ModelProto:
    """A model written as the text of its graph, with initializers (float32, unless they are arrays of another type)."""
    header = f'<ir_version: 8, opset_import: ["" : {opset}]>\n'
    model = onnx.parser.parse_model(header + text)
    for name, values in initializers.items():
        array = np.asarray(values)
        array = array.astype(np.float32) if array.dtype == np.float64 else array
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return model


def lowered(
    model: onnx.ModelProto, precision: Any = "fp16", *, ranges: bool | Mapping[str, Any] = False, **options: Any
) -> tuple[onnx.ModelProto, Lowered]:
    """The lowered model, of which a full check passes as of the original, and what was done.

    `ranges` are given, or measured on generated samples if they are True.
    """
    with onnxfile.from_bytes(model.SerializeToString()) as file:
        graph = indexed(file)
        shapes.infer(graph)
        found = measure(graph).values if ranges is True else ranges or {}
        outcome = lower(graph, precision, ranges=found, **options)
        write_back(graph)
        data = onnxfile.to_bytes(file)
    if not outcome.changes:
        assert data == model.SerializeToString()
    result = onnx.ModelProto.FromString(data)
    onnx.checker.check_model(result, full_check=_passes(model))
    return result, outcome


def folded(
    model: onnx.ModelProto, precision: Any, feeds: Mapping[str, Array], **options: Any
) -> tuple[onnx.ModelProto, Report]:
    """What the whole pipeline makes of a model, with the ranges that these samples show."""
    with tempfile.TemporaryDirectory() as folder, in_process():
        path = Path(folder, "samples.npz")
        halves = {one.name for one in model.graph.input if one.type.tensor_type.elem_type == HALF}
        np.savez(path, **{n: v.astype(np.float16) if n in halves else v for n, v in feeds.items()})
        return fold_model(model, Options(verify=False, precision=precision, inputs=path, **options))


def _passes(model: onnx.ModelProto) -> bool:
    """Whether onnx's full check passes; it knows no sparse constants, for example."""
    try:
        onnx.checker.check_model(model, full_check=True)
    except (shape_inference.InferenceError, onnx.checker.ValidationError):
        return False
    return True


def types(model: onnx.ModelProto) -> dict[str, int]:
    """The element type of every value of the main graph."""
    found = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    graph = shape_inference.infer_shapes(model, strict_mode=True).graph
    values = (*graph.input, *graph.output, *graph.value_info)
    return found | {value.name: value.type.tensor_type.elem_type for value in values}


def computed_in(model: onnx.ModelProto) -> dict[str, int]:
    """The element type of the first result of every operator of the main graph, by its name or type."""
    known = types(model)
    return {node.name or node.op_type: known[node.output[0]] for node in model.graph.node}


def counted(model: onnx.ModelProto) -> Counter[str]:
    """How many operators of each type there are, in nested graphs, too."""
    found: Counter[str] = Counter()
    waiting = [model.graph]
    while waiting:
        graph = waiting.pop()
        found.update(node.op_type for node in graph.node)
        waiting += [a.g for node in graph.node for a in node.attribute if a.HasField("g")]
    return found


def casts(model: onnx.ModelProto) -> int:
    """The number of Casts."""
    return counted(model)["Cast"]


def ran(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> list[Array]:
    """The outputs of a model in ONNX Runtime, which computes float16 in float32."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    given = {i.name: feeds[i.name] for i in session.get_inputs()}
    kinds = {i.name: np.float16 if i.type == "tensor(float16)" else None for i in session.get_inputs()}
    return list(session.run(None, {n: v.astype(kinds[n]) if kinds[n] else v for n, v in given.items()}))


def emulated(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model in float32, in which every value that it stores in 16 bits is rounded to them, as a GPU would."""
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder, "model.onnx"), Path(folder, "emulated.onnx")
        onnx.save(model, before)
        emulate(before, after)
        return onnx.load(after)


def random_feeds(model: onnx.ModelProto, seed: int = 0) -> dict[str, Array]:
    """Random values for the inputs of a model."""
    rng = np.random.default_rng(seed)
    known = {tensor.name for tensor in model.graph.initializer}
    feeds = {}
    for value in model.graph.input:
        if value.name not in known:
            tensor = value.type.tensor_type
            dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
            shape = [d.dim_value or 2 for d in tensor.shape.dim]
            values = rng.standard_normal(shape) if dtype.kind == "f" else rng.integers(0, 2, shape)
            feeds[value.name] = np.asarray(values).astype(dtype)
    return feeds


def assert_close(
    before: onnx.ModelProto, after: onnx.ModelProto, feeds: Mapping[str, Array], share: float = 0.02
) -> None:
    """Both compute the same but for rounding, and the lowered one is finite where the other one is.

    What it stores in 16 bits is rounded to them.
    """
    feeds = {name: value.astype(np.float32) if value.dtype == np.float16 else value for name, value in feeds.items()}
    for expected, found in zip(ran(emulated(before), feeds), ran(emulated(after), feeds), strict=True):
        assert found.shape == expected.shape
        if expected.dtype.kind != "f":
            continue
        wide = expected.astype(np.float64)
        assert np.array_equal(np.isfinite(found), np.isfinite(wide))
        assert np.array_equal(np.isnan(found), np.isnan(wide))
        finite = np.isfinite(wide)
        off = np.abs(found[finite].astype(np.float64) - wide[finite]).max(initial=0)
        assert off <= share * max(np.abs(wide[finite]).max(initial=0), 1e-3)


def settled(
    text: str,
    precision: Any = "fp16",
    opset: int = 17,
    *,
    ranges: bool = False,
    share: float = 0.02,
    feeds: Mapping[str, Array] | None = None,
    options: Mapping[str, Any] | None = None,
    **constants: Any,
) -> onnx.ModelProto:
    """The lowered model of a graph that comes out changed, valid and close."""
    model = parsed(text, opset, **constants)
    result, outcome = lowered(model, precision, ranges=ranges, **(options or {}))
    assert outcome.changes
    if precision != "bf16":
        assert_close(model, result, feeds or random_feeds(model), share)
    _, second = lowered(result, precision, ranges=ranges, **(options or {}))
    assert not second.changes, second.changes
    return result
