"""verify on samples of the user: what is wrong with a file is an error that says so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import pytest

from folding.errors import OptionError
from folding.verification.parent import verify
from tests.support.verification import parsed, saved

if TYPE_CHECKING:
    from pathlib import Path

RELU = "(float[4] x) => (float[N] y) { y = Relu(x) }"
BFLOAT16 = "(bfloat16[2,4] x) => (bfloat16[2,4] y) { z = Cast<to=1>(x) r = Relu(z) y = Cast<to=16>(r) }"


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"x": np.zeros((1, 3), np.float32)},
            "file.npz lacks flag; the model's inputs are x, flag: add one array for each",
        ),
        (
            {"x": np.zeros((1, 3), np.float32), "flag": np.array(True), "w": np.zeros(1)},
            "file.npz has w, but the model's inputs",
        ),
        (
            {"x": np.zeros((1, 3)), "flag": np.array(True)},
            'input "x" wants float32 Nx3 (N is 1), but file.npz has float64 1x3',
        ),
        ({"x": np.zeros((1, 4), np.float32), "flag": np.array(True)}, "but file.npz has float32 1x4"),
        ({"x": np.zeros(3, np.float32), "flag": np.array(True)}, "but file.npz has float32 3"),
        ({"x": np.zeros((1, 3), object), "flag": np.array(True)}, "cannot be read as an .npz file of plain arrays"),
    ],
)
def test_inputs_that_do_not_fit_are_an_option_error(arrays: dict[str, Any], message: str, tmp_path: Path) -> None:
    models = saved(tmp_path, "(float[N,3] x, bool flag) => (float[N,3] y) { z = Cast<to=1>(flag) y = Add(x, z) }")
    np.savez(tmp_path / "file.npz", **arrays)
    with pytest.raises(OptionError) as error:
        verify(*models, inputs=tmp_path / "file.npz")
    assert message in str(error.value)


def test_files_that_are_no_npz_are_an_option_error(tmp_path: Path) -> None:
    models = saved(tmp_path, RELU)
    for inputs, message in ((tmp_path / "none.npz", "no such file"), (models[0], "is not an .npz file")):
        with pytest.raises(OptionError, match=message):
            verify(*models, inputs=inputs)
    with pytest.raises(OptionError, match='input "x" holds Python objects'):
        verify(*models, inputs={"x": np.array([object()] * 4)})


def test_an_empty_batch_proves_nothing(tmp_path: Path) -> None:
    models = saved(tmp_path, "(float[N,3] x) => (float[N,3] y, float[N,3] z) { y = Relu(x) z = Neg(x) }")
    verdict = verify(*models, inputs={"x": np.zeros((0, 3), np.float32)})
    assert (verdict.status, "are empty on the samples" in verdict.reason) == ("not verified", True)


def test_an_output_that_is_empty_beside_another_one_is_equal(tmp_path: Path) -> None:
    models = saved(tmp_path, "(float[N,3] x) => (float[N,3] y, int64[2,K] z) { y = Relu(x) z = NonZero(x) }")
    assert verify(*models, inputs={"x": np.zeros((1, 3), np.float32)}).status == "verified"


@pytest.mark.parametrize("name", ["x", "file", "scope/x:0"])
def test_samples_of_the_user_are_used(name: str, tmp_path: Path) -> None:
    before = parsed("(float[N] x) => (float[N] y) <float k = {1.0}> { y = Min(x, k) }")
    after = parsed("(float[N] x) => (float[N] y) { y = Identity(x) }")
    for model in (before, after):
        model.graph.input[0].name = model.graph.node[0].input[0] = name
    models = saved(tmp_path, before, after)
    small = verify(*models, inputs={name: np.full(5, 0.5, np.float32)})
    assert (small.status, small.samples, small.inputs) == ("verified", 1, f"given: {name} float32 5")
    if name == "x":
        np.savez(tmp_path / "large.npz", x=np.full(5, 1.5, np.float32))
        large = verify(*models, inputs=tmp_path / "large.npz")
        assert (large.status, large.inputs) == ("failed", "large.npz: x float32 5")


def test_strings_and_bfloat16_can_be_given(tmp_path: Path) -> None:
    echo = saved(tmp_path, "(string[N] x) => (string[N] y) { y = Identity(x) }")
    strings = verify(*echo, inputs={"x": np.array(["a", "bc"])})
    assert (strings.status, strings.inputs) == ("verified", "given: x string 2")
    values = {"x": np.ones((2, 4), ml_dtypes.bfloat16)}
    assert verify(*saved(tmp_path, parsed(BFLOAT16, 21)), inputs=values).inputs == "given: x bfloat16 2x4"
