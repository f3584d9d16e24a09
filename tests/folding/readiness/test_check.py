from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import onnx
import pytest
from onnx import helper, parser

from folding import onnxfile
from folding.analysis import shapes
from folding.analysis.values import indexed
from folding.readiness.check import check
from folding.readiness.lint import lint
from folding.readiness.restrictions import RESTRICTIONS
from folding.readiness.values import NAMES as TYPE_NAMES
from folding.targets.model import NAMES, Target, load

if TYPE_CHECKING:
    from folding.report.findings import Finding

TRT = load("tensorrt-11")


def model(text: str, opset: int = 17, ir: int = 8, domains: str = "") -> onnx.ModelProto:
    return parser.parse_model(f'<ir_version: {ir}, opset_import: ["" : {opset}{domains}]>\n{text}')


def findings(made: onnx.ModelProto, target: str | Target = TRT) -> tuple[Finding, ...]:
    with onnxfile.from_bytes(made.SerializeToString()) as file:
        graph = indexed(file)
        shapes.infer(graph)
        return check(graph, load(target) if isinstance(target, str) else target)


def codes(made: onnx.ModelProto, target: str | Target = TRT) -> list[tuple[str, str, str]]:
    return [(one.severity, one.operator, one.code) for one in findings(made, target)]


def sparse() -> onnx.ModelProto:
    values, indices = helper.make_tensor("", 1, [1], [3.0]), helper.make_tensor("", 7, [1], [0])
    made = g("c = Constant<value_float = 1.0>() y = Mul(x, c)")
    node = helper.make_node("Constant", [], ["c"], sparse_value=helper.make_sparse_tensor(values, indices, [8]))
    made.graph.node[0].CopyFrom(node)
    return made


def g(body: str, inputs: str = "float[1,4,8,8] x", outputs: str = "float[N] y", **kinds: object) -> onnx.ModelProto:
    return model(f"g ({inputs}) => ({outputs}) {{ {body} }}", **kinds)


def quantized(zero_point: int) -> onnx.ModelProto:
    made = g("s = Constant<value_float = 0.1>() y = QuantizeLinear(x, s, z)", outputs="int8[N] y")
    made.graph.initializer.append(helper.make_tensor("z", onnx.TensorProto.INT8, [], [zero_point]))
    return made


AXES = "a = Constant<value_ints = [1]>() "
LSTM = "float[4,1,8] x, float[2,16,8] w, float[2,16,4] r"
SAME = '["Sigmoid","Tanh","Tanh","Sigmoid","Tanh","Tanh"]'
OTHER = '["Sigmoid","Tanh","Tanh","Relu","Tanh","Tanh"]'

