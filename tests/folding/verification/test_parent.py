"""verify: right folds pass, wrong ones fail, and what cannot be judged says why."""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest

from folding.report.model import Verification
from folding.verification import advice
from folding.verification.job import ACTIVITY, AS_IT_IS, RESULT
from folding.verification.parent import verify
from folding.verification.standby import Standby
from tests.support import ROOT
from tests.support.verification import Chain, parsed, saved
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

SIGMOID = "l = ReduceMean<axes=[2,3], keepdims=0>(x) k = Constant<value=float {-18.0}>() s = Add(l, k) y = Sigmoid(s)"
HALF = "(float[4,64] x) => (float[4,64] y) { %s h = Cast<to=10>(%s) r = Relu(h) y = Cast<to=1>(r) }"
SCALED = "k = Constant<value=float {%s}>() w = Mul(x, k)"
QUANTIZED = """(float[4,64] x) => (float[4,64] y) <float s = {0.05}, uint8 z = {128}, float k = {%s}> {
    w = Mul(x, k) q = QuantizeLinear(w, s, z) y = DequantizeLinear(q, s, z) }"""
STRINGS = '(string[1] x) => (string[1] y) <string[1] k = {"b"}, bool[1] t = {1}> { y = Where(t, %s, x) }'
RESHAPE = "(float[%s] x) => (float[%s] y) <int64[%d] s = {%s}> { y = Reshape(x, s) }"
CONV = "(float[N,C,H,W] x) => (float[A,B,C,D] y) <float[1,1,3,3] w = {1,2,3,4,5,6,7,8,9}> { y = Conv(x, w) }"
NOT = "(bool[N,3] x) => (bool[N,3] y) { y = Not(x) }"
EQUAL = "(%s x) => (%s y) { y = Identity(x) }"
SPLIT = "(float[2,4] x) => (seq(float[M,4]) y) { z = %s(x) y = SplitToSequence<axis=0>(z) }"
TWO = "(float[batch,3] x, float[batch,4] z) => (float[batch,7] y) { y = Concat<axis=1>(x, z) }"
RELU = "(float[4] x) => (float[N] y) { y = Relu(x) }"
NAN = "(float[4] x) => (float[4] y) { a = Abs(x) b = Neg(a) y = Log(b) }"
RUNNING = "running the original"
LOOP = """(float[2] x) => (float[2] y) <int64 n = {1000000000000}, bool c = {1}> {
    y = Loop (n, c, x) <body = b (int64 i, bool ci, float[2] xi) => (bool co, float[2] xo) {
        co = Identity(ci) xo = Relu(xi) }> }"""
HOG = """(float x) => (float y) <int64[1] s = {1099511627776}> {
    c = ConstantOfShape(s) r = ReduceMax<keepdims=0>(c) y = Add(x, r) }"""
BFLOAT16 = "(bfloat16[2,4] x) => (bfloat16[2,4] y) { z = Cast<to=1>(x) r = %s(z) y = Cast<to=16>(r) }"
SCATTER = """(float[4] x) => (float[4] y) <int64[2] i = {0, 1}, float[2] u = {1, 2}> {
    h = Cast<to=10>(x) v = Cast<to=10>(u) %s }"""
INSTALLED = "onnxruntime-cpu"
ROUND = "(float[20000] x) => (int64[20000] y) <float k = {%s}> { z = Mul(x, k) r = Round(z) y = Cast<to=7>(r) }"


@pytest.mark.parametrize(
    "chain",
    [
        pytest.param(Chain(), id="one layer"),
        pytest.param(Chain(layers=10), id="10 layers"),
        pytest.param(Chain(dtype="float16", result="float16"), id="float16"),
        pytest.param(Chain(layers=10, dtype="float16", result="float16"), id="float16, 10 layers"),
        pytest.param(Chain(layers=3, tail=SIGMOID), id="saturated sigmoid"),
        pytest.param(
            Chain(tail="k = Constant<value=float {1e3}>() s = Mul(x, k) y = Softmax<axis=1>(s)"), id="saturated softmax"
        ),
        pytest.param(Chain(tail="k = Constant<value=float {1e6}>() y = Mul(x, k)"), id="magnitude 1e6"),
        pytest.param(Chain(tail="k = Constant<value=float {0.0}>() y = Div(x, k)"), id="infinities"),
        pytest.param(Chain(layers=3, tail="y = ArgMax<axis=1>(x)", result="int64"), id="ArgMax"),
        pytest.param(Chain(layers=2, small=3), id="a small channel"),
    ],
)
def test_a_right_fold_is_verified(chain: Chain, tmp_path: Path) -> None:
    verdict = verify(*saved(tmp_path, chain.before(), chain.after()))
    assert (verdict.status, verdict.reason, verdict.samples) == ("verified", "", 3)
    assert verdict.inputs == f"generated: x0 {chain.dtype} 2x3x8x8"
    assert [(error.name, error.ok) for error in verdict.outputs] == [("y", True)]
    assert verdict.outputs[0].max_absolute <= verdict.outputs[0].tolerance


