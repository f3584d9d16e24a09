"""A failed export is one sentence with a way out, whatever PyTorch says over pages."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

torch = pytest.importorskip("torch")

import folding  # noqa: E402
from folding import ExportError  # noqa: E402
from folding.torch.failures import FAILURES, QUOTED, as_export_error  # noqa: E402
from tests.support.torch.modules import small  # noqa: E402

needs_onnxscript = pytest.mark.skipif(not find_spec("onnxscript"), reason="the dynamo exporter needs onnxscript")


class Sorted(torch.nn.Module):
    """An operator without an ONNX form in the exporters."""

    def forward(self, x):
        return torch.linalg.eigvalsh(x)


class Fixed(torch.nn.Module):
    """A constant that fixes the first axis."""

    def forward(self, x):
        return x * torch.ones(2, 4)


def test_an_operator_without_a_form_is_named_by_torchscript(tmp_path):
    with pytest.raises(ExportError, match=r"no ONNX form of the operator aten::linalg_eigvalsh; .*exporter='dynamo'"):
        folding.from_torch(Sorted().eval(), torch.ones(3, 3), tmp_path / "o.onnx", exporter="torchscript")


class Cut(torch.nn.Module):
    """A slice with a computed bound, behind which TorchScript knows no shape, and a normalization that needs one."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = torch.nn.BatchNorm1d(6, affine=False)

    def forward(self, x):
        return self.bn(torch.nn.functional.pad(x, [1, 0], mode="replicate")[:, :, : x.shape[2]])


@pytest.mark.parametrize("was_on", [False, True])
def test_a_shape_that_torchscript_does_not_know_has_a_sentence_and_nothing_is_printed(tmp_path, capfd, was_on):
    torch._C._jit_set_onnx_log_enabled(was_on)  # an earlier export leaves it on
    with pytest.raises(ExportError, match=r"does not know how many channels a batch_norm has.*exporter='dynamo'"):
        folding.from_torch(Cut().eval(), torch.randn(2, 6, 6), tmp_path / "o.onnx", exporter="torchscript")
    assert capfd.readouterr() == ("", "")
    assert torch._C._jit_is_onnx_log_enabled() == was_on
    torch._C._jit_set_onnx_log_enabled(False)


@needs_onnxscript
def test_an_operator_without_a_form_is_named_by_dynamo(tmp_path):
    with pytest.raises(ExportError, match=r"no ONNX form of the operator aten\.\w*eigh?\w*.*exporter='torchscript'"):
        folding.from_torch(Sorted().eval(), torch.ones(3, 3), tmp_path / "o.onnx")


@needs_onnxscript
def test_an_axis_that_the_module_fixes(tmp_path):
    shapes = {"x": {0: torch.export.Dim("batch", min=2, max=9)}}
    with pytest.raises(ExportError, match="fixes an axis that dynamic_shapes leaves open"):
        folding.from_torch(Fixed().eval(), torch.ones(2, 4), tmp_path / "o.onnx", dynamic_shapes=shapes)


@needs_onnxscript
def test_shapes_that_do_not_fit_the_inputs(tmp_path):
    with pytest.raises(ExportError, match="dynamic_shapes does not fit the inputs"):
        folding.from_torch(small(), torch.ones(2, 3, 12, 12), tmp_path / "o.onnx", dynamic_shapes={"z": {0: "batch"}})


def test_shapes_that_do_not_fit_the_inputs_of_torchscript(tmp_path):
    for shapes in ({"z": {0: "batch"}}, ({0: "a"}, {0: "b"})):
        with pytest.raises(folding.OptionError, match="dynamic_shapes"):
            folding.from_torch(
                small(), torch.ones(2, 3, 12, 12), tmp_path / "o.onnx", dynamic_shapes=shapes, exporter="torchscript"
            )


@pytest.mark.skipif(bool(find_spec("onnxscript")), reason="onnxscript is installed")
def test_the_package_that_is_missing_is_named(tmp_path):
    with pytest.raises(ExportError, match=r"needs the package onnxscript.*\.\[torch\].*exporter='torchscript'"):
        folding.from_torch(small(), torch.ones(2, 3, 12, 12), tmp_path / "o.onnx")


@pytest.mark.parametrize("number", range(len(FAILURES)))
def test_every_sentence_says_what_to_do(number: int):
    failure = FAILURES[number]
    assert failure.advice
    assert failure.what.format("aten.x")


def test_the_first_cause_counts_and_what_nobody_knows_is_quoted():
    inner, outer = ValueError("what happened\n  over\x1b[31m lines " + "long " * 200), RuntimeError("a wrapper")
    outer.__cause__ = inner
    sentence = str(as_export_error(outer, "dynamo"))
    assert sentence.startswith("the module cannot be exported: ValueError: what happened over lines long")
    assert sentence.endswith("...; try exporter='torchscript'")
    assert len(sentence) < QUOTED + 100


def test_a_missing_package_of_another_name():
    error = ModuleNotFoundError("No module named 'onnxscript'", name="onnxscript.ir")
    assert "needs the package onnxscript, which" in str(as_export_error(error, "dynamo"))
