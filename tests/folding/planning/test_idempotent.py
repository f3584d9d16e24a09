"""What a fold makes known is used in the same run: a second run changes nothing."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import folding
from folding import Options

RANDOM = np.random.default_rng(0)
PARAMETERS = {name: RANDOM.uniform(0.5, 1.5, 4).astype(np.float32) for name in ("gamma", "beta", "mean", "var")}


def built(nodes, shape, initializers, sparse=()) -> onnx.ModelProto:
    tensors = [numpy_helper.from_array(values, name) for name, values in (PARAMETERS | initializers).items()]
    graph = helper.make_graph(
        [helper.make_node(op, inputs, [output], name=output) for op, inputs, output in nodes],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * 4)],
        tensors,
        sparse_initializer=sparse,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def open_channels() -> onnx.ModelProto:
    """Only the parameters of the normalization say how many channels there are."""
    nodes = [("BatchNormalization", ["x", *PARAMETERS], "n"), ("Sub", ["n", "s"], "y")]
    return built(nodes, ["n", "c", "h", "w"], {"s": RANDOM.random((4, 1, 1)).astype(np.float32)})


def behind_a_sparse_weight() -> onnx.ModelProto:
    """onnx infers no shape behind a convolution whose weight is sparse."""
    values = numpy_helper.from_array(RANDOM.random(12).astype(np.float32), "w")
    sparse = helper.make_sparse_tensor(values, numpy_helper.from_array(np.arange(12), "at"), [4, 3, 1, 1])
    nodes = [
        ("Conv", ["x", "w"], "c"),
        ("BatchNormalization", ["c", *PARAMETERS], "n"),
        ("Relu", ["n"], "r"),
        ("Conv", ["r", "w2"], "d"),
        ("Sum", ["d"], "e"),
        ("Add", ["e", "b2"], "y"),
    ]
    weights = {"w2": RANDOM.random((2, 4, 1, 1)).astype(np.float32), "b2": RANDOM.random((2, 1, 1)).astype(np.float32)}
    return built(nodes, ["n", 3, 5, 5], weights, [sparse])


@pytest.mark.parametrize("leftover", ["keep", "affine", "conv"])
@pytest.mark.parametrize(
    ("build", "folds"), [(open_channels, 0), (behind_a_sparse_weight, 2)], ids=["open channels", "sparse weight"]
)
def test_the_second_run_changes_nothing(build, folds, leftover):
    options = Options(verify=False, leftover=leftover)
    once, report = folding.fold_model(build(), options)
    twice, again = folding.fold_model(once, options)
    assert twice == once
    assert not again.changed
    assert [one.status for one in report.outcomes].count("folded") == folds
    assert folding.fold_model(build(), Options(leftover=leftover))[1].verification.status == "verified"


@pytest.mark.parametrize("leftover", ["keep", "affine"])
def test_what_is_left_of_a_normalization_knows_its_channels(leftover):
    """Its parameters count them; the Add that is left goes into the convolution in the first run."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["r"], axes=[0, 3], keepdims=0),
        helper.make_node("BatchNormalization", ["r", *PARAMETERS], ["n"], name="n"),
        helper.make_node("Reshape", ["n", "shape"], ["s"]),
        helper.make_node("Conv", ["s", "w"], ["y"], group=4),
    ]
    constants = PARAMETERS | {"w": RANDOM.random((8, 1, 1)).astype(np.float32), "shape": np.array([2, 4, 1])}
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2, "h", "w0"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * 3)
    graph = helper.make_graph(nodes, "g", [x], [y], [numpy_helper.from_array(v, k) for k, v in constants.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = Options(verify=False, leftover=leftover)
    once, _ = folding.fold_model(model, options)
    twice, again = folding.fold_model(once, options)
    assert twice == once
    assert not again.changed
