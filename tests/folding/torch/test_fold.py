"""fold_module: a new module with folded weights and a clean state, right where PyTorch's own fusers are not."""

from __future__ import annotations

import copy
import logging
import os
import pickle
import shutil
import sys
import warnings

import pytest

torch = pytest.importorskip("torch")

import folding  # noqa: E402
from benchmarks.architectures.networks import M5  # noqa: E402
from benchmarks.pytorch.patterns import CASES, Case, chain  # noqa: E402
from folding import ExportError, NothingToFoldError, OptionError, Options, VerificationError  # noqa: E402
from folding.torch import fold as module_of_fold  # noqa: E402
from folding.torch import forms as module_of_forms  # noqa: E402
from folding.torch.carry import InexpressibleError  # noqa: E402
from tests.support.torch.judge import judged  # noqa: E402
from tests.support.torch.modules import SMALL_NORMALIZATIONS, small, trained  # noqa: E402

Normalization = torch.nn.modules.batchnorm._BatchNorm
EXACT = 1e-13  # of the largest output, in float64
# Random modules by seed: the first 30; others, as in a long run, with TORCH_SEEDS=400:800.
SEEDS = range(*map(int, os.environ.get("TORCH_SEEDS", "0:30").split(":")))
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")  # inside torch.export


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def image(*shape: int) -> torch.Tensor:
    return torch.randn(shape or (2, 3, 12, 12), generator=torch.Generator().manual_seed(0))


def apart(module, folded, x) -> float:
    with torch.no_grad():
        expected, found = module(x), folded(x)
    return float((expected - found).abs().max() / expected.abs().max())


def normalizations(module) -> int:
    return sum(isinstance(part, Normalization) for part in module.modules())


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_patterns_fold_exactly(case: Case):
    torch.manual_seed(0)
    module, x = case.make().double(), torch.randn(case.shape, dtype=torch.float64)
    folded = folding.fold_module(module, x)
    report = folded.meta["bnfold"]
    assert apart(module, folded, x) < EXACT
    assert (report.bn_before, report.bn_after) == (case.count, case.stays)
    assert report.verification.status == "verified"
    if case.count:
        assert normalizations(folded) == case.stays


@pytest.mark.parametrize("seed", SEEDS)
def test_random_modules_are_the_same_in_pytorch_and_in_onnx(seed: int):
    """PyTorch before, the folded module, and the folded file, in float64; the file in ONNX Runtime, too."""
    assert judged(seed).is_equal


def test_the_state_has_the_folded_weights_under_their_names_and_the_original_is_untouched():
    module = small()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    folded = folding.fold_module(module, image())
    layers = ["stem", *(f"layer1.{i}.conv{j}" for i in (0, 1) for j in (1, 2)), "head"]
    assert sorted(folded.state_dict()) == sorted(f"{name}.{one}" for name in layers for one in ("weight", "bias"))
    assert isinstance(folded.layer1.get_submodule("0.conv1"), torch.nn.Conv2d)
    assert normalizations(module) == len(SMALL_NORMALIZATIONS)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    with torch.no_grad():
        for value in folded.parameters():
            value.zero_()
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_weights_are_rounded_once():
    module = chain(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4))
    folded = folding.fold_module(module, image())
    conv, bn = (part.double() for part in copy.deepcopy(module))
    scale = bn.weight / torch.sqrt(bn.running_var + bn.eps)
    assert torch.equal(folded.get_submodule("0").weight, (conv.weight * scale[:, None, None, None]).float())
    shift = (conv.bias - bn.running_mean) * scale + bn.bias
    assert torch.equal(folded.get_submodule("0").bias, shift.float())


def test_other_shapes_run_where_the_module_allows_them_and_are_refused_where_not():
    module = small()
    folded = folding.fold_module(module, image())
    for shape in ((1, 3, 12, 12), (5, 3, 20, 14)):
        assert apart(module, folded, image(*shape)) < 1e-5
    with pytest.raises(AssertionError, match="Guard failed"):
        folded(image(2, 4, 12, 12))


def test_where_open_axes_lead_to_a_condition_that_pytorch_cannot_solve_the_shapes_are_fixed():
    module, x = trained(M5(width=4)), image(2, 1, 8000)
    folded = folding.fold_module(module, x)
    assert normalizations(folded) == 0
    assert apart(module, folded, x) < 1e-5


