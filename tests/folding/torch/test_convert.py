"""from_torch: what is exported folds, is judged by PyTorch in float64, and is reported by the names of modules."""

from __future__ import annotations

from collections import OrderedDict
from copy import deepcopy
from fnmatch import fnmatchcase
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")

import folding  # noqa: E402
from folding import ExportError, NothingToFoldError, OptionError, Options, VerificationError, api  # noqa: E402
from folding.torch import convert, reference  # noqa: E402
from tests.support.torch.modules import SMALL_NORMALIZATIONS, small, trained  # noqa: E402

if TYPE_CHECKING:
    from pathlib import Path

has_onnxscript = find_spec("onnxscript") is not None
needs_onnxscript = pytest.mark.skipif(not has_onnxscript, reason="the dynamo exporter needs onnxscript")
EXPORTERS = [pytest.param("dynamo", marks=needs_onnxscript), "torchscript"]


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def image() -> torch.Tensor:
    return torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_a_module_becomes_a_folded_file_that_pytorch_itself_judges(tmp_path: Path, exporter: str):
    module, target = small(), tmp_path / "out.onnx"
    before = {name: value.clone() for name, value in module.state_dict().items()}
    report = folding.from_torch(module, image(), target, exporter=exporter)
    assert (report.bn_before, report.bn_after) == (7, 0)
    assert sorted(o.module for o in report.outcomes) == sorted(SMALL_NORMALIZATIONS)
    assert report.verification.status == "verified"
    assert report.verification.samples == 3
    assert "PyTorch in float64" in report.verification.inputs
    assert any("against the exported file: Verified" in note for note in report.verification.notes)
    assert report.source == "tests.support.torch.modules.Small"
    assert report.target == str(target)
    assert [path.name for path in tmp_path.iterdir()] == ["out.onnx"]
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert "layer1.0.bn1" in report.to_text()
    assert "layer1.0.bn1" in report.to_markdown()
    assert "layer1.0.bn1" in report.to_html()


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_the_file_computes_what_the_module_computes(tmp_path: Path, exporter: str):
    import onnxruntime as ort  # noqa: PLC0415

    module, x = small(), image()
    folding.from_torch(module, (x,), tmp_path / "out.onnx", exporter=exporter)
    session = ort.InferenceSession(tmp_path / "out.onnx")
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    with torch.no_grad():
        exact = module.double()(x.double()).numpy()
    assert np.abs(found - exact).max() < 1e-5 * np.abs(exact).max()


def test_a_module_in_training_mode_is_refused_with_the_names_of_what_trains(tmp_path: Path):
    module = small()
    module.layer1[0].train()
    module.drop.train()
    with pytest.raises(OptionError, match=r"layer1\.0\.bn1 \(BatchNorm2d\), layer1\.0\.bn2.*, drop \(Dropout\); call"):
        folding.from_torch(module, image(), tmp_path / "out.onnx")
    assert not list(tmp_path.iterdir())


def test_a_module_that_trains_without_such_layers_is_refused_too(tmp_path: Path):
    with pytest.raises(OptionError, match=r"the module itself \(Linear\)"):
        folding.from_torch(torch.nn.Linear(2, 2), torch.ones(1, 2), tmp_path / "out.onnx")


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("pattern", ["layer1.*", "layer1.1.bn2"])
def test_options_name_modules(tmp_path: Path, exporter: str, pattern: str):
    report = folding.from_torch(small(), image(), tmp_path / "o.onnx", Options(keep=(pattern,)), exporter=exporter)
    kept = sorted(o.module for o in report.outcomes if o.status == "kept")
    named = [name for name in SMALL_NORMALIZATIONS if fnmatchcase(name, pattern)]
    assert kept == sorted(named)


def test_a_pattern_that_matches_nothing_is_refused(tmp_path: Path):
    with pytest.raises(OptionError, match="no operator is named 'layer9"):
        folding.from_torch(small(), image(), tmp_path / "o.onnx", Options(keep=("layer9",)), exporter="torchscript")


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_an_open_axis_stays_open(tmp_path: Path, exporter: str):
    shapes = {"x": {0: "batch"}}
    folding.from_torch(small(), image(), tmp_path / "o.onnx", dynamic_shapes=shapes, exporter=exporter)
    (given,) = onnx.load(tmp_path / "o.onnx").graph.input
    assert given.type.tensor_type.shape.dim[0].dim_param


