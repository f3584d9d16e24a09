"""Constants in 16 bits: rounded once, and what that loses."""

from __future__ import annotations

import os
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest

from folding.analysis.evaluation import array_of
from folding.graph import halves
from folding.graph.halves import FEW, FLOAT16
from folding.graph.narrowed import Loss, Narrowed
from folding.graph.weights import UnrepresentableError, Weight

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
FLOAT32 = np.dtype(np.float32)


def bits(values):
    return values.view(np.uint16).tolist()


def narrow(array, factor=None, bound=np.inf):
    exact = Weight(FLOAT32, array.shape, array)
    exact = exact if factor is None else exact.scaled((array.size, 1), np.asarray(factor, np.float64).reshape(-1, 1))
    return Narrowed.of_weight(exact, FLOAT16, bound)


@pytest.fixture(params=["numpy", "onnxruntime"])
def kernel(request, monkeypatch):
    """What rounds blocks: NumPy, or what many elements are given to."""
    monkeypatch.setattr(halves._count, "elements", 0 if request.param == "numpy" else halves.MANY)


def test_onnxruntime_rounds_as_numpy_does():
    """On every float16, every middle between two, and their neighbours."""
    assert halves.kernel() is not None
    values = halves.examples()
    assert values.size > 4 * 2 * 31743
    found = np.empty(values.size, np.float16)
    halves.kernel()({"x": values}, {"y": found})
    with np.errstate(over="ignore"):
        assert bits(found) == bits(values.astype(np.float16))


def test_a_kernel_that_rounds_otherwise_is_not_used(monkeypatch):
    """One that rounds ties up, for example."""

    def rounding_up(given, made):
        for out in made.values():
            np.copyto(out, given["x"].ravel() * np.float32(1.0000001), casting="same_kind")

    monkeypatch.setattr(halves, "_Kernel", lambda: rounding_up)
    halves.kernel.cache_clear()
    with np.errstate(over="ignore"):
        assert halves.kernel() is None
    halves.kernel.cache_clear()