def test_what_pytorch_logs_and_prints_while_it_captures_is_not_shown(capfd, caplog, monkeypatch):
    real = torch.export.export

    def noisy(*given, **more):
        sys.stdout.write("a print")
        logging.getLogger("torch.fx").warning("a line of the log")
        return real(*given, **more)

    monkeypatch.setattr(torch.export, "export", noisy)
    caplog.set_level(logging.WARNING)
    folding.inspect_module(small(), image())
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


def test_an_axis_may_be_fixed():
    folded = folding.fold_module(small(), image(), dynamic_shapes={"x": None})
    with pytest.raises(AssertionError, match="Guard failed"):
        folded(image(3, 3, 12, 12))


def test_a_name_opens_an_axis():
    module = small()
    folded = folding.fold_module(module, image(), dynamic_shapes={"x": {0: "batch"}})
    assert apart(module, folded, image(5, 3, 12, 12)) < 1e-5
    with pytest.raises(AssertionError, match="Guard failed"):
        folded(image(2, 3, 13, 12))


@pytest.mark.parametrize("options", [Options(clamp="always"), Options(leftover="affine"), Options(leftover="conv")])
def test_options_that_make_new_operators(options: Options):
    module = chain(torch.nn.BatchNorm2d(3), torch.nn.ReLU(), torch.nn.Conv2d(3, 4, 3), torch.nn.Sigmoid()).double()
    x = image().double()
    folded = folding.fold_module(module, x, options)
    assert normalizations(folded) == 0
    assert apart(module, folded, x) < EXACT


def turned(rank: int) -> torch.nn.Module:
    """A normalization whose negative scale exchanges the two sides of a PReLU."""
    axes = "Conv1d", "Conv2d"
    conv = getattr(torch.nn, axes[rank - 1])
    module = chain(conv(3, 3, 1), torch.nn.PReLU(3), getattr(torch.nn, f"BatchNorm{rank}d")(3))
    with torch.no_grad():
        module.get_submodule("1").weight.copy_(torch.tensor([0.25, 0.5, 2.0]))
        module.get_submodule("2").weight.copy_(torch.tensor([1.0, -0.5, -1.5]))
        module.get_submodule("2").bias.copy_(0.5 * module[2].weight / (module[2].running_var + 1e-5).sqrt())
        module.get_submodule("2").running_mean.fill_(0.5)
    return module.double()


@pytest.mark.parametrize("rank", [1, 2])
def test_slopes_that_folding_changes_are_a_layer_again(rank: int):
    module, x = turned(rank), torch.randn(2, 3, *(5,) * rank, dtype=torch.float64)
    folded = folding.fold_module(module, x)
    assert normalizations(folded) == 0
    assert apart(module, folded, x) < EXACT
    assert torch.allclose(folded.get_submodule("1").weight, torch.tensor([0.25, 2.0, 0.5]).double())