class Masked(torch.nn.Module):
    """Named arguments, a nested one, one that nothing reads, and two outputs of which one is a mask."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.bn = torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4)

    def forward(self, pair, scale=1.0, *, mask=None, unused=None):  # noqa: ARG002
        y = self.bn(self.fc(pair[0] + pair[1])) * scale
        return {"y": torch.where(mask, y, 0.0), "inverse": ~mask}


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_arguments_may_be_named_nested_and_not_read(tmp_path: Path, exporter: str):
    mask = torch.arange(12).reshape(3, 4) % 2 == 0
    inputs = {"pair": (torch.ones(3, 4), torch.rand(3, 4)), "mask": mask, "unused": torch.ones(1)}
    report = folding.from_torch(trained(Masked()), inputs, tmp_path / "o.onnx", exporter=exporter)
    assert report.verification.status == "verified"
    assert len(report.verification.outputs) == 2


def test_inputs_that_forward_does_not_take_are_refused(tmp_path: Path):
    with pytest.raises(OptionError, match=r"do not fit Small\.forward"):
        folding.from_torch(small(), (image(), image()), tmp_path / "o.onnx")
    with pytest.raises(OptionError, match="of type int"):
        folding.from_torch(small(), 3, tmp_path / "o.onnx")


def test_given_samples_are_compared_too(tmp_path: Path):
    np.savez(tmp_path / "x.npz", x=np.ones((2, 3, 12, 12), np.float32))
    options = Options(inputs=tmp_path / "x.npz")
    report = folding.from_torch(small(), image(), tmp_path / "o.onnx", options, exporter="torchscript")
    assert "1 given sample" in report.verification.inputs


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.bfloat16])
def test_other_types_are_judged_too(tmp_path: Path, dtype):
    module = trained(torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.BatchNorm1d(6), torch.nn.Linear(6, 3)))
    report = folding.from_torch(module.to(dtype), torch.ones(2, 4, dtype=dtype), tmp_path / "o", exporter="torchscript")
    assert report.bn_after == 0
    assert report.verification.status == "verified"


@pytest.mark.parametrize("precision", ["fp16", "bf16", "mixed"])
def test_a_lowered_file_is_judged_by_its_digits(tmp_path: Path, precision: str):
    options = Options(precision=precision, keep_fp32=("head",))
    report = folding.from_torch(small(), image(), tmp_path / "o.onnx", options, exporter="torchscript")
    (found,) = report.verification.outputs
    assert report.verification.status == "verified"
    assert 1e-5 < found.max_absolute <= found.tolerance < 0.1
    weights = {t.name: t.data_type for t in onnx.load(tmp_path / "o.onnx").graph.initializer}
    assert weights["head.weight"] == onnx.TensorProto.FLOAT
    half = onnx.TensorProto.BFLOAT16 if precision == "bf16" else onnx.TensorProto.FLOAT16
    assert list(weights.values()).count(half) >= 5


def test_a_lowered_file_is_judged_without_its_rounded_original_too(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(reference, "_roughened", lambda *_: None)
    options = Options(precision="fp16")
    report = folding.from_torch(small(), image(), tmp_path / "o.onnx", options, exporter="torchscript")
    assert report.verification.status == "verified"


def test_a_lowered_file_that_differs_is_found_out(tmp_path: Path, monkeypatch):
    other, real = small(), convert.export
    with torch.no_grad():
        other.layer1[1].conv2.weight[3] *= 1.01
    monkeypatch.setattr(convert, "export", lambda _, *rest: real(other, *rest))
    with pytest.raises(VerificationError, match="differs before it is folded"):
        folding.from_torch(small(), image(), tmp_path / "o", Options(precision="fp16"), exporter="torchscript")


def test_a_lowered_file_that_rounding_does_not_explain_is_found_out(tmp_path: Path, monkeypatch):
    real = api.fold

    def spoiled(before, after, *rest, **more):
        report = real(before, after, *rest, **more)
        model = onnx.load(after)
        (weight,) = (one for one in model.graph.initializer if one.name == "layer1.1.conv2.weight")
        values = onnx.numpy_helper.to_array(weight).copy()
        values[3] *= 2
        weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
        onnx.save(model, after)
        return report

    monkeypatch.setattr(api, "fold", spoiled)
    with pytest.raises(VerificationError, match="the folded file does not compute"):
        folding.from_torch(small(), image(), tmp_path / "o", Options(precision="fp16"), exporter="torchscript")


def test_an_error_may_be_accepted(tmp_path: Path):
    with pytest.raises(VerificationError, match="an error of"):
        folding.from_torch(small(), image(), tmp_path / "o", Options(max_error=1e-12), exporter="torchscript")
    options = Options(max_error=0.5, precision="bf16")
    report = folding.from_torch(small(), image(), tmp_path / "o", options, exporter="torchscript")
    assert report.verification.outputs[0].tolerance > 0.1


class Fixed(torch.nn.Module):
    """Runs in float32 only."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4)

    def forward(self, x):
        if x.dtype != torch.float32:
            raise TypeError("float32 only")
        return self.bn(self.conv(x))


def test_a_module_that_has_no_twin_in_float64_is_compared_in_its_own_type(tmp_path: Path):
    report = folding.from_torch(trained(Fixed()), image(), tmp_path / "o.onnx", exporter="torchscript")
    assert report.verification.status == "verified"
    assert any("does not run in float64 (float32 only)" in note for note in report.verification.notes)


