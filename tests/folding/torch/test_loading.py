"""Factories, weights, inputs and open axes, as a command line names them."""

from __future__ import annotations

import json
from importlib.util import find_spec

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from folding import OptionError  # noqa: E402
from folding.torch import loading  # noqa: E402
from tests.support.torch.modules import Small, small  # noqa: E402

HERE = "tests.support.torch.modules"


def test_a_function_a_class_and_a_module_are_factories():
    assert isinstance(loading.built(f"{HERE}:small")[0], Small)
    assert isinstance(loading.built(f"{HERE}:Small")[0], Small)
    module, inputs = loading.built(f"{HERE}:small_with_inputs")
    assert isinstance(module, Small)
    assert inputs.shape == (2, 3, 12, 12)


@pytest.mark.parametrize(
    ("factory", "reason"),
    [
        ("no_such_package:make", "cannot be imported: No module named 'no_such_package'"),
        (f"{HERE}:absent", "cannot be imported"),
        (f"{HERE}:NOT_A_MODULE", "gives a int; it should give a torch.nn.Module"),
        (f"{HERE}:trained", "the call fails: TypeError"),
        (HERE, "names no factory; give package.module:name"),
    ],
)
def test_what_is_no_factory_is_refused(factory, reason):
    with pytest.raises(OptionError) as caught:
        loading.built(factory)
    assert reason in str(caught.value)


@pytest.mark.parametrize("nested", [False, True])
def test_a_file_of_weights(tmp_path, nested):
    state, other = small().state_dict(), Small()
    torch.save({"state_dict": state, "epoch": 3} if nested else state, tmp_path / "w.pt")
    loading.load_weights(other, str(tmp_path / "w.pt"))
    assert all(torch.equal(value, state[name]) for name, value in other.state_dict().items())


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    torch.save(small(), tmp_path / "w.pt")
    with pytest.raises(OptionError, match=r"holds more than weights \(Python objects, which could run code\)"):
        loading.load_weights(Small(), str(tmp_path / "w.pt"))


def test_weights_of_another_module_are_refused(tmp_path):
    state = small().state_dict()
    lacking = {name: value for name, value in state.items() if name != "stem.bias"}
    wider = state | {"head.weight": torch.ones(6, 8)}
    for broken, reason in (
        (lacking, "lacks stem.bias"),
        (state | {"extra": torch.ones(1)}, "has, and the module lacks, extra"),
        (wider, "does not fit the module.*head.weight"),
        ([1], "holds a list; save"),
    ):
        torch.save(broken, tmp_path / "w.pt")
        with pytest.raises(OptionError, match=reason):
            loading.load_weights(Small(), str(tmp_path / "w.pt"))


def test_files_that_are_no_weights_are_refused(tmp_path):
    (tmp_path / "w.pt").write_bytes(b"text")
    for path in ("w.pt", "absent.pt"):
        with pytest.raises(OptionError, match="weights: "):
            loading.load_weights(Small(), str(tmp_path / path))


def written(state, path) -> str:
    """A file of safetensors, written by hand: the library may not be there."""
    header, blocks, at = {}, [], 0
    for name, value in state.items():
        data = value.numpy().tobytes()
        kind = {torch.float32: "F32", torch.int64: "I64"}[value.dtype]
        header[name] = {"dtype": kind, "shape": list(value.shape), "data_offsets": [at, at + len(data)]}
        blocks.append(data)
        at += len(data)
    head = json.dumps(header).encode()
    path.write_bytes(len(head).to_bytes(8, "little") + head + b"".join(blocks))
    return str(path)


def test_safetensors(tmp_path):
    state, other = small().state_dict(), Small()
    path = written(state, tmp_path / "w.safetensors")
    if find_spec("safetensors") is None:
        with pytest.raises(OptionError, match="needs the package safetensors; pip install safetensors"):
            loading.load_weights(other, path)
        return
    loading.load_weights(other, path)
    assert all(torch.equal(value, state[name]) for name, value in other.state_dict().items())
    (tmp_path / "w.safetensors").write_bytes(b"text")
    with pytest.raises(OptionError, match="cannot be read"):
        loading.load_weights(other, path)


def test_inputs_from_a_file_from_shapes_and_from_the_factory(tmp_path):
    np.savez(tmp_path / "x.npz", x=np.ones((2, 3), np.float32))
    assert loading.inputs_of(tmp_path / "x.npz", [], None)["x"].shape == (2, 3)
    assert [x.shape for x in loading.inputs_of(None, ["2x3", "4,5"], None)] == [(2, 3), (4, 5)]
    assert loading.inputs_of(None, [], "own") == "own"
    with pytest.raises(OptionError, match=r"--inputs FILE\.npz or --example"):
        loading.inputs_of(None, [], None)
    with pytest.raises(OptionError, match="give sizes"):
        loading.inputs_of(None, ["2xa"], None)
    (tmp_path / "x.npz").write_bytes(b"text")
    with pytest.raises(OptionError, match=r"cannot be read as an \.npz file"):
        loading.inputs_of(tmp_path / "x.npz", [], None)


def test_open_axes():
    assert loading.dynamic([]) is None
    assert loading.dynamic(["x:0=batch", "x:2", "y:0=batch"]) == {"x": {0: "batch", 2: "x_2"}, "y": {0: "batch"}}
    for text in ("x", "x:a", ":0"):
        with pytest.raises(OptionError, match="give INPUT:AXIS"):
            loading.dynamic([text])
