"""Where float32 leaves doubt, float64 decides; what hides an error is looked behind; what shows none is no proof."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import folding
from folding import Options, verify
from folding.report.model import OutputError
from folding.verification.exact import Arbiter, Doubt
from folding.verification.judge import Finding, Reference, Rounding
from tests.support.families import FAMILIES, family
from tests.support.verification import Chain, parsed, saved

if TYPE_CHECKING:
    from pathlib import Path

    from folding import Verification

# Seeds among which are those that were called wrong once: one step more or less, and errors as large as the noise.
SEEDS = {"round": 7, "floor": 6, "sign": 1, "compare": 0, "integer": 9, "mod": 1, "top": 2, "saturating": 3}
HEAD = "(float[4,8] x) => (float[A,B] y) <float[8,8] w = {%s}> "
WEIGHTS = ", ".join(f"{np.sin(i * i):.3f}" for i in range(64))
DOUBLE = "(double[1,2,9,9] x) => (double[A,B,C,D] y) <double[2,2,3,3] w = {%s}, double[2] a = {1, 2}> "
TRAINED = """(float[2,2,6,6] x) => (float[A,B,C,D] y) <float[4,2,1,1] w = {%s}, float[4] one = {1,1,1,1},
    float[4] zero = {0,0,0,0}, int64[3] flat = {1,4,2}, int64[4] kernel = {4,2,1,1}> {
        f = Reshape(w, flat)  n, m, v = BatchNormalization<training_mode=1, momentum=0.0>(f, one, zero, zero, one)
        k = Reshape(n, kernel)  y = Conv(x, k) }"""


def folded(model: onnx.ModelProto, folder: Path, **options: object) -> tuple[Path, Path]:
    """A model and its fold, not verified."""
    before, after = folder / "before.onnx", folder / "after.onnx"
    onnx.save(model, before)
    folding.fold(before, after, Options(verify=False, **options))  # type: ignore[arg-type]
    return before, after


def spoil(path: Path, factor: float) -> None:
    """Multiply the last convolution's weight."""
    model = onnx.load(path)
    name = [node.input[1] for node in model.graph.node if node.op_type == "Conv"][-1]
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(factor), name))
    onnx.save(model, path)


@pytest.mark.parametrize("wild", [False, True])
@pytest.mark.parametrize("name", FAMILIES)
def test_steps_and_badly_conditioned_models_are_not_called_wrong(name: str, wild: bool, tmp_path: Path) -> None:
    before, after = folded(family(name, 1000 * FAMILIES.index(name) + SEEDS[name], wild=wild), tmp_path)
    verdict = verify(before, after)
    assert verdict.status != "failed", verdict.reason
    spoil(after, 1.1)
    assert verify(before, after).status == "failed"


def both(before: str, after: str, folder: Path) -> Verification:
    return verify(*saved(folder, parsed(before), parsed(after)))


def test_what_the_runtime_computes_wrongly_is_known_and_decided_without_it(tmp_path: Path) -> None:
    verdict = verify(*folded(parsed(TRAINED % "1, 2, 3, 5, 1, 4, 2, 8"), tmp_path))
    assert verdict.status == "verified", verdict.reason
    assert "onnxruntime/issues/29790" in verdict.notes[0]


@pytest.mark.parametrize(("factor", "status"), [(1.0, "verified"), (1.001, "failed")])
def test_what_the_runtime_has_no_kernel_for_is_computed_otherwise(factor: float, status: str, tmp_path: Path) -> None:
    weights = [f"{np.sin(i * i):.6f}" for i in range(36)]
    before = DOUBLE % ", ".join(weights) + "{ c = Conv(x, w)  y = BatchNormalization(c, a, a, a, a) }"
    model = parsed(before)
    before_path, after_path = folded(model, tmp_path)
    if factor != 1:
        changed = onnx.load(after_path)
        for tensor in changed.graph.initializer:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * factor, tensor.name))
        onnx.save(changed, after_path)
    verdict = verify(before_path, after_path)
    assert verdict.status == status, verdict.reason
    assert "no kernel" in "".join(verdict.notes) or status == "failed"


@pytest.mark.parametrize(
    "tail", ["y = Softmax(s)", "a = Sigmoid(s)  y = Transpose(a)", "i = ArgMax(s)  y = Cast<to=1>(i)"]
)
def test_an_error_behind_a_saturated_output_is_found(tail: str, tmp_path: Path) -> None:
    text = HEAD % WEIGHTS + "{ k = Constant<value=float {%s}>()  m = MatMul(x, w)  s = Mul(m, k)  " + tail + " }"
    assert both(text % "1e5", text % "1e5", tmp_path).status == "verified"
    wrong = both(text % "1e5", text % "1.2e5", tmp_path)
    assert (wrong.status, wrong.outputs[0].name) == ("failed", "y")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(
            "t = Transpose<perm=[1,0]>(x)  a = Exp(t)  s = Sigmoid(a)  y = Transpose<perm=[1,0]>(s)",
            "a = Exp(x)  y = Sigmoid(a)",
            id="Transposes that met behind it",
        ),
        pytest.param(
            "a = Exp(x)  s = Sigmoid(a)  y = Reshape(s, k)",
            "a = Exp(x)  t = Reshape(a, l)  s = Sigmoid(t)  y = Reshape(s, k)",
            id="another shape",
        ),
    ],
)
def test_values_that_stand_elsewhere_before_a_last_activation_prove_nothing(
    before: str, after: str, tmp_path: Path
) -> None:
    text = "(float[8,8] x) => (float[8,8] y) <int64[2] k = {8,8}, int64[1] l = {64}> { %s }"
    verdict = both(text % before, text % after, tmp_path)
    assert verdict.status == "verified", verdict.reason


