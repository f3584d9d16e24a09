"""A refusal for an unknown shape says where shape inference ended: the operator, the input, or the bound."""

from __future__ import annotations

import pytest

from folding import Options, fold_model
from folding.analysis import shapes
from folding.analysis.inference import InferenceError
from tests.support.examples import model_of

CUSTOM = """\
x: float[2, 4, 6, 6]
a = com.example.Custom(x)
b = Relu(a)
c = Mul(b, K[4, 1])
y = Gemm(c, W[4, 5])"""
OPEN = """\
x: float[N, C, 5]
z: float[2, 5, 5]
a = Concat(x, z, axis=1)
b = Mul(a, K[10, 1])
y = MatMul(W[6, 10], b)"""
COMPUTED = """\
x: float[2, 4, 6]
i: int64[N]
a = Reshape(x, i)
b = Mul(a, K[4, 1])
y = MatMul(W[6, 4], b)"""
INSIDE = """\
x: float[2, 4, 6, 6]
p: bool[]
a = com.example.Custom(x)
y = If(p, then_branch={b = Relu(a); c = Mul(b, K[4, 1])}, else_branch={d = Relu(a)})"""
REFUSED_LATER = """\
x: float[2, 3, 4]
a = com.example.Custom(x)
b = Conv(a, W[8, 4, 3, 3])
c = Reshape(b, R[2]:int64=[-1, 8])
y = BatchNormalization(c, S[8], B[8], M[8], V[8])"""


def reason(model: str, way: str = "backward") -> str:
    _, report = fold_model(model_of(model), Options(verify=False))
    (outcome,) = report.outcomes
    refusal = getattr(outcome, way)
    assert refusal.code == "unknown-shape"
    return refusal.reason.partition("; ")[2]


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (CUSTOM, "shape inference ended at 'a' (com.example::Custom): the rank of its result is unknown"),
        (OPEN, "the input 'x' is N x C x 5"),
        (COMPUTED, "shape inference ended at 'a' (Reshape): the rank of its result is unknown"),
        (INSIDE, "shape inference ended at 'a' (com.example::Custom): the rank of its result is unknown"),
        (REFUSED_LATER, "shape inference ended at 'a' (com.example::Custom): lengths of its result are unknown"),
    ],
)
def test_the_place_is_named(model, said):
    assert reason(model) == said


def test_what_ended_all_of_it_is_named(monkeypatch):
    def ended(*_: object, **__: object) -> None:
        raise InferenceError("the process that inferred shapes used its 20 s of processor time")

    monkeypatch.setattr(shapes, "inferred", ended)
    assert reason(CUSTOM) == "shape inference failed: the process that inferred shapes used its 20 s of processor time"
