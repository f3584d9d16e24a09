"""The operator set that a target gains most by: its operators first, then idioms, then the nearest one."""

from __future__ import annotations

import pytest
from onnx import parser

from folding import Options, fold_model, onnxfile
from folding.analysis import shapes
from folding.analysis.values import indexed
from folding.readiness.opsets import best_opset
from folding.targets.model import load

POOL = "g (float[1,4,8,8] x) => (float[1,4,4,4] y) { y = MaxPool <kernel_shape = [2,2], strides = [2,2]> (x) }"
SWISH = """g (float[2,4] x) => (float[2,4] y) <float t = {3}, float z = {0}, float s = {6}>
{ a = Add(x, t) c = Clip(a, z, s) m = Mul(x, c) y = Div(m, s) }"""
NORM = """g (float[2,4,2] x) => (float[2,4,2] y)
<float two = {2}, float e = {0.00001}, float[2] s = {1, 2}, float[2] b = {3, 4}>
{ m = ReduceMean <axes = [-1]> (x) d = Sub(x, m) q = Pow(d, two) v = ReduceMean <axes = [-1]> (q) w = Add(v, e)
r = Sqrt(w) n = Div(d, r) t = Mul(n, s) y = Add(t, b) }"""
PLAIN = "g (float[2,4] x) => (float[2,4] y) { y = Relu(x) }"


def model(text, opset):
    return parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> {text}')


@pytest.mark.parametrize(
    ("text", "own", "target", "best"),
    [
        (POOL, 22, "onnxruntime-cuda", 21),  # its kernel ends there
        (POOL, 13, "onnxruntime-cuda", 13),
        (SWISH, 13, "tensorrt-11", 14),  # HardSwish begins there
        (SWISH, 17, "tensorrt-11", 17),
        (SWISH, 13, "onnxruntime-cpu", 14),  # which expands it, into less than this
        (NORM, 13, "onnxruntime-cpu", 17),  # which recognizes it, unless another optimization comes first
        (NORM, 13, "webgpu", 17),
        (PLAIN, 7, "tensorrt-11", 9),  # the lowest that it parses
        (PLAIN, 17, "tensorrt-11", 17),
    ],
)
def test_the_best_operator_set(text, own, target, best):
    with onnxfile.from_bytes(model(text, own).SerializeToString()) as file:
        graph = indexed(file)
        shapes.infer(graph)
        assert best_opset(graph, load(target)) == best


def test_an_idiom_of_which_an_operator_is_kept_needs_no_other_set():
    made = model(SWISH, 13)
    made.graph.node[1].name = "clip"
    after, _ = fold_model(made, Options(target="tensorrt-11", keep=("clip",)))
    assert after.opset_import[0].version == 13


def test_a_fold_for_a_target_converts_to_it():
    after, report = fold_model(model(SWISH, 13), Options(target="tensorrt-11"))
    assert after.opset_import[0].version == 14
    assert [node.op_type for node in after.graph.node] == ["HardSwish"]
    assert report.findings == ()
    after, _ = fold_model(model(SWISH, 13), Options(target="tensorrt-11", opset=13))
    assert after.opset_import[0].version == 13


QUANTIZED = """g (float[1,4] x) => (float[1,4] y)
<float s = {0.1}, float r = {0.70710677}, float one = {1}, float half = {0.5}, int8 z = {0}>
{ d = Cast <to = 11> (x) q = QuantizeLinear(d, s, z) n = DequantizeLinear(q, s, z)
a = Mul(n, r) b = Erf(a) c = Add(b, one) e = Mul(n, c) y = Mul(e, half) }"""


def test_float64_that_no_other_set_has_an_operator_for_is_narrowed_before():
    """QuantizeLinear takes no float64: the converter refuses the model as it was, and so does ONNX Runtime."""
    options = Options(target="tensorrt-11", verify=False)
    after, _ = fold_model(model(QUANTIZED, 13), options)
    assert [node.op_type for node in after.graph.node] == ["QuantizeLinear", "DequantizeLinear", "Gelu"]
    again, report = fold_model(after, options)
    assert again == after
    assert report.changes == ()
