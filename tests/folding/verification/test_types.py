"""A model whose types ONNX Runtime refuses is bad input, and no fold that could not be verified."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import folding
from folding import ModelError, Options
from tests.support.models import Model
from tests.support.rows.row import out, start


def network() -> onnx.ModelProto:
    m = Model(dtype=np.float32)
    out(m, m.bn(m.conv(start(m), 4)))
    return m.build()


def followed_by(op: str, *more: str, kind: int) -> onnx.ModelProto:
    model = network()
    graph = model.graph
    graph.initializer.append(numpy_helper.from_array(np.ones(1), "double"))
    graph.node.append(helper.make_node(op, [graph.output[0].name, *more], ["last"]))
    graph.output[0].CopyFrom(helper.make_tensor_value_info("last", kind, None))
    return model


def declared_as_double() -> onnx.ModelProto:
    model = network()
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.DOUBLE
    return model


WRONG = {
    "two types in one operator": followed_by("Mul", "double", kind=TensorProto.FLOAT),
    "a type that the operator does not take": followed_by("Not", kind=TensorProto.BOOL),
    "an output declared as another type": declared_as_double(),
}


@pytest.mark.parametrize("model", WRONG.values(), ids=WRONG)
def test_types_that_the_standard_forbids_are_bad_input(tmp_path, model):
    source, target = tmp_path / "model.onnx", tmp_path / "folded.onnx"
    onnx.save(model, source)
    said = "ONNX Runtime refuses the types of the original model: .*Type Error: "
    with pytest.raises(ModelError, match=said):
        folding.fold(source, target)
    with pytest.raises(ModelError, match=said):
        folding.fold_model(model)
    with pytest.raises(ModelError, match=said):
        folding.verify(source, source)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    assert folding.fold(source, target, Options(verify=False)).changed


def test_an_operator_that_onnx_runtime_does_not_know_is_no_bad_input(tmp_path):
    model = followed_by("Custom", kind=TensorProto.FLOAT)
    model.graph.node[-1].domain = "com.example"
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    onnx.save(model, tmp_path / "model.onnx")
    report = folding.fold(tmp_path / "model.onnx", tmp_path / "folded.onnx")
    assert report.verification.status == "not verified"