# The restriction, what breaks it, what comes close and keeps it
ROWS = [
    ("pool-2d-3d", g("y = MaxPool<kernel_shape = [2]>(x)", "float[1,4,8] x"), g("y = MaxPool<kernel_shape = [2,2]>(x)")),
    ("one-output", g("y, i = MaxPool<kernel_shape = [2,2]>(x)"), g("y = MaxPool<kernel_shape = [2,2]>(x)")),
    (
        "no-dilations",
        g("y = MaxPool<kernel_shape = [2,2], dilations = [2,2]>(x)"),
        g("y = MaxPool<kernel_shape = [2,2], dilations = [1,1]>(x)"),
    ),
    ("constant", g("y = ReduceMean(x, a)", "float[2,4] x, int64[1] a", opset=18), g(f"{AXES} y = ReduceMean(x, a)", opset=18)),
    ("attribute", g('y = Resize<mode = "cubic">(x, , s)', "float[1,4,8,8] x, float[4] s"),
     g('y = Resize<mode = "linear">(x, , s)', "float[1,4,8,8] x, float[4] s")),
    ("nearest-modes", g('y = Resize<coordinate_transformation_mode = "tf_half_pixel_for_nn", nearest_mode = "floor">(x, , s)', "float[1,4,8,8] x, float[4] s"),
     g('y = Resize<coordinate_transformation_mode = "half_pixel", nearest_mode = "floor">(x, , s)', "float[1,4,8,8] x, float[4] s")),
    ("iota-axes", g("y = Resize<axes = [2,3]>(x, , s)", "float[1,4,8,8] x, float[2] s", opset=18),
     g("y = Resize<axes = [0,1,2,3]>(x, , s)", "float[1,4,8,8] x, float[4] s", opset=18)),
    ("without", sparse(), g("c = Constant<value_float = 1.0>() y = Mul(x, c)")),
    ("zero", quantized(3),
     quantized(0)),
    ("false", g("r = Constant<value_float = 0.5>() t = Constant<value = bool {1}>() y = Dropout(x, r, t)"),
     g("r = Constant<value_float = 0.5>() t = Constant<value = bool {0}>() y = Dropout(x, r, t)")),
    ("rank", g("y = GridSample(x, w)", "float[1,4,8,8,8] x, float[1,8,8,8,3] w", opset=20),
     g("y = GridSample(x, w)", "float[1,4,8,8] x, float[1,8,8,2] w", opset=20)),
    ("static", g("y = EyeLike(x)", "float[N,4] x"), g("y = EyeLike(x)", "float[4,4] x")),
    ("static-axis", g("y = Hardmax<axis = 1>(x)", "float[2,N] x"), g("y = Hardmax<axis = 0>(x)", "float[2,N] x")),
    ("same-activations", g(f'y = LSTM<direction = "bidirectional", hidden_size = 4, activations = {OTHER}>(x, w, r)', LSTM),
     g(f'y = LSTM<direction = "bidirectional", hidden_size = 4, activations = {SAME}>(x, w, r)', LSTM)),
    ("k-below-3840", g("k = Constant<value_ints = [3840]>() y, i = TopK(x, k)", "float[9000] x"),
     g("k = Constant<value_ints = [3839]>() y, i = TopK(x, k)", "float[9000] x")),
    ("lower-case-equation", g('y = Einsum<equation = "Ij->Ij">(x)', "float[2,4] x"), g('y = Einsum<equation = "ij->ij">(x)', "float[2,4] x")),
    ("symmetric-pads", g("y = DeformConv<pads = [0,0,1,1]>(x, w, o)", "float[1,4,8,8] x, float[4,4,1,1] w, float[1,2,10,10] o", opset=19),
     g("y = DeformConv<pads = [1,1,1,1]>(x, w, o)", "float[1,4,8,8] x, float[4,4,1,1] w, float[1,2,10,10] o", opset=19)),
    ("type", g("y = RotaryEmbedding(x, c, s, p)", "float[1,2,4,8] x, float[9,4] c, float[9,4] s, int32[1,4] p", opset=23),
     g("y = RotaryEmbedding(x, c, s, p)", "float[1,2,4,8] x, float[9,4] c, float[9,4] s, int64[1,4] p", opset=23)),
    ("without-input", g("y = Attention(x, x, x, , p, p)", "float[1,2,4,8] x, float[1,2,3,8] p", opset=23), g("y = Attention(x, x, x)", "float[1,2,4,8] x", opset=23)),
    ("real-signal", g("f = Constant<value_int = 4>() y = STFT(x, f)", "float[1,64,2] x"), g("f = Constant<value_int = 4>() y = STFT(x, f)", "float[1,64,1] x")),
    ("same-rank-branches",
     g("y = If(c)<then_branch = a () => (float[2] p) { p = Abs(x) }, else_branch = b () => (float[2,1] q) { q = Neg(w) }>", "bool c, float[2] x, float[2,1] w"),
     g("y = If(c)<then_branch = a () => (float[2] p) { p = Abs(x) }, else_branch = b () => (float[3] q) { q = Neg(w) }>", "bool c, float[2] x, float[3] w")),
    ("fixed-loop",
     g("y = Loop(m, c, x)<body = b (int64 i, bool k, float[2] v) => (bool k2, float[4] v2) { k2 = Identity(k) v2 = Concat<axis = 0>(v, v) }>", "int64 m, bool c, float[2] x"),
     g("y = Loop(m, c, x)<body = b (int64 i, bool k, float[2] v) => (bool k2, float[2] v2) { k2 = Identity(k) v2 = Abs(v) }>", "int64 m, bool c, float[2] x")),
    ("fixed-loop",
     g("y, z = Loop(m, , x)<body = b (int64 i, bool k, float[2] v) => (bool k2, float[2] v2, float[2] s) { k2 = Identity(k) v2 = Abs(v) s = Neg(v) }>", "int64 m, float[2] x"),
     g("m = Constant<value_int = 3>() y, z = Loop(m, , x)<body = b (int64 i, bool k, float[2] v) => (bool k2, float[2] v2, float[2] s) { k2 = Identity(k) v2 = Abs(v) s = Neg(v) }>", "float[2] x")),
]  # fmt: skip


