"""A folder for Triton: config.pbtxt says what ONNX Runtime sees in the file, and all of it appears or nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

import folding
from folding import FoldingError, OptionError, Options, TargetError, VerificationError
from folding.delivery import place as places
from tests.support.fleets import names, save
from tests.support.tritonconfig import kind_of, parsed

HEAD = '<ir_version: 8, opset_import: ["": 17]>'
CONV = """
  <float[4,3,3,3] w, float[4] g, float[4] b, float[4] m, float[4] v> {
    c = Conv<pads = [1, 1, 1, 1]>(x, w)
    y = BatchNormalization(c, g, b, m, v)
  }"""
NUMPY = {
    "tensor(float)": ("FP32", np.float32),
    "tensor(double)": ("FP64", np.float64),
    "tensor(float16)": ("FP16", np.float16),
    "tensor(int64)": ("INT64", np.int64),
    "tensor(int32)": ("INT32", np.int32),
    "tensor(uint8)": ("UINT8", np.uint8),
    "tensor(bool)": ("BOOL", np.bool_),
    "tensor(string)": ("STRING", np.object_),
}


def model(text: str) -> onnx.ModelProto:
    """A model from ONNX's text; its weights are drawn."""
    built, random = onnx.parser.parse_model(f"{HEAD} {text}"), np.random.default_rng(0)
    fixed = {t.name for t in built.graph.initializer}
    for value in [one for one in built.graph.value_info if one.name not in fixed]:
        drawn = random.uniform(0.5, 1.5, [d.dim_value for d in value.type.tensor_type.shape.dim]).astype(np.float32)
        built.graph.initializer.append(onnx.numpy_helper.from_array(drawn, value.name))
    del built.graph.value_info[:]
    return built


def served(tmp_path: Path, text: str, **options: Any) -> tuple[Any, Path]:
    onnx.save(model(text), tmp_path / "a.onnx")
    folding.fold(tmp_path / "a.onnx", tmp_path / "repository", Options(triton="m", **options))
    return parsed(tmp_path / "repository" / "m" / "config.pbtxt"), tmp_path / "repository" / "m" / "1" / "model.onnx"


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def lengths(tensor: Any, rank: int) -> list[int]:
    """The lengths that the backend compares with those of the model: one of 1 stands for a tensor without axes."""
    if list(tensor.dims) == [1] and not rank:
        return []
    return list(tensor.reshape.shape) if tensor.HasField("reshape") else list(tensor.dims)


def loads(config: Any, path: Path) -> ort.InferenceSession:
    """What Triton's backend checks of a model when it loads it (CompareDimsSupported), and that it runs."""
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    for declared, found in ((config.input, session.get_inputs()), (config.output, session.get_outputs())):
        assert [one.name for one in declared] == [one.name for one in found]
        for one, other in zip(declared, found, strict=True):
            assert kind_of(one.data_type) == NUMPY[other.type][0]
            full = [*([-1] if config.max_batch_size else []), *lengths(one, len(other.shape))]
            shape = [dim if isinstance(dim, int) else -1 for dim in other.shape]
            assert len(full) == len(shape)
            assert all(dim in (-1, length) for length, dim in zip(full, shape, strict=True))
            assert not config.max_batch_size or shape[0] == -1
            assert all(dim > 0 or dim == -1 for dim in one.dims)
            assert one.dims  # Triton refuses a tensor without axes,
            assert config.max_batch_size or not one.HasField("reshape")  # and, without a batch, an empty shape
    for batch in (1, 2) if config.max_batch_size else (None,):
        feeds = {}
        for one, other in zip(config.input, session.get_inputs(), strict=True):
            shape = [*([batch] if batch else []), *(4 if dim == -1 else dim for dim in lengths(one, len(other.shape)))]
            feeds[one.name] = np.zeros(shape, NUMPY[other.type][1])
        for one, result in zip(config.output, session.run(None, feeds), strict=True):
            full = [*([batch] if batch else []), *lengths(one, result.ndim)]
            assert len(full) == result.ndim
            assert all(dim in (-1, length) for dim, length in zip(full, result.shape, strict=True))
    return session