def _bias(chain: Chain, layer: int, channel: int, factor: float) -> None:
    chain.folded[layer][1][channel] *= factor


def _scale(chain: Chain, layer: int, channel: int, factor: float) -> None:
    chain.folded[layer][0][channel] *= factor


def _swap(chain: Chain, layer: int, a: int, b: int) -> None:
    for array in chain.folded[layer]:
        array[[a, b]] = array[[b, a]]


def _drop_shift(chain: Chain, layer: int) -> None:
    chain.folded[layer][1][:] = 0


@pytest.mark.parametrize(
    ("chain", "damage", "where"),
    [
        pytest.param(Chain(), _bias, (0, 5, 1.01), id="bias 1 % off in one channel"),
        pytest.param(Chain(layers=10), _bias, (0, 5, 1.01), id="the same ten layers deep"),
        pytest.param(Chain(small=3), _scale, (0, 3, 1.01), id="scale 1 % off in a channel of small magnitude"),
        pytest.param(Chain(), _swap, (0, 2, 3), id="swapped channels"),
        pytest.param(Chain(layers=3), _drop_shift, (1,), id="missing shift"),
        pytest.param(Chain(dtype="float16", result="float16"), _bias, (0, 5, 1.1), id="float16, bias 10 % off"),
        pytest.param(Chain(tail="y = ArgMax<axis=1>(x)", result="int64"), _swap, (0, 2, 3), id="ArgMax of swapped"),
    ],
)
def test_a_wrong_fold_fails(chain: Chain, damage: Callable[..., None], where: tuple[Any, ...], tmp_path: Path) -> None:
    chain = copy.deepcopy(chain)  # the row stays as it is
    damage(chain, *where)
    verdict = verify(*saved(tmp_path, chain.before(), chain.after()))
    assert verdict.status == "failed"
    assert 'output "y" is ' in verdict.reason
    assert not verdict.outputs[0].ok
    assert verdict.outputs[0].max_absolute > verdict.outputs[0].tolerance


@pytest.mark.parametrize(
    ("before", "after", "opset", "status"),
    [
        pytest.param(HALF % ("", "x"), HALF % (SCALED % "1.0003", "w"), 17, "verified", id="float16 inside"),
        pytest.param(HALF % ("", "x"), HALF % (SCALED % "1.05", "w"), 17, "failed", id="float16 inside, wrong"),
        pytest.param(QUANTIZED % "1.0", QUANTIZED % "1.0000002", 17, "verified", id="quantized activations"),
        pytest.param(QUANTIZED % "1.0", QUANTIZED % "1.1", 17, "failed", id="quantized activations, wrong"),
        pytest.param(BFLOAT16 % "Relu", BFLOAT16 % "Relu", 21, "verified", id="bfloat16"),
        pytest.param(BFLOAT16 % "Relu", BFLOAT16 % "Neg", 21, "failed", id="bfloat16, wrong"),
        pytest.param(ROUND % "100000.0", ROUND % "100000.004", 17, "verified", id="integers at ties"),
        pytest.param(ROUND % "100000.0", ROUND % "100100.0", 17, "failed", id="integers, wrong"),
    ],
)
def test_the_tolerance_follows_the_numbers(before: str, after: str, opset: int, status: str, tmp_path: Path) -> None:
    verdict = verify(*saved(tmp_path, parsed(before, opset), parsed(after, opset)))
    assert (verdict.status, verdict.reason == "") == (status, status == "verified")