def test_slopes_of_another_axis():
    """The scale varies along the last axis, as the slope does then."""

    class Late(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.act, self.bn = torch.nn.Linear(3, 4), torch.nn.PReLU(), torch.nn.BatchNorm1d(4)

        def forward(self, x):
            return self.bn(self.act(self.fc(x)).transpose(1, 2))

    module, x = trained(Late()).double(), torch.randn(2, 5, 3, dtype=torch.float64)
    with torch.no_grad():
        module.bn.weight.copy_(torch.tensor([1.0, -0.5, -1.5, 2.0]))
        module.bn.bias.copy_(module.bn.running_mean * module.bn.weight / (module.bn.running_var + 1e-5).sqrt())
    folded = folding.fold_module(module, x)
    assert normalizations(folded) == 0
    assert apart(module, folded, x) < EXACT


def test_what_has_no_form_in_pytorch_is_left_as_it_is(monkeypatch):
    monkeypatch.delitem(module_of_forms.FORMS, "PRelu")
    module, x = turned(2), image().double()
    folded = folding.fold_module(module, x)
    (kept,) = (one for one in folded.meta["bnfold"].outcomes if one.status == "kept")
    assert (kept.module, kept.backward.code) == ("2", "kept-by-option")
    assert apart(module, folded, x) < EXACT
    monkeypatch.delitem(module_of_forms.FORMS, "Add")  # half a move leaves one
    module = chain(torch.nn.BatchNorm2d(3), torch.nn.Conv2d(3, 3, 3, padding=1)).double()
    assert normalizations(folding.fold_module(module, x)) == 1


def test_what_has_no_form_even_so_is_an_error(monkeypatch):
    def never(_, skeleton, folded):
        raise InexpressibleError(folded.graph.node[0])

    monkeypatch.setattr(module_of_fold.Carry, "__init__", never)
    with pytest.raises(ExportError, match=r"what folding makes of stem/Conv \(Conv\) has no form in PyTorch"):
        folding.fold_module(small(), image())


def test_options_name_modules():
    folded = folding.fold_module(small(), image(), Options(keep=("layer1.*",)))
    assert normalizations(folded) == 4
    assert isinstance(folded.layer1.get_submodule("0.bn1"), torch.nn.BatchNorm2d)
    assert sorted(o.module for o in folded.meta["bnfold"].outcomes if o.status == "kept") == [
        f"layer1.{i}.bn{j}" for i in (0, 1) for j in (1, 2)
    ]


def test_a_normalization_that_stays_is_the_one_that_was_there():
    module = chain(torch.nn.Conv2d(3, 2, 1), torch.nn.Flatten(), torch.nn.BatchNorm1d(288, eps=3e-4, momentum=0.2))
    module.get_submodule("2").num_batches_tracked.fill_(7)
    kept = folding.fold_module(module, image()).get_submodule("2")
    assert (kept.eps, kept.momentum, int(kept.num_batches_tracked)) == (3e-4, 0.2, 7)
    assert all(torch.equal(value, module[2].state_dict()[name]) for name, value in kept.state_dict().items())


class Several(torch.nn.Module):
    """Named and nested arguments, numbers, several outputs, a constant and a buffer of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.bn = torch.nn.Linear(4, 4, bias=False), torch.nn.BatchNorm1d(4)
        self.register_buffer("offset", torch.arange(4.0), persistent=False)

    def forward(self, pair, scale=1.0, *, mask):
        y = self.bn(self.fc(pair[0] + pair[1])) * scale + self.offset
        y += 1
        return {"y": torch.where(mask, y, 0.0), "again": (y, ~mask), "constant": torch.ones(2)}


def test_arguments_and_results_are_those_of_the_module():
    module = trained(Several()).double()
    pair, mask = (torch.rand(3, 4).double(), torch.rand(3, 4).double()), torch.rand(3, 4) < 0.5
    folded = folding.fold_module(module, {"pair": pair, "scale": 2.0, "mask": mask})
    expected, found = (one(pair, 2.0, mask=mask) for one in (module, folded))
    assert expected.keys() == found.keys()
    assert torch.allclose(expected["y"], found["y"], rtol=1e-12)
    assert torch.allclose(expected["again"][0], found["again"][0], rtol=1e-12)
    assert torch.equal(found["constant"], torch.ones(2))
    assert sorted(folded.state_dict()) == ["fc.bias", "fc.weight"]


class Tied(torch.nn.Module):
    """A weight that two layers and a function read, only one of which has a normalization; a buffer that stays."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.other, self.bn = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4)
        self.other.weight = self.fc.weight
        self.register_buffer("offset", torch.randn(2, 4), persistent=False)

    def forward(self, x):
        y = torch.tanh(self.bn(self.fc(x))) + self.offset
        return y + torch.tanh(self.other(y)) + torch.fft.fft(self.fc.weight).real[:2]


def test_a_weight_that_others_read_is_copied():
    module, x = trained(Tied()).double(), torch.randn(2, 4, dtype=torch.float64)
    folded = folding.fold_module(module, x)
    assert apart(module, folded, x) < EXACT
    assert normalizations(folded) == 0
    assert not any("offset" in name for name in folded.state_dict())
    assert not torch.equal(folded.fc.weight, folded.other.weight)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_types(dtype):
    module = trained(torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.BatchNorm1d(6))).to(dtype)
    folded = folding.fold_module(module, torch.randn(3, 4).to(dtype))
    assert {value.dtype for value in folded.parameters()} == {dtype}
    assert normalizations(folded) == 0


def test_weights_that_stay_frozen_and_gradients():
    module = small()
    module.stem.requires_grad_(requires_grad=False)
    folded = folding.fold_module(module, image())
    assert not folded.stem.weight.requires_grad
    folded(image()).sum().backward()
    assert folded.head.weight.grad is not None


