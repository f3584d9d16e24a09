"""Large constants that become float16 are guessed to fit, and read once: the file is as if they were read before."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import folding
from folding.graph import narrowed
from folding.graph.halves import FLOAT16
from folding.graph.narrowed import Loss, Narrowed
from folding.graph.weights import UnrepresentableError, Weight
from folding.pipeline import attempts
from folding.precision import ranges

ROWS, COLUMNS = 1 << 10, 1 << 11  # four blocks of 512 rows
RNG = np.random.default_rng(5)
PLAIN = (RNG.standard_normal((ROWS, COLUMNS)) / 32).astype(np.float32)
PLAIN[::7, ::3] *= 1e-4  # some are subnormal
PLAIN[::9, ::5] *= 1e-7  # some become zero
PLAIN[::4, ::4] = 0


@pytest.fixture(autouse=True)
def large(monkeypatch):
    """Constants of this size are guessed, and models of this size get no ranges, for which weights would be read."""
    monkeypatch.setattr(narrowed, "MANY_BLOCKS", 4)
    monkeypatch.setattr(ranges, "LOADED_BYTES", 1 << 20)


@pytest.fixture
def guesses(monkeypatch) -> list[bool]:
    """Of each attempt, whether it guessed."""
    found: list[bool] = []
    plan = attempts.fold_graph

    def watched(*args, guesses=False, **options):
        found.append(guesses)
        return plan(*args, guesses=guesses, **options)

    monkeypatch.setattr(attempts, "fold_graph", watched)
    return found


def narrow(array, *, factor=False, is_guessed=True):
    exact = Weight(array.dtype, array.shape, array)
    if factor:
        exact = exact.scaled(array.shape, np.geomspace(1e-3, 10, len(array)).reshape(-1, 1))
    return Narrowed.of_weight(exact, FLOAT16, is_guessed=is_guessed)


def written(weight):
    return b"".join(bytes(weight.evaluate(start, stop)) for start, stop in weight.blocks())


def changed(place, value):
    array = PLAIN.copy()
    array[place] = value
    return array


def model(weight, op="MatMul"):
    length = COLUMNS if op == "Div" else ROWS
    graph = helper.make_graph(
        [helper.make_node(op, ["x", "w"], ["a"], name="heavy"), helper.make_node("Relu", ["a"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, length])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weight, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def folded(tmp_path, made, **options):
    """The file and its report, and those without guesses."""
    chosen = folding.Options(precision="fp16", verify=False, **options)
    onnx.save(made, tmp_path / "m.onnx")
    report = folding.fold(tmp_path / "m.onnx", tmp_path / "out.onnx", chosen)
    result, expected = folding.fold_model(made, chosen)
    assert (tmp_path / "out.onnx").read_bytes() == result.SerializeToString()
    assert (report.changes, report.rounded, report.types) == (expected.changes, expected.rounded, expected.types)
    return report


@pytest.mark.parametrize("factor", [False, True])
def test_what_is_written_and_counted_is_what_is_found_by_reading(factor):
    guessed, read = narrow(PLAIN, factor=factor), narrow(PLAIN, factor=factor, is_guessed=False)
    assert guessed.guess() is not None
    assert guessed.counted() == Loss()
    assert written(guessed) == written(read)
    assert written(guessed) == written(read)  # to evaluate it twice counts once
    loss = read.loss()
    assert loss.subnormal > loss.flushed > 1000
    assert guessed.counted() == Loss(subnormal=loss.subnormal, flushed=loss.flushed)


def test_what_loses_nothing_counts_nothing():
    plain = narrow(np.full((ROWS, COLUMNS), 0.5, np.float32))
    written(plain)
    assert plain.guess() is not None
    assert plain.counted() == Loss()


@pytest.mark.parametrize("value", [1e5, np.inf, np.nan])
@pytest.mark.parametrize("factor", [False, True])
def test_what_a_guess_missed_is_an_error_when_it_is_evaluated(value, factor):
    weight = narrow(changed((-1, -1), value), factor=factor)
    assert weight.guess() is not None
    with pytest.raises(UnrepresentableError):
        written(weight)


@pytest.mark.parametrize("value", [1e5, np.inf, np.nan])
def test_what_is_seen_is_not_guessed(value):
    assert narrow(changed((0, 0), value)).guess() is None


def test_what_would_vanish_is_not_guessed():
    assert narrow(np.full((ROWS, COLUMNS), 1e-5, np.float32)).guess() is None


def test_what_is_small_or_known_is_not_guessed():
    assert narrow(PLAIN[: ROWS // 2]).guess() is None
    read = narrow(PLAIN)
    read.loss()
    assert read.guess() is None


def test_a_constant_is_read_once(tmp_path, guesses, monkeypatch):
    read = []
    monkeypatch.setattr(Narrowed, "loss", lambda self: read.append(self) or Loss(largest=1.0))
    onnx.save(model(PLAIN), tmp_path / "m.onnx")
    folding.fold(tmp_path / "m.onnx", tmp_path / "out.onnx", folding.Options(precision="fp16", verify=False))
    assert (guesses, read) == ([True], [])


def test_a_report_counts_what_writing_found(tmp_path):
    report = folded(tmp_path, model(PLAIN))
    (one,) = report.rounded
    assert (one.name, one.elements) == ("w", PLAIN.size)
    assert one.subnormal > one.flushed > 1000
    assert any("became zero" in change.kind for change in report.changes)


@pytest.mark.parametrize("value", [1e5, np.inf])
def test_a_wrong_guess_costs_another_attempt_and_nothing_else(tmp_path, guesses, value):
    report = folded(tmp_path, model(changed((-1, -1), value)))
    assert guesses == [True, False, False]  # the last is that in memory
    types = {one.label: one.dtype for one in report.types}
    assert types["heavy"] == ("float32" if value == 1e5 else "float16")


def test_a_guess_may_show_to_be_wrong_before_anything_is_written(tmp_path, guesses, monkeypatch):
    """Where a constant is evaluated while the fold is planned, for whatever reason."""
    plan = attempts.fold_graph

    def evaluating(*args, guesses=False, **options):
        folded = plan(*args, guesses=guesses, **options)
        for one in folded.ready._lowered.constants:
            written(one.weight)
        return folded

    monkeypatch.setattr(attempts, "fold_graph", evaluating)
    onnx.save(model(changed((-1, -1), np.inf)), tmp_path / "m.onnx")
    folding.fold(tmp_path / "m.onnx", tmp_path / "out.onnx", folding.Options(precision="fp16", verify=False))
    assert guesses == [True, False]


def test_a_divisor_is_read(tmp_path, guesses):
    """One zero among its elements keeps the division in float32."""
    report = folded(tmp_path, model(np.abs(changed((-1, -1), 1e-9)) + np.float32(0), "Div"))
    assert guesses == [True, False]
    assert {one.label: one.dtype for one in report.types}["heavy"] == "float32"


def test_with_a_card_nothing_is_guessed(tmp_path, guesses):
    """It says what becomes zero, and is written first."""
    folded(tmp_path, model(PLAIN), card=True)
    assert guesses == [False, False]


def test_a_dry_run_reads(tmp_path, guesses):
    onnx.save(model(PLAIN), tmp_path / "m.onnx")
    report = folding.inspect(tmp_path / "m.onnx", folding.Options(precision="fp16"))
    assert guesses == [False]
    assert dataclasses.asdict(report.rounded[0])["flushed"] > 1000