BATCHED = {
    "one input": f"m (float[n,3,6,6] x) => (float[n,4,6,6] y) {CONV}",
    "names differ at the end, as exporters write": f"m (float[n,3,6,6] x) => (float[conv_0,4,6,6] y) {CONV}",
    "no names": f"m (float[?,3,6,6] x) => (float[?,?,?,?] y) {CONV}",
    "other axes are open": f"m (float[n,3,h,w_] x) => (float[n,4,h,w_] y) {CONV}",
    "one number each": "m (float[n] x, float[n] x1) => (float[n] y) { y = Add(x, x1) }",
    "no rank at the end": f"m (float[n,3,6,6] x) => (float[] y) {CONV}",
}
WHOLE = {
    "a fixed batch": f"m (float[1,3,6,6] x) => (float[1,4,6,6] y) {CONV}",
    "an output without it": "m (float[n,3] x) => (float[1,3] y) { y = ReduceMean<axes=[0]>(x) }",
    "an output of another open length": "m (float[n,3] x) => (int64[2,k] y) { y = NonZero(x) }",
    "found things, whose number is open": """m (float[n,3] x) => (int64[k,2] y) {
        z = NonZero(x)
        y = Transpose<perm=[1,0]>(z)
    }""",
    "an input without it": "m (float[n,3] x, float[3] s) => (float[n,3] y) { y = Mul(x, s) }",
    "two lengths": "m (float[n,3] x, float[k,3] x1) => (float[n,3] y, float[k,3] z) { y = Relu(x) z = Relu(x1) }",
    "batch and time in one axis": """m (float[n,t,3] x) => (float[r,3] y) <int64[2] s = {-1, 3}> {
        y = Reshape(x, s)
    }""",
    "a scalar": """m (float[n,3] x, float s) => (float[n,3] y, float z) {
        y = Mul(x, s)
        z = ReduceMax<keepdims=0>(x)
    }""",
    "a declared length at the end": "m (float[n,3] x) => (float[2,3] y) { y = Relu(x) }",
    "the last axis is open": "m (float[1,3,t] x) => (float[1,3,t] y) { y = Softmax(x) }",
}


@pytest.mark.parametrize("text", BATCHED.values(), ids=BATCHED)
def test_a_batch_of_all_is_triton_s(tmp_path, text):
    config, path = served(tmp_path, text, verify=False)
    assert config.max_batch_size == 32
    assert config.HasField("dynamic_batching")
    loads(config, path)


@pytest.mark.parametrize("text", WHOLE.values(), ids=WHOLE)
def test_else_all_lengths_are_the_request_s(tmp_path, text):
    config, path = served(tmp_path, text, verify=False)
    assert config.max_batch_size == 0
    assert not config.HasField("dynamic_batching")
    if "float[2,3] y" not in text:  # its own declaration is wrong, so it does not run with another length
        loads(config, path)
    assert [list(one.dims) for one in config.output][-1] != []


def test_a_tensor_without_axes_has_one_of_length_1(tmp_path):
    config, path = served(tmp_path, WHOLE["a scalar"])
    assert list(config.input[1].dims) == list(config.output[1].dims) == [1]
    assert not any(one.HasField("reshape") for one in (*config.input, *config.output))
    loads(config, path)
    config, path = served(tmp_path, BATCHED["one number each"])
    assert [list(one.dims) for one in config.input] == [[1], [1]]
    assert all(one.HasField("reshape") and list(one.reshape.shape) == [] for one in (*config.input, *config.output))
    loads(config, path)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("float16", "FP16"),
        ("double", "FP64"),
        ("int64", "INT64"),
        ("int32", "INT32"),
        ("uint8", "UINT8"),
        ("bool", "BOOL"),
    ],
)
def test_types_are_those_of_the_file(tmp_path, kind, name):
    config, path = served(tmp_path, f"m ({kind}[n,3] x) => ({kind}[n,3] y) {{ y = Identity(x) }}")
    assert kind_of(config.input[0].data_type) == kind_of(config.output[0].data_type) == name
    loads(config, path)


