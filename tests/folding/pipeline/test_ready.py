"""What options and target ask for besides folding: in its order, taken back where wrong, refused where it must be."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest

import folding.cleaning.driver as cleaning
from folding import Options, TargetError, fold, fold_model, inspect
from folding.editing.surgery import set_constant
from folding.errors import OptionError
from folding.graph.weights import Weight
from folding.report.changes import Change
from tests.support.examples import model_of
from tests.support.lowering import parsed

CONV = """x: float[2, 4, 6, 6]
a = Identity(x)
b = Conv(a, W[8, 4, 1, 1])
c = BatchNormalization(b, S[8], B[8], M[8], V[8])"""
GELU = """<ir_version: 8, opset_import: ["" : 20]>
g (float[2,4] x) => (float[2,4] y) <float r = {1.4142135}, float o = {1}, float h = {0.5}> {
  s = Div(x, r) e = Erf(s) p = Add(e, o) m = Mul(x, p) y = Mul(m, h) }"""
FUNCTION = """<ir_version: 8, opset_import: ["" : 17, "f" : 1]>
g (float[2] x) => (float[2] y) { y = f.twice(x) }
<domain: "f", opset_import: ["" : 17]> twice (a) => (b) { b = Add(a, a) }"""
PASSED = """<ir_version: 8, opset_import: ["" : 13, "f" : 1]>
g (float[2,4] x) => (float[2,4] y) <float t = {3}, float z = {0}, float s = {6}, float[4] g = {1, 2, 3, 4},
float[4,4] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 8, 7, 6, 5, 4, 3, 2}> { y = f.block(x, t, z, s, w, g) }
<domain: "f", opset_import: ["" : 13]> block (x, t, z, s, w, g) => (y) {
  p = MatMul(x, w) n = BatchNormalization(p, g, g, g, g)
  a = Add(n, t) c = Clip(a, z, s) m = Mul(n, c) y = Div(m, s) }"""
CUSTOM = """<ir_version: 8, opset_import: ["" : 17, "mine" : 1]>
g (float[2,4] x) => (float[2,4] y) { [r] a = Relu(x) [own] y = mine.Own(a) }"""


def ops(model):
    return Counter(node.op_type for node in model.graph.node)


def test_without_a_target_nothing_but_the_fold_happens():
    after, report = fold_model(model_of(CONV))
    assert ops(after) == {"Identity": 1, "Conv": 1}
    assert (report.runtime, report.changes, report.findings, report.recipe) == ("", (), (), ())


def test_cleaning_and_fusing_are_options_of_their_own():
    after, report = fold_model(model_of(CONV), Options(clean=True))
    assert ops(after) == {"Conv": 1}
    assert {change.stage for change in report.changes} == {"cleaned"}
    after, report = fold_model(model_of(GELU), Options(fuse=True))
    assert ops(after) == {"Gelu": 1}
    assert [(change.stage, change.count) for change in report.changes] == [("fused", 1)]


def test_a_target_implies_both_and_is_named():
    after, report = fold_model(model_of(GELU), Options(target="onnxruntime-cpu"))
    assert ops(after) == {"Gelu": 1}
    assert report.runtime.startswith("ONNX Runtime")
    assert report.verification.status == "verified"
    assert report.recipe


def test_the_file_of_a_target_is_the_same_the_second_time():
    for text in (CONV, GELU):
        after, _ = fold_model(model_of(text), Options(target="tensorrt-11"))
        again, report = fold_model(after, Options(target="tensorrt-11"))
        assert again == after
        assert not report.changed


def test_an_idiom_that_shows_only_after_inlining_gets_its_operator_set():
    after, report = fold_model(model_of(PASSED), Options(target="tensorrt-11"))
    assert after.opset_import[0].version == 14
    assert ops(after) == {"MatMul": 1, "Add": 1, "HardSwish": 1}
    again, _ = fold_model(after, Options(target="tensorrt-11"))
    assert again == after
    assert report.bn_after == 0


def test_a_function_that_stays_is_reported_as_it_is():
    constant = "{ c = Constant <value_floats = [1.0, 2.0]> () d = Identity(c) b = Add(a, d) }"
    model = model_of(FUNCTION.replace("{ b = Add(a, a) }", constant))
    after, _ = fold_model(model, Options(target="onnxruntime-cpu"))
    assert ops(after) == {"twice": 1}
    again, report = fold_model(after, Options(target="onnxruntime-cpu"))
    assert again == after
    assert report.changes == ()


def test_a_file_that_the_target_refuses_is_not_written(tmp_path):
    source, target = tmp_path / "in.onnx", tmp_path / "out.onnx"
    onnx.save(onnx.parser.parse_model(CUSTOM), source)
    with pytest.raises(TargetError, match=r"1 operator is refused; allow_fallback=True writes it") as error:
        fold(source, target, Options(target="tensorrt-11"))
    assert not target.exists()
    found = error.value.report.findings
    assert [(finding.node, finding.severity) for finding in found] == [("own", "fails")]
    report = fold(source, target, Options(target="tensorrt-11", allow_fallback=True, verify=False))
    assert target.exists()
    assert report.findings == found


def test_inspect_reports_the_model_as_it_is_and_what_folding_mends(tmp_path):
    source = tmp_path / "in.onnx"
    onnx.save(model_of(GELU), source)
    report = inspect(source, Options(target="onnxruntime-cpu"))
    assert [(finding.severity, finding.code) for finding in report.findings] in ([], [("unfused", "idiom")])
    assert any(
        "ready.onnx" in line for line in report.recipe
    )  # the file that is to be written, not the one that is inspected
    assert fold(source, tmp_path / "out.onnx", Options(target="onnxruntime-cpu")).changed
    again = inspect(tmp_path / "out.onnx", Options(target="onnxruntime-cpu"))
    assert any("out.onnx" in line for line in again.recipe)
    functions = model_of(FUNCTION)
    onnx.save(functions, source)
    report = inspect(source, Options(target="tensorrt-11"))
    for finding in report.findings:
        assert finding.advice == 'fold with target="tensorrt-11", which mends it'


@pytest.mark.parametrize(("options", "shape"), [({"shape": ("x=3x4",)}, [3, 4]), ({"batch": 5}, [5, 4])])
def test_shapes_are_fixed_in_inputs_and_outputs(options, shape):
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[N,4] x) => (float[N,4] y) { a = Relu(x) y = Neg(a) }'
    )
    after, report = fold_model(model, Options(**options))
    for value in (*after.graph.input, *after.graph.output, *after.graph.value_info):
        assert [d.dim_value for d in value.type.tensor_type.shape.dim] == shape
    assert report.verification.status == "verified"
    assert "x".join(map(str, shape)) in report.verification.inputs


def test_a_shape_that_does_not_fit_is_refused():
    with pytest.raises(OptionError, match="x"):
        fold_model(model_of(CONV), Options(shape=("x=1x2x3",)))


def test_open_lengths_get_names():
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[?,4] x) => (float[?,4] y) { y = Relu(x) }'
    )
    after, _ = fold_model(model, Options(name_axes=True))
    assert after.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert after.graph.output[0].type.tensor_type.shape.dim[0].dim_param == "batch"


def test_the_operator_set_is_converted():
    after, report = fold_model(model_of(CONV), Options(opset=21))
    assert after.opset_import[0].version == 21
    assert {change.stage for change in report.changes} == {"converted"}
    assert report.bn_after == 0


@pytest.mark.parametrize(("target", "opset"), [("tensorrt-10", 20), ("tensorrt-11", 22), (None, 22)])
def test_bfloat16_does_not_leave_the_range_of_a_target(target, opset):
    after, report = fold_model(model_of(CONV), Options(precision="bf16", target=target, verify=False))
    assert after.opset_import[0].version == opset
    assert report.findings == ()


def test_a_change_that_makes_the_result_differ_is_taken_back(monkeypatch):
    """Here cleaning spoils a weight, until it is asked to leave that out."""

    def spoiling(graph, blocked=(), **_):
        node = next(node for node in graph.nodes() if node.op == "Conv")
        if "clean:spoil" in blocked or node.label == "spoiled":
            return []
        node.label = "spoiled"
        old = node.weight(1)
        set_constant(node, 1, Weight(np.dtype(np.float32), old.shape, np.ones(old.shape, np.float32)), "site")
        return [Change("cleaned", "spoiled", 1, (), "clean:spoil")]

    monkeypatch.setattr(cleaning, "clean", spoiling)
    _, report = fold_model(model_of(CONV), Options(clean=True))
    assert report.verification.status == "verified"
    assert report.bn_after == 0
    assert report.changes == ()
    assert any("taken back" in note and "spoiled" in note for note in report.notes)


def test_what_only_lowering_makes_equal_is_one_in_the_first_run():
    """Two outputs of the model are two values; in float16 they are Casts, and what is cast may be one."""
    model = parsed(
        "g (float[1,2,4,4] x) => (float[1,2,4,4] y, float[1,2,4,4] z) { y = Conv(x, w) z = Conv(x, w) }",
        w=np.ones((2, 2, 1, 1)),
    )
    options = Options(target="tensorrt-11", precision="fp16", verify=False)
    after, _ = fold_model(model, options)
    assert [node.op_type for node in after.graph.node].count("Conv") == 1
    again, report = fold_model(after, options)
    assert again == after
    assert not report.changed


def test_what_a_function_kept_from_conversion_is_converted_once_it_is_inlined():
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 23, "local": 1]>
        g (double[2,2,3,3] x) => (double[2,2,1,1] y) { y = local.f(x) }
        <domain: "local", opset_import: ["": 23]> f (x) => (y) {
        w = Constant<value = double[8,2,1,1] {1,2,3,4,5,6,7,8,8,7,6,5,4,3,2,1}>()
        s = Constant<value = double[2] {1,2}>() t = Constant<value = double[2] {0.5,-1}>()
        k = Constant<value = double[1,1] {2}>() n = Constant<value = int64[4] {2,2,1,1}>()
        a = Asinh(x) c = Conv(a, w) d = DepthToSpace<blocksize = 2>(c) p = GlobalMaxPool(d)
        b = BatchNormalization(p, s, t, t, s) r = RMSNormalization<axis = 1>(b, k)
        y = Resize<coordinate_transformation_mode = "pytorch_half_pixel", mode = "nearest">(r, , , n) }"""
    )
    options = Options(target="webgpu", allow_fallback=True, leftover="conv", verify=False)
    after, _ = fold_model(model, options)
    assert (len(after.functions), after.opset_import[0].version) == (0, 21)
    assert fold_model(after, options)[0] == after