@pytest.mark.parametrize(
    ("model", "inputs"),
    [
        (CONV, "x float32 2x1x64x64"),
        (RESHAPE % ("N,3,H,W", "N,M", 2, "-1, 150528"), "x float32 2x3x224x224"),
        (TWO, "x float32 2x3, z float32 2x4"),
        (RESHAPE % ("N,4", "1,4", 2, "1, 4"), "x float32 1x4"),
        ("(float[a,b] x, float[b,c] z) => (float[a,c] y) { y = MatMul(x, z) }", "x float32 2x16, z float32 16x16"),
        ("(float x) => (float y) { y = Exp(x) }", "x float32 scalar"),
        (NOT, "x bool 2x3"),
        (EQUAL % ("string[N]", "string[N]"), "x string 2"),
        (
            "(int64[N,L] x) => (float[N,L,1] y) <float[5,1] w = {1,2,3,4,5}> { y = Gather(w, x) }",
            "x int64 2x16 (0 to 1)",
        ),
        ("(uint8[N,4] x) => (float[N,4] y) { y = Cast<to=1>(x) }", "x uint8 2x4 (3 to 244)"),
    ],
)
def test_shapes_and_values_are_found_that_run(model: str, inputs: str, tmp_path: Path) -> None:
    verdict = verify(*saved(tmp_path, model))
    assert (verdict.status, verdict.reason) == ("verified", "")
    assert verdict.inputs == f"generated: {inputs}"


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        (
            RELU,
            "(float[4] x) => (float[N] z) { z = Relu(x) }",
            "outputs are z tensor(float), the original's y tensor(float)",
        ),
        (RELU, "(float[4] x) => (double[N] y) { z = Relu(x) y = Cast<to=11>(z) }", "outputs are y tensor(double)"),
        (
            RELU,
            "(float[4] z) => (float[N] y) { y = Relu(z) }",
            "inputs are z tensor(float), the original's x tensor(float)",
        ),
        (
            RELU,
            "(float[4] x) => (float[N] y) { z = Relu(x) y = Concat<axis=0>(z, z) }",
            "shape [8] where the original gives [4]",
        ),
        (RELU, "(float[4] x) => (float[N] y) { y = Nonsense(x) }", "loads the original but not the folded model: "),
        (RELU, RESHAPE % ("4", "N", 1, "3"), "runs the original but not the folded model: "),
        (RELU, "(float[4] x) => (float[N] y) { y = Sqrt(x) }", "is NaN where the original gives "),
        (NOT, EQUAL % ("bool[N,3]", "bool[N,3]"), "False where the original gives True"),
        (STRINGS % "x", STRINGS % "k", "'b' where the original gives 'a'"),
        (SPLIT % "Relu", SPLIT % "Neg", 'output "y[0]" is '),
    ],
)
def test_a_folded_model_that_differs_in_kind_fails(before: str, after: str, reason: str, tmp_path: Path) -> None:
    verdict = verify(*saved(tmp_path, before, after))
    assert verdict.status == "failed"
    assert reason in verdict.reason