def test_strings_and_names_of_any_kind(tmp_path):
    text = "m (string[n,3] x) => (string[n,3] y) { y = Identity(x) }"
    built = model(text)
    for value in (built.graph.input[0], built.graph.output[0]):
        value.name = f'{value.name}/ä"\\:0'
    built.graph.node[0].input[0], built.graph.node[0].output[0] = built.graph.input[0].name, built.graph.output[0].name
    onnx.save(built, tmp_path / "a.onnx")
    folding.fold(tmp_path / "a.onnx", tmp_path / "r", Options(triton="m"))
    config = parsed(tmp_path / "r" / "m" / "config.pbtxt")
    assert config.input[0].name == 'x/ä"\\:0'
    assert kind_of(config.input[0].data_type) == "STRING"


REFUSED = {
    "is of type bfloat16": "m (bfloat16[n,3] x) => (bfloat16[n,3] y) { y = Identity(x) }",
    "is of type sequence": "m (float[n,3] x) => (seq(float[n,3]) y) { y = SequenceConstruct(x) }",
    "is of type complex64": "m (complex64[n,3] x) => (complex64[n,3] y) { y = Identity(x) }",
    "has an unknown number of axes; give its shape": "m (float[] x) => (float[n,3] y) { y = Relu(x) }",
    "has an unknown number of axes; export": "m (float[n,3] x, int64[k] s) => (float[] y) { y = Reshape(x, s) }",
    "an axis of length 0": "m (float[0,3] x) => (float[0,3] y) { y = Relu(x) }",
}


@pytest.mark.parametrize(("why", "text"), REFUSED.items(), ids=REFUSED)
def test_what_triton_cannot_serve_is_refused_and_nothing_is_left(tmp_path, why, text):
    with pytest.raises(OptionError, match=why):
        served(tmp_path, text, verify=False)
    assert entries(tmp_path) == ["a.onnx"]


# Targets


def accelerators(config: Any) -> list[tuple[str, dict[str, str]]]:
    listed = config.optimization.execution_accelerators
    given = [*listed.gpu_execution_accelerator, *listed.cpu_execution_accelerator]
    return [(one.name, {entry.key: entry.value for entry in one.parameters}) for one in given]


PROFILE = {f"trt_profile_{which}_shapes": f"x:{n}x3x6x6" for which, n in (("min", 1), ("opt", 8), ("max", 32))}


@pytest.mark.parametrize(
    ("options", "kinds", "expected"),
    [
        ({}, [], []),
        ({"target": "onnxruntime-cpu"}, [2], []),
        ({"target": "onnxruntime-cuda"}, [1], []),
        ({"target": "openvino"}, [2], [("openvino", {})]),
        ({"target": "tensorrt-10"}, [1], [("tensorrt", PROFILE)]),
        ({"target": "tensorrt-10", "precision": "fp16"}, [1], [("tensorrt", {"precision_mode": "FP16"} | PROFILE)]),
        ({"target": "tensorrt-11", "precision": "fp16"}, [1], [("tensorrt", PROFILE)]),
        ({"target": "tensorrt-11", "shape": ["x=2x3x6x6"]}, [1], [("tensorrt", {})]),
    ],
)
def test_the_target_says_where_it_runs(tmp_path, options, kinds, expected):
    config, path = served(tmp_path, BATCHED["one input"], verify=False, **options)
    assert [one.kind for one in config.instance_group] == kinds
    assert accelerators(config) == expected
    assert (config.backend, config.platform) == ("onnxruntime", "onnxruntime_onnx")
    loads(config, path)


@pytest.mark.parametrize("target", ["directml", "webgpu"])
def test_a_target_that_is_no_runtime_of_triton_is_refused(tmp_path, target):
    with pytest.raises(OptionError, match="choose one of tensorrt-11"):
        served(tmp_path, BATCHED["one input"], target=target)
    assert entries(tmp_path) == ["a.onnx"]


