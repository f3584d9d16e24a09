"""docs/quantizing.md does what it says: its examples run, and what they make is small and close to the original."""

from __future__ import annotations

import re

import numpy as np
import onnx
import pytest

from folding import Options, fold_module
from tests.folding.scaling.test_equalize import FOUR, SKEW, model_of, normal
from tests.support import ROOT
from tests.support.lowering import counted, ran

DOCUMENT = (ROOT / "docs" / "quantizing.md").read_text()
ONNXRUNTIME, PYTORCH = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
NORMALIZED = "c = Conv(x, w2) a = BatchNormalization(c, gamma, beta, mean, var) r = Relu(a) y = Conv(r, v)"
# torch.ao.quantization says that torchao comes after it, and torch.export warns of itself
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
CLOSE = 0.05  # of the spread of the results


def test_the_example_for_onnxruntime_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    constants = {"gamma": SKEW, "beta": normal(4), "mean": normal(4), "var": np.ones(4)}
    model = model_of((FOUR.replace("2,3", "N,3"), NORMALIZED), w2=normal(4, 3, 1, 1), **constants)
    onnx.save(model, "model.onnx")
    samples = np.random.default_rng(0).standard_normal((16, 3, 6, 6)).astype(np.float32)
    np.savez("samples.npz", x=samples)
    names: dict[str, object] = {}
    exec(ONNXRUNTIME, names)  # noqa: S102  it is our own document
    assert [one.code for one in names["report"].equalized] == ["", "graph-output"]
    found = onnx.load("quantized.onnx")
    assert counted(found)["BatchNormalization"] == 0
    assert counted(found)["QuantizeLinear"]
    (expected,), (after,) = ran(model, {"x": samples}), ran(found, {"x": samples})
    assert np.abs(after - expected).std() < CLOSE * expected.std()


def test_the_example_for_pytorch_runs():
    torch = pytest.importorskip("torch")
    from tests.support.torch.modules import small_with_inputs  # noqa: PLC0415  it needs PyTorch

    module, example = small_with_inputs()
    torch.manual_seed(0)
    names = {"module": module, "example": example, "samples": [torch.randn_like(example) for _ in range(8)]}
    exec(PYTORCH, names)  # noqa: S102
    assert not any("BatchNorm" in type(part).__name__ for part in names["quantized"].modules())
    assert any("quantized" in type(part).__module__ for part in names["quantized"].modules())
    with torch.no_grad():
        expected, found = module(example), names["quantized"](example)
    assert (found - expected).std() < CLOSE * expected.std()


def test_a_module_is_equalized_exactly():
    torch = pytest.importorskip("torch")
    from tests.support.torch.modules import small_with_inputs  # noqa: PLC0415

    module, example = small_with_inputs()
    with torch.no_grad():
        module.bn.weight.mul_(torch.tensor([1.0, 50, 1, 1, 0.02, 1, 1, 1]))
        plain, even = (fold_module(module, (example,), Options(equalize=of)) for of in (False, True))
        assert torch.equal(plain(example), even(example))
    assert any(not one.code for one in even.meta["bnfold"].equalized)


def test_every_option_that_the_document_names_is_one():
    flags = set(re.findall(r"--[a-z][a-z-]+", DOCUMENT))
    assert flags == {"--clamp", "--clean", "--equalize"}