def test_it_can_be_copied_compiled_exported_and_folded_again():
    module, x = small(), image()
    folded = folding.fold_module(module, x)
    assert apart(module, copy.deepcopy(folded), x) < 1e-5
    assert apart(module, torch.compile(folded, backend="aot_eager"), x) < 1e-5
    assert apart(module, torch.export.export(folded, (x,)).module(), x) < 1e-5
    again = folding.fold_module(folded, x)
    assert not again.meta["bnfold"].changed
    assert apart(module, again, x) < 1e-5
    with pytest.raises(pickle.PicklingError, match=r"state_dict\(\)"):
        pickle.dumps(folded)


@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")
def test_it_can_be_compiled_by_inductor():
    module, x = trained(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4))), image()
    with warnings.catch_warnings(), torch._inductor.config.patch(compile_threads=1):
        warnings.simplefilter("ignore")
        assert apart(module, torch.compile(folding.fold_module(module, x)), x) < 1e-5


def test_it_can_be_quantized_by_pytorch():
    from torch.ao.quantization import get_default_qconfig_mapping, quantize_dynamic, quantize_fx  # noqa: PLC0415

    module, x = small(), image()
    folded = folding.fold_module(module, x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        prepared = quantize_fx.prepare_fx(copy.deepcopy(folded), get_default_qconfig_mapping("fbgemm"), (x,))
        prepared(x)
        quantized = quantize_fx.convert_fx(prepared)
        assert isinstance(quantized.layer1.get_submodule("0.conv1"), torch.ao.nn.quantized.Conv2d)
        assert apart(module, quantized, x) < 0.1
        assert apart(module, quantize_dynamic(folded, {torch.nn.Linear}), x) < 0.1


def test_inspect_says_what_it_would_do():
    report = folding.inspect_module(small(), image())
    assert report.target is None
    assert sorted(o.module for o in report.outcomes if o.status == "folded") == sorted(SMALL_NORMALIZATIONS)
    assert "7 of 7 BatchNormalizations can be folded" in report.to_text()


def test_what_does_not_fold_has_a_reason():
    module = chain(torch.nn.Conv2d(3, 3, 1), torch.nn.BatchNorm2d(3, track_running_stats=False))
    report = folding.inspect_module(module, image())
    assert any("statistics of the batch" in note and note.endswith("stay: 1") for note in report.notes)


class Counting(torch.nn.Module):
    """A module that changes when it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return x * self.calls


class Branching(torch.nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


def test_what_cannot_be_captured_is_refused():
    with pytest.raises(ExportError, match=r"changes its buffers when it runs \(calls\)"):
        folding.fold_module(Counting().eval(), image())
    with pytest.raises(ExportError, match=r"depends on the values of its inputs.*torch\.where") as caught:
        folding.fold_module(Branching().eval(), image())
    assert "exporter" not in str(caught.value)
    with pytest.raises(OptionError, match="training mode: bn"):
        folding.fold_module(small().train(), image())


class Conditional(torch.nn.Module):
    """A graph inside the graph."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4)

    def forward(self, x):
        y = self.bn(self.conv(x))
        return torch.cond(x.sum() > 0, lambda y: y * 2, lambda y: y - 1, (y,))


def test_graphs_inside_are_carried_over():
    module = trained(Conditional()).double()
    folded = folding.fold_module(module, image().double())
    assert normalizations(folded) == 0
    for x in (image().double().abs(), -image().double().abs()):
        assert apart(module, folded, x) < EXACT
    assert any("inside torch.cond" in note for note in folded.meta["bnfold"].notes)


@pytest.mark.parametrize("given", [{"precision": "fp16"}, {"target": "tensorrt-11"}, {"batch": 2}, {"opset": 13}])
def test_options_of_files_are_refused(given: dict):
    for function in (folding.fold_module, folding.inspect_module):
        with pytest.raises(OptionError, match=f"{next(iter(given))}: for an ONNX file; .* from_torch writes a file"):
            function(small(), image(), Options(**given))


def test_nothing_to_fold():
    with pytest.raises(NothingToFoldError, match="ReLU: nothing to fold"):
        folding.fold_module(torch.nn.ReLU().eval(), image(), Options(require_change=True))


def test_a_result_that_differs_is_never_returned(monkeypatch):
    real = module_of_fold.Carry.module

    def wrong(self):
        folded = real(self)
        with torch.no_grad():
            folded.head.weight[0] *= 1.001
        return folded

    monkeypatch.setattr(module_of_fold.Carry, "module", wrong)
    with pytest.raises(VerificationError, match="Small: the folded module differs"):
        folding.fold_module(small(), image())
    folding.fold_module(small(), image(), Options(verify=False))
