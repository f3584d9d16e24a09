"""Shapes that a file records, values of unknown rank, and Scaler of ai.onnx.ml: what only its neighbours describe."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from folding import fold_model
from tests.support.models import NO_VERIFY

RANDOM = np.random.default_rng(0)
DOMAINS = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1), helper.make_opsetid("ai.onnx.ml", 3)]


def made(nodes, shape, *, recorded=None, kind=TensorProto.FLOAT, **constants) -> onnx.ModelProto:
    """A model of these operators that reads x and ends in y; `recorded` is the shape in the file of the value v."""
    tensors = [numpy_helper.from_array(np.asarray(v, np.float32), name) for name, v in constants.items()]
    x, y = helper.make_tensor_value_info("x", kind, shape), helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    values = [] if recorded is None else [helper.make_tensor_value_info("v", TensorProto.FLOAT, recorded)]
    graph = helper.make_graph(nodes, "g", [x], [y], tensors, value_info=values)
    return helper.make_model(graph, opset_imports=DOMAINS, ir_version=8)


def fold(model):
    return fold_model(model, NO_VERIFY)


def folded(model, *shape, kind=np.float32):
    """The folded model, once it is certain that ONNX Runtime computes the same with both."""
    after, report = fold(model)
    again, second = fold(after)
    assert again == after
    assert not second.changed
    x = (RANDOM.standard_normal(shape) * 3).astype(kind)
    files, options = (model.SerializeToString(), after.SerializeToString()), onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # others believe it
    runs = (onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"]) for file in files)
    wanted, found = (run.run(None, {"x": x})[0] for run in runs)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
    return after, report


def behind(*maps: str) -> list[onnx.NodeProto]:
    """MatMul of a custom operator's result, and maps of it with the constants c0, c1, ..."""
    nodes = [
        helper.make_node("FastGelu", ["x"], ["v"], name="gelu", domain="com.microsoft"),
        helper.make_node("MatMul", ["v", "w"], ["p"], name="product"),
    ]
    for number, op in enumerate(maps):
        value = nodes[-1].output[0]
        nodes.append(helper.make_node(op, [value, f"c{number}"], [f"m{number}"], name=f"map{number}"))
    return [*nodes, helper.make_node("Tanh", [nodes[-1].output[0]], ["y"])]


VECTORS = {f"c{number}": RANDOM.uniform(0.5, 1, 4) for number in range(3)}
MATRIX = RANDOM.standard_normal((6, 4))


@pytest.mark.parametrize("recorded", [None, ["N", "T", 6]])
@pytest.mark.parametrize("shape", [(3, 5, 6), (5, 6), (6,)])
def test_a_vector_behind_a_product_needs_no_rank(shape, recorded):
    """The last axis is the matrix's whatever the rank is."""
    if recorded is not None and len(shape) != 3:
        pytest.skip("the file records three axes")
    model = made(
        behind("Add", "Mul", "Add"), [f"d{n}" for n, _ in enumerate(shape)], recorded=recorded, w=MATRIX, **VECTORS
    )
    if recorded is None:
        model.graph.input[0].type.tensor_type.ClearField("shape")
    after, report = folded(model, *shape)
    assert [node.op_type for node in after.graph.node] == ["FastGelu", "MatMul", "Add", "Tanh"]
    assert {outcome.status for outcome in report.outcomes} == {"folded", "merged"}


@pytest.mark.parametrize("constant", [(1, 4), (1, 1, 1)])
def test_a_constant_that_may_add_axes_needs_the_rank(constant):
    model = made(behind("Add", "Mul"), ["n", "k"], w=MATRIX, c0=np.ones(4), c1=np.full(constant, 2.0))
    after, report = folded(model, 3, 6)
    assert after == model
    assert report.outcomes[0].backward.code == "broadcast"


def test_a_constant_of_another_length_broadcasts():
    model = made(behind("Add", "Mul"), ["n", "k"], w=MATRIX[:, :1], c0=np.ones(1), c1=np.ones(4))
    _, report = folded(model, 3, 6)
    assert report.outcomes[0].backward.code == "broadcast"


def test_a_map_of_unknown_rank_does_not_move_forward():
    """Behind it, an axis counted from the start may be any."""
    nodes = behind("Mul")
    nodes[1:] = [
        helper.make_node("MatMul", ["v", "w"], ["p"], name="product"),
        helper.make_node("Mul", ["p", "c0"], ["m0"], name="map0"),
        helper.make_node("Concat", ["m0", "p"], ["j"], axis=0),
        helper.make_node("MatMul", ["j", "u"], ["y"]),
    ]
    model = made(nodes, ["n", "k"], w=MATRIX, u=RANDOM.standard_normal((4, 2)), c0=VECTORS["c0"])
    after, report = folded(model, 3, 6)
    assert after == model
    assert report.outcomes[0].forward.code == "unknown-shape"


def test_a_recorded_shape_reaches_what_is_behind_it():
    nodes = behind("Mul")
    nodes[2] = helper.make_node("Mul", ["p", "c0"], ["m0"], name="map0")
    shape, c0 = ["N", "T", 6], RANDOM.uniform(1, 2, (1, 1, 4))
    after, report = folded(made(nodes, shape, recorded=shape, w=MATRIX, c0=c0), 2, 3, 6)
    assert report.outcomes[0].status == "folded"
    assert len(after.graph.node) == 3