def test_samples_of_other_amplitudes_are_drawn_where_the_first_ones_show_nothing(tmp_path: Path) -> None:
    text = HEAD % WEIGHTS + "{ k = Constant<value=float {%s}>()  m = MatMul(x, w)  s = Mul(m, k)  y = Clip(s, z, o) }"
    text = text.replace("> {", ", float z = {0}, float o = {1}> {", 1)
    right = both(text % "1e5", text % "1e5", tmp_path)
    assert (right.status, right.samples) == ("verified", 7)
    assert both(text % "20.0", text % "24.0", tmp_path).status == "failed"


def test_outputs_that_do_not_depend_on_the_samples_prove_nothing(tmp_path: Path) -> None:
    text = HEAD % WEIGHTS + "{ k = Constant<value=float {0.0}>()  m = Mul(x, k)  s = Add(m, w)  y = Abs(s) }"
    text = text.replace("float[8,8]", "float[1,8]").replace(WEIGHTS, ", ".join(WEIGHTS.split(", ")[:8]))
    verdict = both(text, text, tmp_path)
    assert (verdict.status, "do not depend on the samples" in verdict.reason) == ("not verified", True)


def test_one_of_two_outputs_that_shows_nothing_is_named(tmp_path: Path) -> None:
    text = "(float[4] x) => (float[4] y, float[4] still) <float k = {0}> { a = Abs(x)  y = Neg(x)  still = Mul(a, k) }"
    verdict = both(text, text, tmp_path)
    assert verdict.status == "verified"
    assert '"still" did not depend on the samples' in verdict.notes[0]


def test_the_sensitivity_says_which_change_would_be_noticed(tmp_path: Path) -> None:
    before, after = folded(Chain(layers=3).before(), tmp_path)
    (output,) = verify(before, after).outputs
    assert (output.sensitivity, output.bias_sensitivity) == (0.001, 0.001)
    rows = (", ".join([value] * 8) for value in ("0.0001", "1"))
    hidden = HEAD[:-2] % WEIGHTS + ", float[8] b = {%s}, float[8] g = {%s}> " % tuple(rows)  # noqa: UP031
    hidden += "{ m = Gemm(x, w, b)  z = Sub(b, b)  s = BatchNormalization(m, g, b, z, g)  y = Round(s) }"
    (output,) = verify(*folded(parsed(hidden), tmp_path)).outputs
    assert (output.sensitivity, output.bias_sensitivity) == (0.01, 1.0)
    (plain,) = verify(before, before).outputs
    assert (plain.sensitivity, plain.bias_sensitivity) == (0.0, 0.0)  # nothing was folded into it


class Fixed(Arbiter):
    """An arbiter without models: the outputs in float64 are given."""

    def __init__(self) -> None:
        self._rounding, self._seconds, self._models = Rounding(2.0**-23), 1.0, ()  # type: ignore[assignment]


VALUE = np.linspace(1, 2, 64).reshape(4, 16)
NEAR = (VALUE * (1 + 3e-5)).astype(np.float32)  # an error that no noise seems to explain


@pytest.mark.parametrize(
    ("case", "judgement"),
    [
        ({}, "ok"),  # the original is off as far in float32
        ({"executions": [VALUE.astype(np.float32)]}, "bad"),  # it is not
        ({"executions": [NEAR * 2]}, "bad"),  # the interpreter computes something else
        ({"executions": [NEAR * 2], "trapped": True}, "bad"),  # nor is the runtime right where it is not trapped
        ({"executions": [NEAR * 2], "trapped": True, "value": VALUE.astype(np.float32)}, "ok"),
        ({"folded": VALUE * (1 + 3e-5)}, "bad"),  # it is wrong in float64 too
        ({"moved": VALUE * np.nan}, "bad"),
        ({"moved": VALUE * 3}, "unsettled"),
        ({"value": NEAR[:2]}, "bad"),
    ],
)
def test_what_float64_decides(case: dict[str, Any], judgement: str) -> None:
    value = case.get("value", NEAR)
    reference = Reference.of("y", NEAR)
    error = OutputError("y", 1.0, 1.0, 0.0, 0.5, ok=False)
    doubt = Doubt(Finding("bad", "wrong", error), reference, case.get("executions", [NEAR]), value)
    folded, moved = case.get("folded", VALUE), case.get("moved", VALUE)
    found = Fixed()._settled(doubt, VALUE, moved, folded, trapped=case.get("trapped", False))
    assert (found.judgement, found.error.ok) == (judgement, judgement == "ok")
