"""8 bits with labels: a network learns, is quantized in every state, and the table says what it cost."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from benchmarks.quantization.digits import networks, table, training  # noqa: E402
from benchmarks.quantization.digits.networks import NETWORKS  # noqa: E402
from benchmarks.quantization.digits.rows import Quality, Row, clamps, rows, skew  # noqa: E402
from benchmarks.quantization.digits.training import TRAINED, Labelled, trained  # noqa: E402

# inside PyTorch: torch.ao.quantization says that torchao comes after it, and its exporter that another one does
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
IMAGES = 64


@pytest.fixture(autouse=True)
def _one_thread():
    engine = torch.backends.quantized.engine
    torch.set_num_threads(1)
    yield
    torch.backends.quantized.engine = engine  # others expect the default


@pytest.fixture
def samples():
    """Images that are dark or light: two classes that a network soon distinguishes."""
    drawn = torch.Generator().manual_seed(0)
    labels = torch.arange(IMAGES) % 2
    noise = torch.randn(IMAGES, 1, training.SIZE, training.SIZE, generator=drawn)
    return Labelled(noise / 4 + (2 * labels - 1)[:, None, None, None], labels)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_has_an_output_for_each_digit(name):
    network = NETWORKS[name]().eval()
    depthwise = [part for part in network.modules() if getattr(part, "groups", 1) > 1]
    assert bool(depthwise) == (name != "ResNet")
    assert network(torch.zeros(2, 1, training.SIZE, training.SIZE)).shape == (2, 10)


def test_a_network_learns_once_and_every_state_of_it_is_measured(samples, tmp_path, monkeypatch):
    smallest = partial(networks.network, networks.separable, 4, (networks.Stage(1, 8, 2),))
    monkeypatch.setitem(NETWORKS, "smallest", smallest)
    monkeypatch.setitem(TRAINED, "smallest", ("smallest", training.SGD))
    network = trained("smallest", samples, tmp_path, epochs=8)
    same = trained("smallest", samples, tmp_path / "anew", epochs=8)
    monkeypatch.setattr(training, "_train", None)
    read = trained("smallest", samples, tmp_path)
    assert all(torch.equal(one(samples.images), network(samples.images)) for one in (same, read))
    found = list(rows("smallest", network, samples.images[:8], samples, tmp_path / "files"))
    states = ("unfolded", "folded", "folded + equalized")
    assert [(row.state, row.weights) for row in found] == [
        (state, weights) for state in states for weights in ("float32", "per channel", "per tensor")
    ]
    before, folded, equalized = found[::3]
    assert before.onnxruntime.accuracy == before.pytorch.accuracy == 1
    assert all(
        one.onnxruntime.nbytes > other.onnxruntime.nbytes for one, other in zip(found[:3], found[3:6], strict=True)
    )
    assert folded.skews != before.skews
    assert max(equalized.skews) <= max(folded.skews)
    assert all(10 < one.sqnr < 100 for row in found if not row.skews for one in (row.onnxruntime, row.pytorch))


def test_the_skew_of_a_weight_is_that_of_its_outputs():
    weight = np.ones((5, 2, 1, 1)) * np.array([1.0, -2, 0, 0, 9])[:, None, None, None]
    assert skew(weight) == 4.5


def test_a_backend_that_clamps_into_another_order_is_found():
    assert clamps("x86")
    assert not clamps("qnnpack")  # of PyTorch 2.13; once it does, the table has its figures for ReLU6, too


def test_the_table_has_the_change_of_each_network_and_the_mean_of_all(tmp_path):
    exact, rounded = Quality(0.9, math.inf, 2000), [Quality(0.88, 20.0, 1000), Quality(0.91, 30.0, 3000)]
    found = [
        row
        for name, one in zip("AB", rounded, strict=True)
        for row in (
            Row(name, "unfolded", "float32", exact, exact, (1.5, 2.0, 7)),
            Row(name, "folded", "per tensor", one, exact if name == "A" else None),
        )
    ]
    table.write(tmp_path, found)
    written = (tmp_path / table.NAME).read_text()
    assert "| A | unfolded | 90.0% | 7.0 (2.0) | 2 | 2 |" in written
    assert "| A | folded | per tensor | 88.0% | -2.0 | 20.0 dB | 1 | 90.0% | +0.0 | inf dB | 2 |" in written
    assert "| B | folded | per tensor | 91.0% | +1.0 | 30.0 dB | 3 | wrong | | | |" in written
    assert "| mean of all | folded | per tensor | 89.5% | -0.5 | 25.0 dB | 2 | 90.0% | +0.0 | inf dB | 2 |" in written
    assert table.ALL not in table.markdown(found[:2])
