"""`bnfold from-torch`: the exit codes, errors and reports are those of `bnfold fold`."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")

from folding.command.main import main  # noqa: E402
from tests.support.torch.modules import small  # noqa: E402

HERE = "tests.support.torch.modules"
SMALL = [f"{HERE}:small", "--exporter", "torchscript"]


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def test_a_factory_becomes_a_folded_file(tmp_path, capsys):
    target = tmp_path / "o.onnx"
    assert main(["from-torch", *SMALL, "--example", "2x3x12x12", "-o", str(target), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["bn_before"], report["bn_after"]) == (7, 0)
    assert "layer1.0.bn1" in [one["module"] for one in report["outcomes"]]
    assert target.exists()


def test_inputs_are_the_example_and_axes_stay_open(tmp_path):
    np.savez(tmp_path / "x.npz", x=np.ones((2, 3, 12, 12), np.float32))
    given = ["--inputs", str(tmp_path / "x.npz"), "--dynamic", "x:0=batch", "-q", "--report", str(tmp_path / "r.md")]
    assert main(["from-torch", *SMALL, *given, "-o", str(tmp_path / "o.onnx")]) == 0
    assert onnx.load(tmp_path / "o.onnx").graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert "layer1.0.bn1" in (tmp_path / "r.md").read_text()


def test_weights_are_loaded(tmp_path):
    module = small()
    with torch.no_grad():
        module.head.bias.fill_(100)
    torch.save(module.state_dict(), tmp_path / "w.pt")
    given = ["--weights", str(tmp_path / "w.pt"), "--example", "1x3x12x12", "-q", "--eval"]
    target = str(tmp_path / "o.onnx")
    assert main(["from-torch", f"{HERE}:Small", "--exporter", "torchscript", *given, "-o", target]) == 0
    biases = [onnx.numpy_helper.to_array(t) for t in onnx.load(target).graph.initializer if t.dims == [5]]
    assert any(np.abs(values).max() > 20 for values in biases)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ([f"{HERE}:training", "--example", "1x3x12x12"], f"{HERE}:training: the module is in training mode: bn (Batch"),
        ([f"{HERE}:small"], "example inputs are needed"),
        ([f"{HERE}:absent"], "cannot be imported"),
        ([f"{HERE}:small", "--weights", "absent.pt"], "weights: there is no file"),
    ],
)
def test_errors_are_one_line(tmp_path, capsys, given, reason):
    assert main(["from-torch", *given, "-o", str(tmp_path / "o.onnx")]) == 2
    said = capsys.readouterr().err
    assert reason.partition(": ")[2] in said or reason in said
    assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_eval_switches_the_mode(tmp_path):
    given = [f"{HERE}:training", "--exporter", "torchscript", "--eval", "--example", "1x3x12x12", "-q"]
    assert main(["from-torch", *given, "-o", str(tmp_path / "o.onnx")]) == 0


def test_a_dry_run_and_no_target(tmp_path, capsys):
    assert main(["from-torch", *SMALL, "--example", "1x3x12x12", "--dry-run"]) == 0
    assert "7 of 7 BatchNormalizations can be folded" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["from-torch", *SMALL])


def test_a_checkpoint_given_to_fold_says_what_to_do(tmp_path, capsys):
    torch.save(small().state_dict(), tmp_path / "w.pt")
    assert main(["fold", str(tmp_path / "w.pt"), "-o", str(tmp_path / "o.onnx")]) == 2
    assert "bnfold from-torch package.module:factory" in capsys.readouterr().err