@pytest.mark.parametrize(
    ("model", "limits", "reason"),
    [
        ("(float[4] x) => (float[4] y) { y = Nonsense(x) }", {}, "ONNX Runtime cannot load the original: "),
        (RESHAPE % ("N,4", "3", 1, "3"), {}, 'give samples that it runs on (inputs="FILE.npz")'),
        (NAN, {}, 'output "y" of the original is NaN on the samples'),
        (
            "(float[4] x) => (float[4] y) { r = RandomNormalLike(x) y = Add(x, r) }",
            {},
            'output "y" of the original itself moves by ',
        ),
        (EQUAL % ("float[1099511627776]", "float[1099511627776]"), {}, "takes 4,398,046,511,104 bytes"),
        ("(seq(float[M,4]) x) => (int64 y) { y = SequenceLength(x) }", {}, "is a seq(tensor(float))"),
        (HOG, {"memory": 3 << 30}, "memory ran out"),
        (RELU, {"memory": 100 << 20}, "memory"),  # less than it has: it dies of that, or lives to say so
        (RELU, {"memory": 10}, "the model needs about 0.0 GiB and 0.0 GiB are available"),
        (LOOP, {"timeout": 2.0}, "it was still running the original after 2 seconds"),
    ],
)
def test_what_cannot_be_judged_says_why(
    model: str,
    limits: dict[str, Any],
    reason: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wait = subprocess.Popen.wait

    def running(child: subprocess.Popen[bytes], timeout: float | None = None) -> int:
        until(lambda: child.poll() is not None or _activity(child) == RUNNING)
        return wait(child, timeout)

    if "timeout" in limits:  # which is over before a busy machine has started anything
        monkeypatch.setattr(subprocess.Popen, "wait", running)
    verdict = verify(*saved(tmp_path, model), **limits)
    assert verdict.status == "not verified"
    assert reason in verdict.reason
    assert capfd.readouterr() == ("", "")


def test_whoever_gave_samples_is_asked_for_other_ones(tmp_path: Path) -> None:
    verdict = verify(
        *saved(tmp_path, "(float[N] x) => (float[N] y) { y = Relu(x) }"), inputs={"x": np.zeros(0, np.float32)}
    )
    assert verdict.reason == f"the outputs of the original are empty on the samples; {advice.MORE_SAMPLES}"


def test_nan_from_one_sample_leaves_the_others(tmp_path: Path) -> None:
    verdict = verify(*saved(tmp_path, "(float[2,3] x) => (float[2,3] y) { y = Sqrt(x) }"))
    assert (verdict.status, verdict.samples) == ("verified", 1)  # the uniform one has no negative values


@pytest.mark.parametrize("ir", [3, 8])
def test_initializers_that_are_inputs_are_not_fed_and_may_go(ir: int, tmp_path: Path) -> None:
    before = parsed("(float[N,2] x) => (float[N,2] y) <float[2] b = {1, 2}> { y = Add(x, b) }", 8, ir)
    before.graph.input.append(onnx.helper.make_tensor_value_info("b", onnx.TensorProto.FLOAT, [2]))
    after = parsed("(float[N,2] x) => (float[N,2] y) <float[2] c = {1, 2}> { y = Add(x, c) }", 8, 8)
    verdict = verify(*saved(tmp_path, before, after))
    assert (verdict.status, verdict.inputs) == ("verified", "generated: x float32 2x2")


def _activity(child: subprocess.Popen[bytes]) -> str:
    """What the process of a verification does now."""
    path = Path(str(child.args[-1]), ACTIVITY)  # type: ignore[index]
    return path.read_text() if path.is_file() else ""


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (signal.SIGSEGV, f"the process died while running the original (signal SIGSEGV); {advice.RUNTIME}"),
        (
            signal.SIGKILL,
            f"the process died while running the original (it was killed, for lack of memory perhaps); {advice.MEMORY}",
        ),
        (signal.SIGXCPU, "it was still running the original after 300 seconds; allow more (`verify_timeout`)"),
    ],
)
def test_a_child_that_dies_leaves_word_of_what_it_did(
    number: signal.Signals, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait = subprocess.Popen.wait

    def dying(child: subprocess.Popen[bytes], timeout: float | None = None) -> int:
        until(lambda: child.poll() is not None or _activity(child) == RUNNING)
        child.send_signal(number)
        return wait(child, timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", dying)
    verdict = verify(*saved(tmp_path, LOOP))
    assert (verdict.status, verdict.reason) == ("not verified", reason)


@pytest.mark.parametrize(
    ("status", "expected"), [(-signal.SIGSEGV, "failed"), (-signal.SIGKILL, "verified"), (None, "verified")]
)
def test_a_crash_of_the_target_fails_and_a_lack_of_memory_or_time_does_not(
    status: int | None, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended(process: Standby, *_: object) -> int | None:
        (process.folder / RESULT).write_text(json.dumps(asdict(Verification("verified"))))
        (process.folder / ACTIVITY).write_text(AS_IT_IS)
        return status

    monkeypatch.setattr(Standby, "run", ended)
    verdict = verify(*saved(tmp_path, RELU), target=INSTALLED)
    assert verdict.status == expected
    assert verdict.reason == (
        f"ONNX Runtime crashes {AS_IT_IS} (signal SIGSEGV); {advice.AS_IT_IS}" if status == -signal.SIGSEGV else ""
    )


@pytest.mark.parametrize(
    ("target", "expected"), [(None, "verified"), ("tensorrt-11", "verified"), (INSTALLED, "failed")]
)
def test_the_target_that_is_here_runs_the_file_as_it_is(target: str | None, expected: str, tmp_path: Path) -> None:
    """An emulation runs in float32: only the file itself shows that there is no kernel for these 16 bits."""
    verdict = verify(
        *saved(
            tmp_path,
            SCATTER % 'y = ScatterElements<reduction="add">(x, i, u)',
            SCATTER % 's = ScatterElements<reduction="add">(h, i, v) y = Cast<to=1>(s)',
        ),
        target=target,
    )
    assert verdict.status == expected
    assert ("reduction is 'add'" in verdict.reason) == (expected == "failed")


def test_a_file_whose_inputs_were_lowered_runs_as_it_is(tmp_path: Path) -> None:
    after = "(float16[4] x) => (float16[4] y) { y = Relu(x) }"
    assert (
        verify(*saved(tmp_path, "(float[4] x) => (float[4] y) { y = Relu(x) }", after), target=INSTALLED).status
        == "verified"
    )


def test_an_interrupt_takes_the_child_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    children: list[subprocess.Popen[bytes]] = []
    wait = subprocess.Popen.wait

    def interrupted(child: subprocess.Popen[bytes], timeout: float | None = None) -> int:
        if timeout is None:
            return wait(child)
        children.append(child)
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess.Popen, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        verify(*saved(tmp_path, LOOP))
    assert [child.returncode for child in children] == [-signal.SIGKILL]


@pytest.mark.parametrize(
    ("module", "banned"),
    [
        ("folding.verification.parent", "onnxruntime"),
        ("folding.api", "onnxruntime"),
        ("folding.verification.child", "onnx"),
    ],
)
def test_neither_process_imports_what_the_other_needs(module: str, banned: str) -> None:
    code = f"import sys, {module}; sys.exit('{banned}' in sys.modules)"
    root = str(ROOT)
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": root})


def test_a_real_architecture(tmp_path: Path) -> None:
    model = Path(onnx.__file__).parent / "backend/test/data/light/light_shufflenet.onnx"
    verdict = verify(model, model)
    assert (verdict.status, verdict.inputs) == ("verified", "generated: gpu_0/data_0 float32 1x3x224x224")
