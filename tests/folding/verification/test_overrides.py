"""A model whose initializers a caller may override is run with other values of them, too."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from onnx import parser

from folding import verify
from folding.verification.samples import overrides

if TYPE_CHECKING:
    from pathlib import Path

HEAD = '<ir_version: {ir}, opset_import: ["" : 17]>\n'
# The sum of an axis whose length a caller gives; the second model counts by the default.
COUNTS = "z = ReduceSum <keepdims = 0> (e, a)  y = Identity(z)"
SHIFTED = (
    "g (float[2,1,3] x, int64[3] s) => (float[N,3] y) <int64[3] s = {2, 5, 3}, int64[1] a = {1}, float[1] k = {2},"
    " float[1] c = {10}>"
)
BEFORE = SHIFTED + "{ d = Add(x, k)  e = Expand(d, s)  " + COUNTS + " }"
AFTER = SHIFTED + "{ e = Expand(x, s)  z = ReduceSum <keepdims = 0> (e, a)  y = Add(z, c) }"
WEIGHT = "g (float[4] x, float[4] w) => (float[4] y) <float[4] w = {1, 2, 3, 4}, float[4] f = {1, 2, 3, 4}> "


def saved(folder: Path, *texts: str, ir: int = 8) -> list[Path]:
    paths = [folder / f"{number}.onnx" for number in range(len(texts))]
    for path, text in zip(paths, texts, strict=True):
        path.write_bytes(parser.parse_model(HEAD.format(ir=ir) + text).SerializeToString())
    return paths


def test_a_length_that_was_baked_in_is_found(tmp_path):
    verdict = verify(*saved(tmp_path, BEFORE, AFTER))
    assert (verdict.status, "and other values of s" in verdict.inputs) == ("failed", True)
    assert verify(*saved(tmp_path, BEFORE, BEFORE)).status == "verified"


def test_a_weight_that_was_baked_in_is_found(tmp_path):
    baked = verify(*saved(tmp_path, WEIGHT + "{ y = Mul(x, w) }", WEIGHT + "{ t = Mul(x, f)  y = Identity(t) }"))
    assert (baked.status, "and other values of w" in baked.inputs) == ("failed", True)


def test_given_samples_are_run_with_other_values_too(tmp_path):
    x = np.ones((2, 1, 3), np.float32)
    paths = saved(tmp_path, BEFORE, AFTER)
    assert verify(*paths, inputs={"x": x}).status == "failed"


@pytest.mark.parametrize(
    ("text", "ir"),
    [
        (WEIGHT + "{ y = Mul(x, w) }", 3),  # nobody can override it
        (WEIGHT.replace(", float[4] w)", ")") + "{ y = Mul(x, w) }", 8),  # it is no input
    ],
)
def test_what_nobody_can_override_is_left_alone(tmp_path, text, ir):
    (path,) = saved(tmp_path, text, ir=ir)
    assert "other values" not in verify(path, path).inputs


def test_a_model_that_takes_no_other_values_is_verified_without(tmp_path):
    text = "g (float[2,3] x, int64[2] s) => (float[6] y) <int64[2] s = {2, 3}, int64[1] f = {6}>"
    (path,) = saved(tmp_path, text + "{ r = Reshape(x, s)  t = Add(r, x)  y = Reshape(t, f) }")
    verdict = verify(path, path)
    assert (verdict.status, "other values" in verdict.inputs) == ("verified", False)


def test_the_values_are_others():
    found = list(overrides({"s": np.array([2, 3]), "same": np.array([4, 4]), "w": np.array([1.0, 0.0])}))
    assert [one["s"].tolist() for one in found[:-1]] == [[3, 2], [3, 3], [2, 4], [2, 3], [2, 3]]
    assert [one["same"].tolist() for one in found[:-1]] == [[4, 4], [4, 4], [4, 4], [5, 4], [4, 5]]
    assert all(one["w"].tolist() == [1.25, 0.0] for one in found)
    assert list(found[-1]) == ["w"]
