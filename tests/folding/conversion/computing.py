"""Models written as text, converted in memory, and run in ONNX Runtime, or by onnx's reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper, parser
from onnx.reference import ReferenceEvaluator

from folding import onnxfile
from folding.conversion.opset import convert

if TYPE_CHECKING:
    from collections.abc import Callable

    from folding.report.changes import Change

LENGTH = 2  # of an open axis


def model(
    opset: int, inputs: str, body: str, *, outputs: str = "y", constants: str = "", ir: int = 8
) -> onnx.ModelProto:
    """A model of the main graph `inputs => outputs`; outputs are declared by inference or are of unknown shape."""
    text = (
        f'<ir_version: {ir}, opset_import: ["": {opset}]> g ({inputs}) => (float {outputs}) <{constants}> {{ {body} }}'
    )
    made = parser.parse_model(text)
    for value in made.graph.output:
        value.type.Clear()
    found = onnx.shape_inference.infer_shapes(made).graph.output
    for value, known in zip(made.graph.output, found, strict=True):
        value.type.CopyFrom(known.type if known.type.WhichOneof("value") else made.graph.input[0].type)
    return made


def applied(made: onnx.ModelProto, change: Callable[[onnxfile.OnnxFile], list[Change]]) -> tuple[onnx.ModelProto, list]:
    """The model after a change of its file, and what the change reports."""
    with onnxfile.from_bytes(made.SerializeToString()) as file:
        changes = change(file)
        return onnx.ModelProto.FromString(onnxfile.to_bytes(file)), changes


def converted(made: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """The model in another opset, after a check that it is valid there."""
    found, _ = applied(made, lambda file: convert(file, opset))
    assert [o.version for o in found.opset_import if o.domain == ""] == [opset]
    onnx.checker.check_model(found, full_check=True)
    return found


def feeds(made: onnx.ModelProto, seed: int = 7) -> dict[str, Any]:
    random, given = np.random.default_rng(seed), {}
    defaults = {tensor.name for tensor in made.graph.initializer}
    for value in made.graph.input:
        tensor = value.type.tensor_type
        shape = [d.dim_value if d.HasField("dim_value") else LENGTH for d in tensor.shape.dim]
        dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        numbers = random.standard_normal(shape) * 3 if dtype.kind == "f" else random.integers(0, 2, shape)
        if value.name not in defaults:
            given[value.name] = np.asarray(numbers, dtype)
    return given


def results(made: onnx.ModelProto, given: dict[str, Any], *, reference: bool = False) -> list[Any]:
    if reference:
        return ReferenceEvaluator(made).run(None, given)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, given)


def assert_equal(
    before: onnx.ModelProto, after: onnx.ModelProto, *, reference: bool = False, digits: float = 1e-5
) -> None:
    given = feeds(before)
    expected = results(before, given, reference=reference)
    found = results(after, given, reference=reference)
    for one, two in zip(expected, found, strict=True):
        assert one.shape == two.shape
        assert one.dtype == two.dtype
        np.testing.assert_allclose(two, one, rtol=digits, atol=digits)
