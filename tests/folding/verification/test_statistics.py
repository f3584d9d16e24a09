"""Normalizations in training mode: by how much results change without it, and statistics of samples in its place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

import folding
from folding import OptionError, Options
from folding.verification.statistics import Statistics
from tests.support import structures
from tests.support.models import SITE, Model
from tests.support.rows.row import barrier, out, start

if TYPE_CHECKING:
    from pathlib import Path

RANDOM = np.random.default_rng(0)


def training(m: Model, x: str, name: str) -> str:
    c = m.at(x).shape[1]
    parameters = [m.constant(m.random.uniform(0.5, 1.5, c)) for _ in range(4)]
    return m.op("BatchNormalization", x, *parameters, name=name, outputs=3, training_mode=1)


def two_in_a_row(batch: str | int = "N") -> onnx.ModelProto:
    """The second one sees what the first one normalized by the statistics of the batch."""
    m = Model(opset=17, dtype=np.float32)
    x = barrier(m, m.x(2, 4, 5, 6, declare=[batch, 4, 5, 6]))
    first = training(m, m.conv(x, 6), "first")
    out(m, training(m, m.conv(barrier(m, first), 6), SITE))
    m.declared[m.nodes[-1].output[0]] = [batch, 6, 1, 2]
    return m.build()


def run(path: Path, x: np.ndarray) -> np.ndarray:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x0": x})[0]


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(two_in_a_row(), path)
    return path


def test_the_report_says_by_how_much_results_change(model, tmp_path):
    x = RANDOM.standard_normal((8, 4, 5, 6)).astype(np.float32)
    np.savez(tmp_path / "x.npz", x0=x)
    report = folding.fold(model, tmp_path / "folded.onnx", Options(freeze_training=True, inputs=tmp_path / "x.npz"))
    change = np.abs(run(tmp_path / "folded.onnx", x) - run(model, x)).max()
    assert report.verification.status == "verified"
    assert change > 0.01
    [found] = report.verification.frozen
    np.testing.assert_allclose(found.max_absolute, change, rtol=1e-3)
    assert (
        f'results differ from the original\'s: "{found.name}" by up to {found.max_absolute:.3g} (' in report.notes[-1]
    )
    assert folding.Report.from_dict(report.as_dict()).verification.frozen == (found,)


def test_a_fold_that_freezes_nothing_changes_no_results(tmp_path):
    m = Model(opset=17, dtype=np.float32)
    out(m, m.bn(m.conv(start(m), 6)))
    _, report = folding.fold_model(m.build(), Options(freeze_training=True))
    assert report.verification.frozen == ()


@pytest.mark.parametrize("in_memory", [False, True])
def test_with_the_statistics_of_a_batch_the_result_is_that_of_training_mode(model, tmp_path, in_memory):
    x = (RANDOM.standard_normal((16, 4, 5, 6)) * 3 + 1).astype(np.float32)
    np.savez(tmp_path / "x.npz", x0=x)
    options = Options(freeze_training="samples", inputs=tmp_path / "x.npz")
    target = tmp_path / "folded.onnx"
    if in_memory:
        folded, report = folding.fold_model(onnx.load(model), options)
        onnx.save(folded, target)
    else:
        report = folding.fold(model, target, options)
    assert (report.bn_after, report.verification.status) == (0, "verified")
    assert "in 2 BatchNormalization, with the statistics of the samples" in report.notes[0]
    np.testing.assert_allclose(run(target, x), run(model, x), atol=1e-4)
    assert report.verification.frozen[0].max_absolute < 1e-4


def test_several_batches_are_aggregated(tmp_path):
    """The batch has a fixed length of 2, the file holds six samples: mean and population variance are over all."""
    m = Model(opset=17, dtype=np.float32)
    x = m.x(2, 3, 4, declare=[2, 3, 4])
    out(m, training(m, x, SITE))
    onnx.save(m.build(), tmp_path / "model.onnx")
    x = (RANDOM.standard_normal((6, 3, 4)) * np.arange(1, 7).reshape(-1, 1, 1)).astype(np.float32)
    np.savez(tmp_path / "x.npz", x0=x)
    options = Options(freeze_training="samples", inputs=tmp_path / "x.npz", leftover="keep")
    report = folding.fold(tmp_path / "model.onnx", tmp_path / "folded.onnx", options)
    assert report.verification.status == "verified"
    after = onnx.load(tmp_path / "folded.onnx")
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in after.graph.initializer}
    mean, variance = (stored[name] for name in after.graph.node[0].input[3:5])
    np.testing.assert_allclose(mean, x.astype(np.float64).mean((0, 2)), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(variance, x.astype(np.float64).var((0, 2)), rtol=1e-6)


def test_statistics_add_up():
    parts = [RANDOM.standard_normal((n, 3, 2)) * n + 1000 * n for n in (1, 2, 5)]
    whole = np.concatenate(parts)
    found = Statistics.of(parts[0]) + Statistics.of(parts[1]) + Statistics.of(parts[2])
    assert found.count == 16
    np.testing.assert_allclose(found.mean, whole.mean((0, 2)), rtol=1e-12)
    np.testing.assert_allclose(found.variance, whole.var((0, 2)), rtol=1e-9)


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"x0": np.zeros((2, 4, 5, 5), np.float32)}, 'input "x0" wants'),
        ({"wrong": np.zeros(3, np.float32)}, "has wrong"),
        ({"x0": np.zeros((0, 4, 5, 6), np.float32)}, 'freeze_training="samples": the original does not run on'),
        ({"x0": np.full((2, 4, 5, 6), np.nan, np.float32)}, "has no mean and variance"),
    ],
)
def test_samples_that_say_nothing_are_refused(model, tmp_path, arrays, sentence):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(OptionError, match=sentence):
        folding.fold(model, tmp_path / "folded.onnx", Options(freeze_training="samples", inputs=tmp_path / "x.npz"))
    assert not (tmp_path / "folded.onnx").exists()


def test_a_body_keeps_its_training_mode_without_samples_of_its_own(tmp_path):
    m = Model(opset=17, dtype=np.float32)
    x = training(m, m.conv(start(m), 6), "outside")
    inside = training(m, x, "inside")
    body = onnx.helper.make_graph(
        [m.nodes.pop()], "body", [], [onnx.helper.make_tensor_value_info(inside, 1, m.at(inside).shape)]
    )
    m.initializers["taken"] = np.array(True)
    m.nodes.append(onnx.helper.make_node("If", ["taken"], ["y"], name="if", then_branch=body, else_branch=body))
    m.values["y"] = m.at(inside)
    np.savez(tmp_path / "x.npz", x0=RANDOM.standard_normal((2, 4, 5, 6)).astype(np.float32))
    options = Options(freeze_training="samples", inputs=tmp_path / "x.npz")
    _, report = folding.fold_model(m.build(), options)
    ends = {outcome.node: outcome.status for outcome in report.outcomes}
    assert ends["outside"] == "folded"
    assert ends["inside"] == "kept"


def test_a_standardized_weight_is_no_batch(tmp_path):
    m = Model(opset=17, dtype=np.float32)
    w = training(m, m.constant((1, 4, 9)), "standardized")
    kernel = m.op("Reshape", w, m.constant(np.array([4, 1, 3, 3])))
    out(m, m.op("Conv", m.x(2, 1, 5, 5), kernel))
    np.savez(tmp_path / "x.npz", x0=np.ones((2, 1, 5, 5), np.float32))
    _, report = folding.fold_model(m.build(), Options(freeze_training="samples", inputs=tmp_path / "x.npz"))
    assert [(outcome.node, outcome.status) for outcome in report.outcomes] == [("standardized", "removed")]
    assert not any("training mode" in note for note in report.notes)


def test_a_function_keeps_its_training_mode_without_samples_of_its_own(tmp_path):
    """It is not inlined for that, either."""
    m = Model(opset=17, dtype=np.float32)
    out(m, training(m, m.conv(start(m), 6), "inside"))
    before = structures.in_function(m.build())
    np.savez(tmp_path / "x.npz", x0=m.feeds["x0"])
    _, report = folding.fold_model(before, Options(freeze_training="samples", inputs=tmp_path / "x.npz"))
    assert not report.changed
    _, report = folding.fold_model(before, Options(freeze_training="stored", inputs=tmp_path / "x.npz"))
    assert (report.bn_after, report.verification.status) == (0, "verified")