@pytest.mark.parametrize("between", [[], [helper.make_node("MatMul", ["v", "u"], ["b"])]])
@pytest.mark.parametrize("is_output", [False, True])
def test_a_recorded_length_of_an_open_axis_is_not_used(between, is_output):
    """The batch was fixed when the shape was recorded; a sum over it takes a shift as often as it has elements."""
    nodes = [
        helper.make_node("FastGelu", ["x"], ["v"], name="gelu", domain="com.microsoft"),
        *between,
        helper.make_node("BatchNormalization", ["b" if between else "v", *"efgh"], ["m0"], name="bn"),
        helper.make_node("ReduceSum", ["m0", "axis"], ["s"], keepdims=0),
        helper.make_node("Transpose", ["s"], ["r"], perm=[1, 0]),
        helper.make_node("MatMul", ["r", "w"], ["y"]),
    ]
    parameters = dict(zip("efgh", RANDOM.uniform(0.5, 1, (4, 6)), strict=True))
    model = made(nodes, ["N", 6, 5], recorded=[1, 6, 5], w=MATRIX, u=RANDOM.standard_normal((5, 5)), **parameters)
    model.graph.initializer.append(numpy_helper.from_array(np.array([0]), "axis"))
    if is_output:
        model.graph.output.append(model.graph.value_info.pop())
    _, report = folded(model, 3, 6, 5)
    assert report.outcomes[0].status == "split"


def test_a_recorded_shape_that_contradicts_an_operator_is_not_used():
    model = made(behind("Mul"), ["N", "T", 6], recorded=["N", "T", 5], w=MATRIX, c0=np.ones((1, 1, 4)) * 2)
    after, report = fold(model)
    assert after == model
    assert report.outcomes[0].backward.code == "broadcast"


# --- Scaler of ai.onnx.ml ------------------------------------------------------------------------------------------


def scaled(offset, scale) -> list[onnx.NodeProto]:
    scaler = helper.make_node("Scaler", ["x"], ["v"], "scaler", domain="ai.onnx.ml", offset=offset, scale=scale)
    return [scaler, helper.make_node("Gemm", ["v", "w", "c0"], ["p"]), helper.make_node("Tanh", ["p"], ["y"])]


FEATURES = [0.1 * n for n in range(1, 7)]


@pytest.mark.parametrize(("offset", "scale"), [(FEATURES, FEATURES[::-1]), ([0.5], [2.0])])
def test_a_scaler_folds(offset, scale):
    after, report = folded(made(scaled(offset, scale), ["N", 6], w=MATRIX, c0=VECTORS["c0"]), 3, 6)
    assert [node.op_type for node in after.graph.node] == ["Gemm", "Tanh"]
    first = report.outcomes[0]
    assert (first.node, first.operator, first.status) == ("scaler", "ai.onnx.ml::Scaler", "folded")


@pytest.mark.parametrize("kind", [TensorProto.DOUBLE, TensorProto.INT64, TensorProto.INT32])
def test_a_scaler_that_changes_the_type_stays(kind):
    """It makes float32 of everything."""
    model = made(scaled(FEATURES, FEATURES), ["N", 6], kind=kind, w=MATRIX, c0=VECTORS["c0"])
    after, report = folded(model, 3, 6, kind=helper.tensor_dtype_to_np_dtype(kind))
    assert after == model
    assert report.outcomes[0].backward.code == "not-float"


@pytest.mark.parametrize(
    ("offset", "scale", "shape"),
    [
        (FEATURES, [1.0], ["N", 6]),
        (FEATURES[:5], FEATURES[:5], ["N", 6]),
        (FEATURES, FEATURES, ["N", "F"]),
        (FEATURES, FEATURES, [2, 6, 6]),
    ],
)
def test_a_scaler_of_other_lengths_stays(offset, scale, shape):
    model = made(scaled(offset, scale), shape, w=MATRIX, c0=VECTORS["c0"])
    after, report = fold(model)
    assert after == model
    assert report.outcomes[0].backward.code == "parameters"


def test_a_scaler_without_offset_stays():
    nodes = scaled([0.5], [2.0])
    del nodes[0].attribute[0]
    _, report = fold(made(nodes, ["N", 6], w=MATRIX, c0=VECTORS["c0"]))
    assert report.outcomes[0].backward.code == "parameters"
    assert not report.changed


def test_an_infinite_scaler_stays():
    _, report = fold(made(scaled([0.5], [np.inf]), ["N", 6], w=MATRIX, c0=VECTORS["c0"]))
    assert report.outcomes[0].backward.code == "non-finite"


def test_a_function_of_that_name_is_no_scaler():
    model = made(scaled(FEATURES, FEATURES), ["N", 6], w=MATRIX, c0=VECTORS["c0"])
    body = [helper.make_node("Neg", ["a"], ["b"])]
    model.functions.append(
        helper.make_function("ai.onnx.ml", "Scaler", ["a"], ["b"], body, DOMAINS[:1], ["offset", "scale"])
    )
    _, report = fold(model)
    assert report.outcomes[0].backward.code == "custom-domain"
