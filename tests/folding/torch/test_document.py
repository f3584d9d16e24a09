"""docs/pytorch.md does what it says: every snippet runs, and prints what stands below it."""

from __future__ import annotations

import re
import shlex
import sys
import warnings

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from folding.command.main import main  # noqa: E402
from folding.torch.failures import FAILURES  # noqa: E402
from tests.support import ROOT  # noqa: E402

DOCUMENT = (ROOT / "docs" / "pytorch.md").read_text()
NETWORKS, *SNIPPETS = re.findall(r"```python\n(.*?)```\n((?:\n?    [^\n]*\n)*)", DOCUMENT, re.DOTALL)
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", DOCUMENT, re.DOTALL) for line in block.splitlines()]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with the network of the document, which is current."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    (tmp_path / "networks.py").write_text(NETWORKS[0])
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("networks", None)


def printed(text: str) -> list[str]:
    """Lines without the blanks around them."""
    return [line.strip() for line in text.strip().splitlines()]


def test_every_snippet_prints_what_the_document_says(here, capsys):
    names: dict[str, object] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's, of what it will remove
        for code, output in SNIPPETS:
            exec(code, names)  # noqa: S102  it is our own document
            assert printed(capsys.readouterr().out) == printed(output), code
    assert len(SNIPPETS) == 9
    assert type(names["quantized"].get_submodule("1.conv1")).__module__.startswith("torch.ao.nn.intrinsic.quantized")
    types = {one.data_type for one in onnx.load("ready.onnx").graph.initializer}
    assert {onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT} <= types
    assert onnx.load("ready.onnx").graph.input[0].type.tensor_type.shape.dim[0].dim_param


def test_every_command_runs(here):
    from networks import make_model  # noqa: PLC0415  of the document
    from safetensors.torch import save_file  # noqa: PLC0415  optional

    state = make_model().state_dict()
    torch.save(state, "model.pt")
    save_file(state, "model.safetensors")
    np.savez("x.npz", input=np.ones((2, 3, 32, 32), np.float32))
    assert len(COMMANDS) == 3
    for command in COMMANDS:
        name, *arguments = shlex.split(command)
        assert name == "bnfold"
        assert main([*arguments, "--quiet"]) == 0, command
        assert not any(node.op_type == "BatchNormalization" for node in onnx.load("model.onnx").graph.node)


@pytest.mark.parametrize("number", range(len(FAILURES)))
def test_every_known_failure_is_in_the_document(number):
    beginning = re.split(r" \(|\{0\}", FAILURES[number].what)[0].strip()
    assert beginning in DOCUMENT