def test_a_file_that_differs_from_the_module_is_never_written(tmp_path: Path, monkeypatch):
    """What is exported is another module than what is judged: the same error as that of a wrong exporter."""
    other, real = small(), convert.export
    with torch.no_grad():
        other.layer1[1].conv2.weight[3] *= 1.01
    monkeypatch.setattr(convert, "export", lambda _, *rest: real(other, *rest))
    with pytest.raises(VerificationError, match="the exported file differs before it is folded") as caught:
        folding.from_torch(small(), image(), tmp_path / "o.onnx", exporter="torchscript")
    assert caught.value.report.verification.status == "failed"
    assert not list(tmp_path.iterdir())


class Halved(torch.nn.Module):
    """What TorchScript records wrongly: the way of the example inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4)

    def forward(self, x):
        y = self.bn(self.conv(x))
        return y if x.sum() > 0 else y * 2


def test_what_a_trace_leaves_out_is_found_out(tmp_path: Path):
    with pytest.raises(VerificationError) as caught:
        folding.from_torch(trained(Halved()), torch.ones(1, 3, 4, 4), tmp_path / "o.onnx", exporter="torchscript")
    assert any("the exporter warns" in note for note in caught.value.report.notes)


@needs_onnxscript
def test_data_dependent_control_flow_has_a_sentence(tmp_path: Path):
    with pytest.raises(ExportError, match=r"depends on the values of its inputs.*torch\.where"):
        folding.from_torch(trained(Halved()), image(), tmp_path / "o.onnx")
    assert not list(tmp_path.iterdir())


def test_nothing_to_fold_names_the_module(tmp_path: Path):
    options = Options(require_change=True)
    with pytest.raises(NothingToFoldError, match=r"^torch\.nn\.modules\.activation\.ReLU: nothing to fold"):
        folding.from_torch(torch.nn.ReLU().eval(), image(), tmp_path / "o.onnx", options, exporter="torchscript")


def test_a_dry_run_writes_nothing(tmp_path: Path):
    report = folding.from_torch(small(), image(), None, exporter="torchscript")
    assert report.target is None
    assert report.verification.status == "not verified"
    assert {o.module for o in report.outcomes} == set(SMALL_NORMALIZATIONS)


def test_an_existing_target_is_replaced(tmp_path: Path):
    target = tmp_path / "out.onnx"
    target.write_bytes(b"old")
    folding.from_torch(small(), image(), target, exporter="torchscript")
    assert len(onnx.load(target).graph.node) < 20


def test_a_folder_that_is_not_there_is_found_out_before_the_export(tmp_path: Path):
    with pytest.raises(folding.FoldingError, match="does not exist; create it first"):
        folding.from_torch(small(), image(), tmp_path / "no" / "out.onnx")


class Shared(torch.nn.Module):
    """One normalization that is called twice, and a functional one."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.bn = torch.nn.Conv2d(3, 4, 1), torch.nn.Conv2d(4, 4, 1), torch.nn.BatchNorm2d(4)

    def forward(self, x):
        y = self.bn(self.b(torch.relu(self.bn(self.a(x)))))
        own = self.bn
        return torch.nn.functional.batch_norm(y, own.running_mean, own.running_var, own.weight, own.bias)


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_a_shared_normalization_is_named_at_both_places(tmp_path: Path, exporter: str):
    report = folding.from_torch(trained(Shared()), image(), tmp_path / "o.onnx", exporter=exporter)
    assert [o.module for o in report.outcomes] == ["bn", "bn", ""]
    assert report.bn_after == 0


class Hourglass(torch.nn.Module):
    """Containers whose children are called one by one: `down` has names of its own, `left` and `right` the same."""

    def __init__(self) -> None:
        super().__init__()
        parts = [("conv", torch.nn.Conv2d(3, 3, 1)), ("bn", torch.nn.BatchNorm2d(3))]
        block = torch.nn.Sequential(OrderedDict(deepcopy(parts)))
        self.down = torch.nn.Sequential(OrderedDict([("down1", block), ("down2", deepcopy(block))]))
        self.left = torch.nn.Sequential(OrderedDict(deepcopy(parts)))
        self.right = torch.nn.Sequential(OrderedDict(deepcopy(parts)))

    def forward(self, x):
        x = self.down.down2(torch.relu(self.down.down1(x)))
        for side in (self.left, self.right):
            x = torch.relu(side.bn(side.conv(x)))
        return x


@pytest.mark.parametrize(("exporter", "sides"), [("dynamo", ["left.bn", "right.bn"]), ("torchscript", ["", ""])])
def test_modules_in_containers_that_are_not_called_are_named_where_only_one_has_the_name(tmp_path, exporter, sides):
    report = folding.from_torch(trained(Hourglass()), image(), tmp_path / "o.onnx", exporter=exporter)
    assert [o.module for o in report.outcomes] == ["down.down1.bn", "down.down2.bn", *sides]


def test_no_exporter_of_that_name(tmp_path: Path):
    with pytest.raises(OptionError, match="choose one of dynamo, torchscript"):
        folding.from_torch(small(), image(), tmp_path / "o.onnx", exporter="jit")