def test_the_warm_up_has_the_real_shapes(tmp_path):
    config, _ = served(tmp_path, BATCHED["one input"])
    ((warm,),) = [config.model_warmup]
    assert warm.batch_size == 1
    ((given,),) = [warm.inputs]
    assert (given.key, kind_of(given.value.data_type), list(given.value.dims)) == ("x", "FP32", [3, 6, 6])
    assert given.value.zero_data
    config, _ = served(tmp_path, BATCHED["other axes are open"])
    assert not config.model_warmup
    config, _ = served(tmp_path, BATCHED["other axes are open"], shape=["x=2x3x6x7"])
    assert [list(one.inputs[0].value.dims) for one in config.model_warmup] == [[2, 3, 6, 7]]
    config, _ = served(tmp_path, WHOLE["a scalar"], batch=2)
    assert [list(one.value.dims) for one in config.model_warmup[0].inputs] == [[2, 3], [1]]


# The folder


def test_the_folder_holds_data_beside_the_model_and_the_report_names_it(tmp_path):
    save(tmp_path / "c.onnx", 3, external="c.weights")
    options = Options(triton="{model}-v", digest=True)
    report = folding.fold(tmp_path / "c.onnx", tmp_path / "r", options)
    expected = ["1/model.onnx", "1/model.onnx.data", "SHA256SUMS", "config.pbtxt"]
    assert names(tmp_path / "r" / "c-v") == expected
    assert report.target == str(tmp_path / "r" / "c-v" / "1" / "model.onnx")
    assert report.recipe == (f"tritonserver --model-repository={tmp_path / 'r'}",)
    assert [one.name for one in report.digests] == ["1/model.onnx", "1/model.onnx.data", "config.pbtxt"]
    loads(parsed(tmp_path / "r" / "c-v" / "config.pbtxt"), tmp_path / "r" / "c-v" / "1" / "model.onnx")
    again = folding.fold(tmp_path / "c.onnx", tmp_path / "r", options)
    assert again.digests == report.digests


def test_a_model_in_the_repository_is_folded_in_place(tmp_path):
    (tmp_path / "r" / "m" / "1").mkdir(parents=True)
    save(tmp_path / "r" / "m" / "1" / "model.onnx", external="w.bin")
    report = folding.fold(tmp_path / "r" / "m" / "1" / "model.onnx", tmp_path / "r", Options(triton="m"))
    assert report.bn_after == 0
    assert names(tmp_path / "r") == ["m/1/model.onnx", "m/1/model.onnx.data", "m/config.pbtxt"]
    second = folding.fold(tmp_path / "r" / "m" / "1" / "model.onnx", tmp_path / "r", Options(triton="m"))
    assert not second.changed
    assert names(tmp_path / "r") == ["m/1/model.onnx", "m/1/model.onnx.data", "m/config.pbtxt"]


@pytest.mark.parametrize("other", ["2/model.onnx", "labels.txt", "1/model.plan"])
def test_what_others_put_there_is_not_lost(tmp_path, other):
    save(tmp_path / "a.onnx")
    folding.fold(tmp_path / "a.onnx", tmp_path / "r", Options(triton="m"))
    (tmp_path / "r" / "m" / other).parent.mkdir(exist_ok=True)
    (tmp_path / "r" / "m" / other).write_text("mine")
    before = {path: path.read_bytes() for path in (tmp_path / "r").rglob("*") if path.is_file()}
    with pytest.raises(FoldingError, match="which would be lost"):
        folding.fold(tmp_path / "a.onnx", tmp_path / "r", Options(triton="m"))
    assert {path: path.read_bytes() for path in (tmp_path / "r").rglob("*") if path.is_file()} == before
    assert entries(tmp_path) == ["a.onnx", "r"]


