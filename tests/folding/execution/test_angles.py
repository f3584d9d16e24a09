"""What is an angle of positions: the way to it, as far as a graph computes it of what it is given."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import pytest
from onnx import parser

from folding.execution.angles import angles
from folding.execution.emulation import roughen
from folding.verification.parent import verify

if TYPE_CHECKING:
    from pathlib import Path

ROTARY = """(int64[2,4] p, float[2,4,8] x) => (float[2,4,8] y) <float[8] f = {1, 0.3, 0.1, 0.03, 0.01, 3e-3, 1e-3, 0}> {
    q = Unsqueeze(p, a) r = Cast<to=1>(q) %s c = Cos(t) y = Mul(x, c) }"""


def model(text: str) -> onnx.ModelProto:
    made = parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]>\nagraph {text}')
    if "Unsqueeze(p, a)" in text:
        made.graph.initializer.append(onnx.helper.make_tensor("a", onnx.TensorProto.INT64, [1], [2]))
    return made


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (ROTARY % "t = Mul(r, f)", {"q", "r", "t"}),
        (ROTARY % "s = Shape(r) e = Expand(f, s) t = Mul(r, e)", {"q", "r", "e", "t"}),
        (ROTARY % "k = Constant<value_float = 0.5>() u = Mul(r, f) t = Mul(u, k)", {"q", "r", "k", "u", "t"}),
        ("(float[4] x) => (float[4] y) { a = Mul(x, x) s = Sin(a) y = Mul(s, a) }", {"a"}),
        # near misses: what data become, and what is no angle
        ("(float[4] x) => (float[4] y) { e = Exp(x) a = Mul(x, e) y = Sin(a) }", set()),
        ("(float[4] x) => (float[4] y) { a = Mul(x, x) y = Tanh(a) }", set()),
    ],
)
def test_the_way_to_an_angle(text: str, found: set[str]) -> None:
    assert angles(model(text).graph) == found


def test_rounded_numbers_leave_angles_alone(tmp_path: Path) -> None:
    onnx.save(model(ROTARY % "t = Mul(r, f)"), tmp_path / "model.onnx")
    roughen(tmp_path / "model.onnx", tmp_path / "rough.onnx", "float16")
    rough = onnx.load(tmp_path / "rough.onnx")
    makers = {name: node.op_type for node in rough.graph.node for name in node.output}
    assert [makers[name] for name in ("q", "r", "t", "y")] == ["Unsqueeze", "Cast", "Mul", "Sub"]
    product = next(node for node in rough.graph.node if "t" in node.output)
    assert list(product.input) == ["r", "f"]


@pytest.mark.parametrize(("scale", "status"), [("1", "verified"), ("1000", "failed")])
def test_rounded_positions_are_no_noise(scale: str, status: str, tmp_path: Path) -> None:
    """Of positions up to 9, multiplied so that float16 holds them or their angles no more."""
    before, after = tmp_path / "before.onnx", tmp_path / "after.onnx"
    for path, way in ((before, "h = Identity(u)"), (after, "g = Cast<to=10>(u) h = Cast<to=1>(g)")):
        angle = f"k = Constant<value_float = {scale}.1>() u = Mul(r, k) {way} t = Mul(h, f)"
        onnx.save(model(ROTARY % angle), path)
    verdict = verify(before, after)
    assert verdict.status == status, verdict.reason
