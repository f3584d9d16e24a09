"""The lines that load a ready file: flags of trtexec, ranges of what stays open, code that compiles."""

from __future__ import annotations

import shlex

import numpy as np
import pytest

from folding.conversion.recipe import recipe

INPUTS = [("x", "float", ("N", 3, 224, 224)), ("ids:0", "int64", ("N", "length")), ("k", "float16", (4,))]


def trtexec(target: str, inputs: list) -> list[str]:
    return shlex.split(next(line for line in recipe(target, "ready.onnx", inputs) if line.startswith("trtexec")))


def test_open_axes_get_a_range():
    assert trtexec("tensorrt-11", INPUTS) == [
        "trtexec",
        "--onnx=ready.onnx",
        "--saveEngine=ready.plan",
        "--minShapes=x:1x3x224x224,'ids:0':1x1",
        "--optShapes=x:8x3x224x224,'ids:0':8x128",
        "--maxShapes=x:32x3x224x224,'ids:0':32x512",
    ]
    assert recipe("tensorrt-11", "ready.onnx", INPUTS)[0] == "# N: 1, 8, 32 (min, opt, max); change them to yours"


@pytest.mark.parametrize(
    ("dims", "lengths"),
    [
        (("N", 3, "dynamic.0", None), "8x3x640x640"),  # an image, whatever its axes are called
        (("N", 3, "width", 9), "8x3x640x9"),
        (("N", "frames", 80), "8x128x80"),
        (("N", "channel", 3, None), "8x3x3x640"),
    ],
)
def test_what_names_do_not_say_the_rank_does(dims, lengths):
    assert f"--optShapes=x:{lengths}" in trtexec("tensorrt-11", [("x", "float", dims)])


def test_fixed_shapes_need_none():
    assert trtexec("tensorrt-11", INPUTS[2:]) == ["trtexec", "--onnx=ready.onnx", "--saveEngine=ready.plan"]


def test_strong_types_are_asked_for_where_they_are_an_option():
    assert "--stronglyTyped" in trtexec("tensorrt-10", INPUTS)
    assert any("STRONGLY_TYPED" in line for line in recipe("tensorrt-10", "ready.onnx", INPUTS))
    assert not any("STRONGLY_TYPED" in line for line in recipe("tensorrt-11", "ready.onnx", INPUTS))


@pytest.mark.parametrize(
    "target", ["tensorrt-10", "tensorrt-11", "onnxruntime-cpu", "onnxruntime-cuda", "directml", "openvino"]
)
def test_the_python_compiles(target):
    lines = [line for line in recipe(target, "it's.onnx", INPUTS) if not line.startswith("trtexec")]
    compile("\n".join(lines), "recipe", "exec")


def test_the_code_for_onnx_runtime_runs(tmp_path, monkeypatch):
    from tests.folding.conversion.computing import model  # noqa: PLC0415  loads ONNX Runtime

    monkeypatch.chdir(tmp_path)
    (tmp_path / "ready.onnx").write_bytes(
        model(17, "float[N,3] x, int64[2] i", "y = Gather<axis=1>(x, i)").SerializeToString()
    )
    names: dict = {}
    exec("\n".join(recipe("onnxruntime-cpu", "ready.onnx", [("x", "float", ("N", 3)), ("i", "int64", (2,))])), names)  # noqa: S102
    assert names["results"][0].shape == (1, 2)


def test_an_input_of_strings_is_an_array_of_objects():
    feeds = recipe("onnxruntime-cpu", "ready.onnx", [("s", "string", ("N",))])[-1].split("None, ")[1].removesuffix(")")
    assert eval(feeds, {"np": np})["s"].dtype == object  # noqa: S307


def test_a_browser_gets_its_own_language():
    assert "executionProviders: ['webgpu']" in "".join(recipe("webgpu", "ready.onnx", INPUTS))