@pytest.mark.parametrize(("name", "broken", "kept"), ROWS, ids=[f"{i}-{row[0]}" for i, row in enumerate(ROWS)])
def test_a_restriction_is_reported_and_a_near_miss_is_not(name, broken, kept):
    found = findings(broken)
    assert [(one.severity, one.code) for one in found] == [("fails", "restriction")], found
    assert any(r.partition(":")[0] == name for r in TRT.operators[found[0].operator].restrictions)
    assert TRT.operators[found[0].operator].note in found[0].sentence
    assert not findings(kept)


def test_every_restriction_has_a_row_and_every_one_of_the_data_is_known():
    assert {name for name, _, _ in ROWS} == set(RESTRICTIONS)
    used = {r.partition(":")[0] for name in NAMES for o in load(name).operators.values() for r in o.restrictions}
    assert used <= set(RESTRICTIONS)


def test_what_is_outside_the_range_of_the_target_is_about_the_whole_model():
    (late,) = findings(g("y = Abs(x)", opset=25, ir=13))  # a newer IR version it loads
    assert (late.node, late.code, late.severity, late.advice) == ("", "opset", "fails", "convert it with opset=24")
    assert "operator set 25; TensorRT 11 takes 9 to 24" in late.sentence
    assert not findings(g("y = Abs(x)", opset=24, ir=12))
    assert codes(g("y = Abs(x)", opset=22), "directml") == [("falls-back", "", "opset")]
    assert codes(g("y = Abs(x)", ir=14), "onnxruntime-cuda") == [("fails", "", "ir")]
    assert not findings(g("y = Abs(x)", ir=13), "onnxruntime-cuda")


@pytest.mark.parametrize(
    ("body", "inputs", "target", "expected"),
    [
        ("y = Det(x)", "float[4,4] x", "tensorrt-11", ("fails", "Det", "operator")),
        ("y = Det(x)", "float[4,4] x", "webgpu", ("falls-back", "Det", "operator")),
        ('y = BitShift<direction = "LEFT">(x, x)', "uint8[4] x", "openvino", None),
        ("y = MaxUnpool<kernel_shape = [2,2]>(x, i)", "float[1,1,2,2] x, int64[1,1,2,2] i", "openvino", ("fails", "MaxUnpool", "operator")),
        ("y = Add(x, x)", "int64[4] x", "webgpu", ("falls-back", "Add", "type")),
        ("y = Add(x, x)", "int32[4] x", "webgpu", None),
        ("y = Conv(x, w)", "double[1,4,8,8] x, double[4,4,1,1] w", "tensorrt-11", None),  # it makes float of it
        ("y = Conv(x, w)", "float16[1,4,8,8] x, float16[4,4,1,1] w", "onnxruntime-cpu", None),  # so does ONNX Runtime
        ("y = Conv(x, w)", "bfloat16[1,4,8,8] x, bfloat16[4,4,1,1] w", "onnxruntime-cpu", ("fails", "Conv", "type")),
        ("y = Not(x)", "bool[4] x", "onnxruntime-cuda", None),
    ],
)  # fmt: skip
def test_operators_and_types(body, inputs, target, expected):
    outputs = "bool[N] y" if "Not" in body else "float[N] y"
    assert codes(g(body, inputs, outputs, opset=22), target) == ([expected] if expected else [])


def test_an_operator_of_another_operator_set_says_which_one_the_target_has():
    (found,) = findings(g("y = ConvTranspose(x, w)", "float[1,4,8,8] x, float[4,4,1,1] w", opset=22), "webgpu")
    assert (found.severity, found.code, found.advice) == (
        "falls-back",
        "operator-opset",
        "convert it with opset=21",
    )


