"""verify: models of 16 bits are judged as they compute on a GPU, and lowered ones against their original in float32."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from folding import Options, fold
from folding.errors import OptionError
from folding.execution import emulation
from folding.verification import emulated
from folding.verification.parent import verify
from tests.fetch_models import FOLDER, fetch
from tests.support.halved import lowered
from tests.support.verification import Chain, parsed, saved

if TYPE_CHECKING:
    from pathlib import Path

    from folding import Verification

FP16, BF16 = TensorProto.FLOAT16, TensorProto.BFLOAT16
CODES = pytest.mark.parametrize("code", [FP16, BF16], ids=["float16", "bfloat16"])
OPSET = 22  # the first with bfloat16 in all operators here


def half(text: str, opset: int = 17, **constants: Any) -> onnx.ModelProto:
    """A model as ONNX text, with constants given as arrays."""
    model = parsed(text, opset, ir=10)
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items())
    return model


def judged(folder: Path, before: onnx.ModelProto | str, after: onnx.ModelProto | str, **options: Any) -> Verification:
    verdict = verify(*saved(folder, before, after), **options)
    assert sorted(path.name for path in folder.iterdir() if path.suffix != ".npz") == ["after.onnx", "before.onnx"]
    return verdict


def feeds(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "inputs.npz", **arrays)
    return folder / "inputs.npz"


BEYOND = "(float[2] x) => (float[2] y) { p = Mul(x, a) q = Mul(p, a) y = Mul(q, b) }"


def test_what_overflows_on_the_way_fails_though_the_runtime_shows_no_error(tmp_path):
    before = half(BEYOND, a=np.float32(300), b=np.float32(1e-4))
    inputs = feeds(tmp_path, x=np.full(2, 300, np.float32))
    verdict = judged(tmp_path, before, lowered(before), inputs=inputs)
    assert (verdict.status, verdict.reason) == ("failed", 'output "y" is inf where the original gives 2700 at [0]')
    assert verdict.inputs == "inputs.npz: x float32 2"
    assert judged(tmp_path, before, lowered(before), inputs=inputs, max_error=0.5).status == "failed"
    small = feeds(tmp_path, x=np.array([0.5, -0.25], np.float32))
    assert judged(tmp_path, before, lowered(before), inputs=small).status == "verified"


def test_bfloat16_has_the_range(tmp_path):
    before = half(BEYOND, OPSET, a=np.float32(300), b=np.float32(1e-4))
    inputs = feeds(tmp_path, x=np.full(2, 300, np.float32))
    assert judged(tmp_path, before, lowered(before, BF16), inputs=inputs).status == "verified"


@CODES
@pytest.mark.parametrize("layers", [1, 3, 10])
def test_a_correct_conversion_is_verified(tmp_path, layers, code):
    chain = Chain(layers=layers)
    for model in (chain.before(), chain.after()):
        model.opset_import[0].version, model.ir_version = OPSET, 10
        verdict = judged(tmp_path, chain.before(), lowered(model, code))
        assert (verdict.status, verdict.reason) == ("verified", "")
        assert 0 < verdict.outputs[0].max_absolute <= verdict.outputs[0].tolerance
        assert verdict.inputs == "generated: x0 float32 2x3x8x8"


@CODES
@pytest.mark.parametrize(
    ("layers", "which", "factor"),
    [
        pytest.param(1, 0, 1.05, id="a channel's weights 5 % off"),
        pytest.param(1, 1, 1.2, id="a bias 20 % off"),
        pytest.param(5, 0, 1.2, id="five layers deep, 20 % off"),
    ],
)
def test_a_constant_that_is_off_by_more_than_the_type_explains_fails(tmp_path, layers, which, factor, code):
    chain = copy.deepcopy(Chain(layers=layers))
    before = chain.before()
    chain.folded[-1][which][5] *= factor if code == FP16 else 1 + (factor - 1) * 8
    after = chain.after()
    after.opset_import[0].version, after.ir_version = OPSET, 10
    verdict = judged(tmp_path, before, lowered(after, code))
    assert verdict.status == "failed"
    assert 'output "y" is ' in verdict.reason


MASKED = """(float[2,4] x, bool[2,4] m) => (float[2,4] y) <float k = {%s}> {
    z = Sub(x, x) w = Where(m, z, k) s = Add(x, w) p = Softmax(s) y = Mul(p, x) }"""


@pytest.mark.parametrize(("mask", "status"), [("-30000.0", "not verified"), ("-1e9", "failed"), ("-3.4e38", "failed")])
def test_rows_that_are_masked_wholly_must_stay_finite(tmp_path, mask, status):
    """In float16 a mask of -1e9 is -inf, and a Softmax of nothing but -inf is NaN.

    With one of -3e4, float16 rounds away what is masked: any weights of a row would do.
    """
    inputs = feeds(
        tmp_path,
        x=np.random.default_rng(0).standard_normal((2, 4)).astype(np.float32),
        m=np.array([[1, 1, 0, 0], [0, 0, 0, 0]], np.bool_),
    )
    before = parsed(MASKED % mask)
    verdict = judged(tmp_path, before, lowered(before), inputs=inputs)
    assert verdict.status == status, verdict.reason
    assert ("NaN where" if status == "failed" else "varies by") in verdict.reason
    rows = feeds(tmp_path, x=np.ones((2, 4), np.float32), m=np.array([[1, 1, 0, 0]] * 2, np.bool_))
    assert judged(tmp_path, before, lowered(before), inputs=rows).status == "verified"


INSIDE = {
    "If": """(float[4] x, bool c) => (float[4] y) <float a = {300.0}, float b = {1e-4}> {
        y = If(c) <then_branch = g () => (float[4] u) { p = Mul(x, a) q = Mul(p, a) u = Mul(q, b) },
                   else_branch = h () => (float[4] v) { v = Mul(x, a) }> }""",
    "Loop": """(float[4] x, bool c) => (float[4] y) <int64 n = {2}, bool t = {1}, float a = {300.0}, float b = {1e-4}> {
        q = Loop(n, t, x) <body = g (int64 i, bool ci, float[4] p) => (bool co, float[4] r) {
            co = Identity(ci) r = Mul(p, a) }> y = Mul(q, b) }""",
}


@pytest.mark.parametrize("name", INSIDE)
def test_an_overflow_in_a_graph_within_fails(tmp_path, name):
    before = parsed(INSIDE[name])
    for value, status in ((300, "failed"), (0.5, "verified")):
        inputs = feeds(tmp_path, x=np.full(4, value, np.float32), c=np.array(1, np.bool_))
        assert judged(tmp_path, before, lowered(before), inputs=inputs).status == status


def test_an_overflow_in_a_function_fails(tmp_path):
    before = parsed("(float[4] x) => (float[4] y) <float b = {1e-4}> { q = local.F(x) y = Mul(q, b) }", ir=10)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    nodes = [helper.make_node("Mul", ["p", "p"], ["r"]), helper.make_node("Mul", ["r", "p"], ["s"])]
    before.functions.append(helper.make_function("local", "F", ["p"], ["s"], nodes, opsets))
    before.opset_import.append(helper.make_opsetid("local", 1))
    for value, status in ((300, "failed"), (3, "verified")):
        inputs = feeds(tmp_path, x=np.full(4, value, np.float32))
        assert judged(tmp_path, before, lowered(before), inputs=inputs).status == status


HALVES = """(%(t)s[4,64] x) => (%(t)s[4,64] y) {
    c = Cast<to=1>(x) w = Mul(c, k) h = Cast<to=%(c)d>(w) s = Mul(h, h) r = Relu(s) y = Mul(r, x) }"""


@CODES
@pytest.mark.parametrize(("factor", "status"), [(1.0003, "verified"), (1.5, "failed")])
def test_a_model_of_16_bits_with_casts_is_compared_in_its_types(tmp_path, factor, status, code):
    words = {"t": "float16" if code == FP16 else "bfloat16", "c": code}
    before, after = (half(HALVES % words, k=np.float32(k)) for k in (1, factor))
    verdict = judged(tmp_path, before, after)
    assert verdict.status == status
    assert verdict.inputs == f"generated: x {words['t']} 4x64"


def test_an_original_that_overflows_itself_proves_nothing(tmp_path):
    """The folded model may be better: it does not pass what overflows."""
    before = half(
        "(float16[4] x) => (float16[4] y) { p = Mul(x, a) y = Mul(p, b) }", a=np.float16(6e4), b=np.float16(1e-4)
    )
    after = half("(float16[4] x) => (float16[4] y) { y = Mul(x, a) }", a=np.float16(6))
    inputs = feeds(tmp_path, x=np.full(4, 3, np.float16))
    verdict = judged(tmp_path, before, after, inputs=inputs)
    assert verdict.status == "not verified"
    assert 'output "y" of the original itself is not finite in its types; give other samples' in verdict.reason
    assert judged(tmp_path, after, before, inputs=inputs).status == "failed"
    small = feeds(tmp_path, x=np.array([1, 0.5, -1, 0.25], np.float16))
    assert judged(tmp_path, before, after, inputs=small).status == "verified"


def test_arrays_for_a_model_of_16_bits_have_its_type(tmp_path):
    model = half("(float16[4] x) => (float16[4] y) { y = Mul(x, x) }")
    inputs = feeds(tmp_path, x=np.arange(4, dtype=np.float16))
    assert judged(tmp_path, model, model, inputs=inputs).status == "verified"
    with pytest.raises(OptionError, match=r'"x" wants float16 4, but inputs\.npz has float32 4'):
        verify(*saved(tmp_path, model), inputs=feeds(tmp_path, x=np.arange(4, dtype=np.float32)))


@CODES
def test_inputs_and_outputs_may_have_the_lower_type(tmp_path, code):
    chain = Chain(layers=2)
    model = chain.after()
    model.opset_import[0].version, model.ir_version = OPSET, 10
    verdict = judged(tmp_path, chain.before(), lowered(model, code, inputs=True))
    kind = "float16" if code == FP16 else "bfloat16"
    assert verdict.status == "verified"
    assert verdict.notes[:2] == (
        f'inputs have other types than in the original: "x0" {kind}; they were compared in float32',
        f'outputs have other types than in the original: "y" {kind}; they were compared in float32',
    )


def test_types_that_the_standard_forbids_are_not_hidden(tmp_path):
    before = half("(float[4] x) => (float[4] y) { c = Mul(x, x) y = Mul(c, c) }")
    after = half("(float[4] x) => (float[4] y) { c = Mul(x, x) h = Cast<to=10>(c) y = Mul(h, c) }")
    verdict = judged(tmp_path, before, after)
    assert verdict.status == "failed"
    assert "loads the original but not the folded model" in verdict.reason
    assert "Type Error" in verdict.reason


@pytest.mark.parametrize(("most", "status"), [(0.1, "verified"), (1e-5, "failed")])
def test_the_user_may_say_how_large_an_error_may_be(tmp_path, most, status):
    chain = Chain(layers=3)
    verdict = judged(tmp_path, chain.before(), lowered(chain.after()), max_error=most)
    assert verdict.status == status
    assert verdict.outputs[0].tolerance == pytest.approx(
        most * verdict.outputs[0].max_absolute / verdict.outputs[0].max_relative, rel=1e-3
    )


@pytest.mark.parametrize("most", [0, -1.0, float("nan")])
def test_an_error_limit_is_a_positive_number(tmp_path, most):
    with pytest.raises(OptionError, match="max_error is"):
        verify(*saved(tmp_path, BEYOND), max_error=most)


def test_a_model_that_reads_numbers_of_a_table_is_judged_by_the_roundings_in_it(tmp_path):
    """No input can be moved: what is measured is the original with its constants and results rounded."""
    text = "(int64[8] i) => (float[8,4] y) { g = Gather(t, i) m = MatMul(g, w) y = Tanh(m) }"
    rng = np.random.default_rng(0)
    table, weight = (rng.standard_normal(shape).astype(np.float32) for shape in ((10, 16), (16, 4)))
    before = half(text, t=table, w=weight)
    assert judged(tmp_path, before, lowered(before)).status == "verified"
    wrong = half(text, t=table, w=weight * (1 + 0.05 * (np.arange(4) == 2)).astype(np.float32))
    assert judged(tmp_path, before, lowered(wrong)).status == "failed"


def test_an_old_operator_set_is_judged_by_its_inputs(tmp_path):
    before = half("(float[64] x) => (float[64] y) { a = Mul(x, x) y = Tanh(a) }", 8)
    assert judged(tmp_path, before, lowered(before)).status == "verified"
    wrong = half("(float[64] x) => (float[64] y) { a = Mul(x, x) b = Add(a, x) y = Tanh(b) }", 8)
    assert judged(tmp_path, before, lowered(wrong)).status == "failed"


def refuse(*_: object) -> Any:
    raise emulation.EmulationError("a test says so")


def test_what_cannot_be_emulated_is_not_judged(tmp_path, monkeypatch):
    monkeypatch.setattr(emulation, "emulate", refuse)
    before = half(BEYOND, a=np.float32(300), b=np.float32(1e-4))
    verdict = judged(tmp_path, before, lowered(before))
    assert (verdict.status, verdict.reason) == (
        "not verified",
        "values of 16 bits cannot be emulated: a test says so; compare both files in the runtime that they are for",
    )
    verdict = judged(tmp_path, lowered(before), lowered(before))  # both as they are, as far as the runtime goes
    assert verdict.status == "verified"
    assert verdict.notes == ("values of 16 bits cannot be emulated: a test says so",)


def test_emulations_are_elsewhere_where_nothing_may_be_written_beside_the_model(tmp_path, monkeypatch):
    make = emulated.tempfile.TemporaryDirectory
    places = []

    def picky(**options: Any) -> Any:
        places.append(options.get("dir"))
        if places[-1] == tmp_path:
            raise PermissionError
        return make(**options)

    monkeypatch.setattr(emulated.tempfile, "TemporaryDirectory", picky)
    chain = Chain()
    assert verify(*saved(tmp_path, chain.before(), lowered(chain.after()))).status == "verified"
    assert places[-2] == tmp_path
    assert not places[-1].exists()  # it went with the folder of the child


TRAINED = ["ch_ppocr_mobile_v2.0_cls_infer.onnx", "ch_PP-OCRv4_det_infer.onnx", "ch_PP-OCRv4_rec_infer.onnx"]


@pytest.fixture(scope="module")
def trained() -> Path:
    fetch()
    return FOLDER


def _flatten(model: onnx.ModelProto) -> None:
    """Spoil the largest weight: the filters of every other output channel are doubled."""
    tensor = max(model.graph.initializer, key=lambda t: t.ByteSize())
    values = numpy_helper.to_array(tensor).copy()
    values[::2] *= 2
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


UNTOLD = {"ch_PP-OCRv4_det_infer.onnx"}  # its sigmoid is zero on noise, whatever it computes


@pytest.mark.parametrize("name", TRAINED)
def test_trained_models_in_float16(tmp_path, trained, name):
    fold(trained / name, tmp_path / "folded.onnx", Options(verify=False))
    folded = onnx.load(tmp_path / "folded.onnx")
    onnx.save(lowered(folded), tmp_path / "half.onnx")
    verdict = verify(trained / name, tmp_path / "half.onnx")
    if name in UNTOLD:
        assert verdict.status == "not verified"
        assert "on the samples, less than the 0.002 that rounding to 16 bits explains" in verdict.reason
    else:
        assert (verdict.status, verdict.reason) == ("verified", "")
    _flatten(folded)
    onnx.save(lowered(folded), tmp_path / "half.onnx")
    assert verify(trained / name, tmp_path / "half.onnx").status == "failed"