def test_without_onnxruntime_numpy_rounds(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # as if it could not be imported
    monkeypatch.setattr(halves._count, "elements", halves.MANY)
    halves.kernel.cache_clear()
    values = halves.examples()[:5000]
    assert bits(halves.Block(values, np.ones((1, 1))).halves()) == bits(values.astype(np.float16))
    assert halves.kernel() is None
    halves.kernel.cache_clear()


def test_onnxruntime_reports_to_nobody_and_says_nothing(tmp_path):
    """It leaves a file in the home folder where it sends what it learns of models."""
    silent = {"CI", "GITHUB_ACTIONS", "TF_BUILD", "ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME"}
    environment = {name: value for name, value in os.environ.items() if name not in silent} | {"HOME": str(tmp_path)}
    command = [sys.executable, "-c", "from folding.graph.halves import kernel; assert kernel()"]
    done = subprocess.run(command, env=environment, check=True, capture_output=True)
    assert not done.stdout + done.stderr
    assert not list(tmp_path.iterdir())


FINITE = halves.examples()
FINITE = FINITE[np.abs(FINITE) < 65520]


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("factor", [None, 1.0000001, 0.7, -3e-3, 1 / 3])
def test_every_number_and_every_tie_is_rounded_once(factor):
    """Also where a factor leads exactly there, or next to it in float64."""
    times = 1 if factor is None else factor
    kept = FINITE[np.abs(FINITE.astype(np.float64) * times) < 65520]
    for values in np.array_split(kept, 4):
        found = np.frombuffer(written(narrow(values, None if factor is None else np.full(values.size, factor))), "<u2")
        assert found.tolist() == bits((values.astype(np.float64) * times).astype(np.float16))


@pytest.mark.usefixtures("kernel")
def test_products_that_are_next_to_a_tie_are_rounded_once():
    """For a factor of each element, chosen so that the product is a tie, or as near to one as float64 can be."""
    rng = np.random.default_rng(0)
    values = (rng.standard_normal(100_000) * 10.0 ** rng.integers(-8, 4, 100_000)).astype(np.float32)
    ties = FINITE[rng.integers(0, FINITE.size, values.size)].astype(np.float64)
    factor = ties / values * (1 + rng.integers(-3, 4, values.size) * 2.0**-52)
    kept = np.abs(values * factor) < 65519
    values, factor = values[kept], factor[kept]
    found = np.frombuffer(written(narrow(values, factor)), "<u2")
    assert found.tolist() == bits((values.astype(np.float64) * factor).astype(np.float16))


@pytest.mark.usefixtures("kernel")
def test_a_product_of_several_factors_is_rounded_once():
    rng = np.random.default_rng(0)
    stored = rng.standard_normal((300, 400)).astype(np.float32)
    ties = FINITE[rng.integers(0, FINITE.size, 300)].astype(np.float64)
    rows, columns = np.abs(ties[:, None] / stored[:, :1]), np.ones((1, 400))
    columns[0, ::2] = np.nextafter(1, 2)  # the first column leads to ties, or next to them
    exact = Weight(FLOAT32, stored.shape, stored).scaled(stored.shape, rows).scaled(stored.shape, columns)
    found = np.frombuffer(written(Narrowed.of_weight(exact, FLOAT16, 65504)), "<u2")
    expected = np.clip(stored * rows * columns, -65504, 65504).astype(np.float16)
    assert found.tolist() == bits(expected.ravel())


@pytest.mark.usefixtures("kernel")
def test_the_largest_number_is_none_beyond():
    values = np.full(halves.FEW, 32768, np.float32)
    inside, outside = np.nextafter(65520 / 32768, 0), 65520 / 32768
    assert set(np.frombuffer(written(narrow(values, np.full(values.size, inside))), np.float16)) == {65504.0}
    with pytest.raises(UnrepresentableError):
        written(narrow(values, np.full(values.size, outside)))
    assert narrow(values, np.full(values.size, outside)).loss().clamped == values.size
    assert narrow(values, np.full(values.size, inside)).loss().clamped == 0


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("factor", [None, 1e-3, 1e-44])
def test_losses_of_a_block_are_those_of_its_elements(factor):
    rng = np.random.default_rng(0)
    values = (rng.standard_normal(50_000) * 10.0 ** rng.integers(-9, 4, 50_000)).astype(np.float32)
    values[rng.random(values.size) < 0.4] = 0
    exact = np.abs(values.astype(np.float64) * (1 if factor is None else factor))
    stored = exact.astype(np.float16)
    below = (exact > 0) & (stored < 2.0**-14)
    loss = narrow(values, None if factor is None else np.full(values.size, factor)).loss()
    assert loss.flushed == np.count_nonzero(below & (stored == 0))
    assert loss.subnormal == np.count_nonzero(below & (stored != 0))
    assert loss.clamped == loss.infinite == 0
    assert loss.largest == pytest.approx(exact.max(), rel=2.0**-11)
    assert loss.smallest == exact[exact > 0].min()


def written(weight):
    return b"".join(bytes(weight.evaluate(start, stop)) for start, stop in weight.blocks())


@pytest.mark.parametrize("dtype", [FLOAT16, BFLOAT16])
def test_factors_apply_before_the_one_rounding(dtype):
    rng = np.random.default_rng(0)
    stored, factor = rng.standard_normal((300, 700)).astype(np.float32), rng.standard_normal((300, 1))
    exact = Weight(stored.dtype, stored.shape, stored).scaled(stored.shape, factor)
    expected = (stored.astype(np.float64) * factor).astype(dtype)
    found = np.frombuffer(written(Narrowed.of_weight(exact, dtype)), dtype).reshape(stored.shape)
    assert (found == expected).mean() > 0.9999  # ml_dtypes rounds twice


def weight(*values, dtype=FLOAT16, bound=np.inf):
    array = np.array(values, np.float32)
    return Narrowed.of_weight(Weight(array.dtype, array.shape, array), dtype, bound)


def test_infinity_stays_and_what_is_beyond_is_clamped_to_the_bound():
    found = np.frombuffer(written(weight(-np.inf, -1e9, 7e4, 3.0, np.inf, bound=100.0)), np.float16)
    assert found.tolist() == [-np.inf, -100.0, 100.0, 3.0, np.inf]


def test_what_reads_the_constant_sees_it_clamped_too():
    clamped = narrow(np.array([[-3.4e38, 1.0, -np.inf]], np.float32), bound=65504.0)
    assert array_of(clamped).tolist() == [[-65504.0, 1.0, -np.inf]]
    halved = narrow(np.array([-3.4e38, 1.0], np.float32), factor=[0.5, 0.5], bound=65504.0)
    assert array_of(halved).tolist() == [-65504.0, 0.5]


def test_a_bound_within_the_range_of_the_type_holds_where_nothing_overflows():
    found = np.frombuffer(written(weight(*[-6e4] * FEW, 3.0, bound=1000.0)), np.float16)
    assert set(found.tolist()) == {-1000.0, 3.0}


def test_what_is_beyond_is_refused_without_a_bound():
    with pytest.raises(UnrepresentableError):
        written(weight(1.0, 7e4))


@pytest.mark.parametrize(
    ("values", "loss"),
    [
        ((1.0, -2.0), Loss(largest=2, smallest=1)),
        ((0.0, 0.0), Loss()),
        ((1e-9, 3e-6, 1.0, 0.0), Loss(0, 1, 1, 0, 1.0, np.float32(1e-9))),
        ((7e4, 1e-9, 1.0), Loss(1, 0, 1, 0, 7e4, np.float32(1e-9))),
        ((np.inf, np.nan, 1.0), Loss(infinite=2, largest=1, smallest=1)),
        ((np.inf,), Loss(infinite=1)),
        ((65519.0,), Loss(largest=65519, smallest=65519)),
    ],
)
def test_losses_are_counted(values, loss):
    found = weight(*values).loss()
    assert found == loss


def test_losses_of_a_product_are_those_of_the_product():
    array = np.full((2, 3), 1e-3, np.float32)
    exact = Weight(array.dtype, array.shape, array).scaled((2, 3), np.array([[1e-6], [1e9]]))
    found = Narrowed.of_weight(exact, FLOAT16).loss()
    assert (found.clamped, found.flushed) == (3, 3)


def test_the_number_of_losses_is_that_of_all_blocks():
    array = np.full((1 << 21) + 5, 1e-9, np.float32)
    assert Narrowed.of_weight(Weight(array.dtype, array.shape, array), FLOAT16).loss().flushed == array.size