def test_what_onnx_runtime_runs_as_onnx_defines_it_is_unfused():
    assert codes(g("y = Mish(x)", opset=18), "onnxruntime-cpu") == [("unfused", "Mish", "expanded")]
    assert codes(g("y = Mish(x)", opset=18), "onnxruntime-cuda") == [("unfused", "Mish", "expanded")]
    assert codes(g("y = HardSwish(x)", opset=18), "onnxruntime-cpu") == []  # better than its parts all the same
    assert not findings(g("y = Mish(x)", opset=18))


def test_operators_of_other_domains():
    made = g("y = com.microsoft.FastGelu(x)", domains=', "com.microsoft" : 1')
    assert codes(made) == [("fails", "com.microsoft::FastGelu", "operator")]
    assert "plugin" in findings(made)[0].advice
    assert not findings(made, "onnxruntime-cpu")
    own = g("y = mine.Thing(x)", domains=', "mine" : 1')
    assert codes(own, "webgpu") == [("fails", "mine::Thing", "operator")]  # the CPU does not have it either


def test_shape_arithmetic_is_on_the_cpu_on_purpose():
    body = "s = Shape(x) i = Constant<value_ints = [0]>() n = Gather(s, i) m = Mul(n, n) y = Reshape(x, m)"
    assert not findings(g(body, "float[N,N] x"), "webgpu")
    assert codes(g("m = Mul(n, n) y = Reshape(x, m)", "float[N,N] x, int64[1] n"), "webgpu") == [
        ("falls-back", "Mul", "type")
    ]


def test_functions_and_bodies_are_looked_into():
    made = model(
        "g (float[4,4] x, bool c) => (float[N] y) { z = mine.F(x) "
        "y = If(c)<then_branch = a () => (float[N] p) { p = Det(z) }, else_branch = b () => (float[N] q) { q = Det(x) }> }"
        '\n<domain: "mine", opset_import: ["" : 17]>\nF (v) => (w) { w = Det(v) }',
        domains=', "mine" : 1',
    )
    assert codes(made) == [("fails", "Det", "operator")] * 3
    assert [one.node for one in findings(made)][-1].startswith("F/")
    without = replace(TRT, functions=False)
    assert ("fails", "mine::F", "function") in codes(made, without)


def test_findings_are_sorted_by_what_is_worst():
    made = g("a = Mish(x) b = Det(x) y = Add(a, b)", "float[4,4] x", opset=18)
    assert [one.severity for one in findings(made, "webgpu")] == ["falls-back", "unfused"]


def test_the_names_of_types_are_those_of_onnx():
    known = {name.lower(): number for name, number in onnx.TensorProto.DataType.items() if number}
    for number, name in enumerate(TYPE_NAMES):
        assert not number or known.get(name, number) == number
    assert {name for name, number in known.items() if number < len(TYPE_NAMES)} <= set(TYPE_NAMES)


def test_the_report_has_the_form_of_polygraphys_lint():
    made = g("y = Det(x)", "float[4,4] x", opset=25, ir=13)
    made.graph.node[0].name = "d"
    with onnxfile.from_bytes(made.SerializeToString()) as file:
        graph = indexed(file)
        report = json.loads(json.dumps(lint(check(graph, TRT), graph)))
    assert set(report) == {"summary", "lint_entries"}
    assert report["summary"] == {"passing": [], "failing": ["d"]}
    assert [entry["level"] for entry in report["lint_entries"]] == ["exception"] * 2
    assert [entry.get("nodes") for entry in report["lint_entries"]] == [None, ["d"]]
    assert report["lint_entries"][1]["source"] == TRT.source


@pytest.mark.parametrize(
    ("body", "inputs", "advice"),
    [
        ("y = Clip(x)", "int64[4] x", "cast it to float"),
        ("y = Abs(x)", "double[4] x", ""),  # the parser makes float of it
        ("y = DequantizeLinear(x, s)", "uint8[4] x, float s", "quantize it to int8"),
        ("y = DequantizeLinear(x, s)", "int32[4] x, float s", "leave biases in floating point"),
    ],
)
def test_the_type_to_take_instead_holds_the_numbers(body, inputs, advice):
    found = findings(g(body, inputs))
    assert [one.code for one in found] == (["type"] if advice else [])
    assert all(one.advice.startswith(advice) for one in found)