def test_a_file_in_place_of_a_folder_is_refused(tmp_path):
    save(tmp_path / "a.onnx")
    (tmp_path / "r").write_text("")
    with pytest.raises(FoldingError, match="give the folder of a model repository"):
        folding.fold(tmp_path / "a.onnx", tmp_path / "r", Options(triton="m"))
    (tmp_path / "q").mkdir()
    (tmp_path / "q" / "m").write_text("")
    with pytest.raises(FoldingError, match="is no folder"):
        folding.fold(tmp_path / "a.onnx", tmp_path / "q", Options(triton="m"))
    with pytest.raises(FoldingError, match="cannot be written"):
        folding.fold(tmp_path / "a.onnx", tmp_path / "none" / "there", Options(triton="m"))


def state(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("moment", ["config", "commit"])
def test_a_failure_at_the_end_leaves_all_as_it_was(tmp_path, monkeypatch, known, moment):
    save(tmp_path / "a.onnx")
    if known:
        folding.fold(tmp_path / "a.onnx", tmp_path / "r", Options(triton="m", card=True))
    before, rename = state(tmp_path), Path.rename

    def failing(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise KeyboardInterrupt
        return rename(self, target)

    if moment == "config":
        monkeypatch.setattr(places, "written", lambda _: 1 / 0)
    else:
        monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises((ZeroDivisionError, KeyboardInterrupt)):
        folding.fold(tmp_path / "a.onnx", tmp_path / "r", Options(triton="m", digest=True))
    assert state(tmp_path) == before
    assert entries(tmp_path) == (["a.onnx", "r"] if known else ["a.onnx"])


def test_what_refuses_the_model_leaves_no_folder(tmp_path, monkeypatch):
    text = "m (string[n,3] x) => (string[n,3] y) { y = StringNormalizer<is_case_sensitive=1>(x) }"
    with pytest.raises(TargetError):
        served(tmp_path, text, target="tensorrt-11", verify=False)
    assert entries(tmp_path) == ["a.onnx"]

    def differs(*_: object, **__: object) -> folding.Verification:
        return folding.Verification("failed", "it differs")

    monkeypatch.setattr("folding.api.verify", differs)
    with pytest.raises(VerificationError):
        served(tmp_path, BATCHED["one input"], strict=True)
    assert entries(tmp_path) == ["a.onnx"]


def test_on_another_file_system_the_folder_is_staged_in_the_repository(tmp_path, monkeypatch):
    save(tmp_path / "a.onnx")
    monkeypatch.setattr("os.access", lambda *_: False)
    seen = []
    finish = places.Repository.finish
    monkeypatch.setattr(places.Repository, "finish", lambda self: (seen.append(entries(tmp_path / "r")), finish(self)))
    folding.fold(tmp_path / "a.onnx", tmp_path / "r", Options(triton="m"))
    assert [one.startswith(".m.") for one in seen[0]] == [True]
    assert entries(tmp_path / "r") == ["m"]


@pytest.mark.parametrize("name", ["", "a/b", "../m", ".m", "-m", "m m", "{name}", "x" * 200, "ä", 3, True])
def test_a_name_that_is_no_folder_of_a_repository_is_refused(name):
    with pytest.raises(OptionError, match="triton is "):
        Options(triton=name)


@pytest.mark.parametrize(
    ("form", "path", "expected"),
    [
        ("m", "a.onnx", "m"),
        ("{model}", "a b.v2.onnx", "a_b_v2"),
        ("x-{model}", "vision/a.onnx", "x-vision_a"),
        ("{model}", "ä.onnx", "model"),
    ],
)
def test_the_name_of_the_file_may_be_in_it(form, path, expected):
    assert Options(triton=form).repository_name(path) == expected


def test_in_memory_there_are_no_files(tmp_path):
    for options in (Options(triton="m"), Options(digest=True)):
        with pytest.raises(OptionError, match=r"use folding\.fold"):
            folding.fold_model(onnx.load(save(tmp_path / "a.onnx")), options)


def test_a_dry_run_writes_nothing(tmp_path):
    save(tmp_path / "a.onnx")
    assert folding.fold(tmp_path / "a.onnx", None, Options(triton="m", digest=True)).digests == ()
    assert entries(tmp_path) == ["a.onnx"]
