from __future__ import annotations

import tomllib

import onnxruntime
import pytest
from onnx import defs

from folding.targets.model import NAMES, load, parse
from tests.support.targets import datafile, documents, installed, pages
from tests.support.targets.rows import NEWEST, Row, meanings

TENSORRT = """# Supported ONNX Operators

TensorRT 11.1 supports operators in the inclusive range of opset 9 to opset 24. Latest information of ONNX operators.

| Operator                  | Supported  | Supported Types | Restrictions                                        |
|---------------------------|------------|-----------------|-----------------------------------------------------|
| Abs                       | Y          | FP32, FP16, BF16, INT32, INT64 |
| AffineGrid                | N          |
| Cast                      | Y          | FP32, UINT8, BOOL |                                                  |
| Floor                     | Y          | FP32, FP16, BF16|
| Mish                      | Y          | FP32, FP16 |
| ParametricSoftplus        | Y          | FP32, FP16, BF16 |
| Selu                      | Y          | FP32, FP16, BF16, |
| Resize                    | Y          | FP32 | Modes: `nearest`, `linear`.<br />Antialiasing is not supported.|
| TopK                      | Y          | FP32, INT64 | `sorted` must be 1. `K` input must be less than 3840.
| Xor                       | Y          | BOOL
"""
KERNELS = """## Operators implemented by CUDAExecutionProvider

| Op Name | Parameters | OpSet Version | Types Supported |
|---------|------------|---------------|-----------------|
|**Operator Domain:** *ai.onnx*||||
|Abs|*in* X:**T**<br> *out* Y:**T**|13+|**T** = tensor(double), tensor(float)|
|||[6, 12]|**T** = tensor(float)|
|Cast|*in* x:**T1**<br>or<br>*out* y:**T2**|13|**T1** = tensor(bool)<br/> **T2** = tensor(float), tensor(int8)|
|ConcatFromSequence|*in* input_sequence:**S**|11+|**S** = seq(tensor(float))|
|Det|*in* X:**T**|11+|**T** = tensor(float)|
| |
|**Operator Domain:** *com.microsoft*||||
|FusedMatMul|*in* A:**T**|1+|**T** = tensor(float16)|
|**Operator Domain:** *com.ms.internal.nhwc*||||
|Conv|*in* X:**T**|11+|**T** = tensor(float)|

## Operators implemented by DmlExecutionProvider

|**Operator Domain:** *ai.onnx*||||
|Relu|*in* X:**T**|6+|**T** = tensor(float16)|
"""
WEBGPU = """The following table shows ONNX
operators and the supported opset domain/versions in WebGPU EP by ONNX Runtime Web.

| Operator | Opset | Comments |
|:--------:|:-------------:|-----|
| Conv | ai.onnx(1-10,11+); com.ms.internal.nhwc(1-10,11+) | need perf optimization; conv3d is not supported |
| Gelu | com.microsoft(1+) |  |
| MemcpyToHost | ai.onnx(1+) |  |
| Relu | ai.onnx(6-12,13,14+) |  |
"""


def types(**named: str) -> dict[str, frozenset[str]]:
    return {name: frozenset(listed.split()) for name, listed in named.items()}


def test_the_matrix_of_tensorrt_is_read():
    (found,) = documents.read(TENSORRT).values()
    assert list(documents.read(TENSORRT)) == ["tensorrt-11"]
    assert found["Abs"] == [Row(9, 24, types(T="float float16 bfloat16 int32 int64"))]
    assert "AffineGrid" not in found
    assert found["Cast"] == [Row(9, 24, types(T1="float uint8 bool", T2="float uint8 bool"))]
    assert found["Mish"][0].first == 18  # ONNX has it since then
    assert found["ParametricSoftplus"][0].first == 9
    assert found["Selu"] == [Row(9, 24, types(T="float float16 bfloat16"))]
    note = "Modes: `nearest`, `linear`. Antialiasing is not supported."
    assert found["Resize"] == [Row(10, 10, types(T="float"), note), Row(11, 24, types(T1="float"), note)]
    assert found["TopK"][0].note.endswith("must be less than 3840.")
    assert found["Xor"] == [Row(9, 24, types(T="bool"))]


def test_the_kernels_of_onnx_runtime_are_read():
    found = documents.read(KERNELS)
    assert list(found) == ["onnxruntime-cuda", "directml"]
    cuda = found["onnxruntime-cuda"]
    assert cuda["Abs"] == [Row(6, 12, types(T="float")), Row(13, NEWEST, types(T="float double"))]
    assert cuda["Cast"] == [Row(13, 18, types(T1="bool", T2="float int8"))]
    assert cuda["ConcatFromSequence"] == [Row(11, NEWEST)]
    assert cuda["Det"] == [
        Row(11, 21, types(T="float"))
    ]  # "11+" is for the meaning of 11 alone, and 22 gave it another
    assert cuda["com.microsoft::FusedMatMul"] == [Row(1, 1, types(T="float16"))]
    assert not [name for name in cuda if "internal" in name]
    assert found["directml"] == {"Relu": [Row(6, 12, types(T="float16"))]}


def test_the_table_of_webgpu_is_read():
    found = documents.read(WEBGPU)["webgpu"]
    assert found["Conv"] == [Row(1, 21, {}, "need perf optimization; conv3d is not supported")]
    assert found["com.microsoft::Gelu"] == [Row(1, 1)]
    assert found["Relu"] == [Row(6, NEWEST)]
    assert "MemcpyToHost" not in found


def test_another_document_is_refused():
    with pytest.raises(ValueError, match="no table"):
        documents.read("# Changelog")


def test_what_a_person_decided_survives(tmp_path, monkeypatch):
    monkeypatch.setattr(datafile, "FOLDER", tmp_path)
    path = tmp_path / "abacus.toml"
    path.write_text(
        'title = "Abacus"\n\n[restrictions]\nAbs = ["one-output"]\n\n' + datafile.MARK + "\n[operators]\nOld = 1\n"
    )
    rows = {"Abs": [Row(6, 12, types(T="float")), Row(13, 20, note='"no"')], "mine::Op": [Row(1, 1, expanded=True)]}
    datafile.write("abacus", rows)
    once = path.read_text()
    datafile.write("abacus", rows)
    assert path.read_text() == once
    data = tomllib.loads(once)
    assert (data["title"], data["restrictions"]) == ("Abacus", {"Abs": ["one-output"]})
    assert data["operators"]["Abs"] == [
        {"opsets": [6, 12], "types": {"T": "float"}},
        {"opsets": [13, 20], "note": '"no"'},
    ]
    rest = {"version": "", "source": "", "date": "", "opset": [1, 20], "ir": [1, 9], "idioms": {}, "clamp": "never"}
    target = parse("abacus", data | rest | {"functions": True, "align": 1})
    assert target.operators["Abs"].restrictions == ("one-output",)
    assert target.takes("Abs", 12, "float")
    assert not target.takes("Abs", 12, "int32")
    assert target.takes("Abs", 13, "int32")
    assert not target.takes("Abs", 21)
    assert target.operators["mine::Op"].spans[0].is_expanded


def version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:3])


def test_the_data_of_the_cpu_are_what_the_installed_package_has():
    """Operator by operator and type by type. A newer package may have more, and none may have less."""
    target = load("onnxruntime-cpu")
    here = version(onnxruntime.__version__)
    if here < version(target.version):
        pytest.skip(f"the data are of {target.version}")
    rows = installed.onnxruntime()["onnxruntime-cpu"]
    by_hand = set(tomllib.loads((datafile.FOLDER / "onnxruntime-cpu.toml").read_text())["added"])
    for op, operator in target.operators.items():
        for span in operator.spans if op not in by_hand else ():
            for opset in range(span.opsets[0], span.opsets[1] + 1):
                row = next(row for row in rows[op] if row.first <= opset <= row.last)
                assert span.is_expanded or not row.expanded, (op, opset)
                for name, listed in span.types.items():
                    assert not row.types.get(name) or listed <= row.types[name], (op, opset, name)
    if here == version(target.version) and defs.onnx_opset_version() == target.opset[1]:
        assert {op for op in target.operators if op not in by_hand} == set(rows) - by_hand
        assert tomllib.loads(datafile.text(rows))["operators"] == datafile.stored("onnxruntime-cpu")


@pytest.mark.parametrize("name", NAMES)
def test_every_operator_of_a_target_is_one_of_onnx_in_these_operator_sets(name):
    known = {schema.name for schema in defs.get_all_schemas_with_history() if not schema.domain}
    for op, operator in load(name).operators.items():
        if op in known:
            ranges = list(meanings(op, 1, NEWEST))
            assert operator.opsets[0] >= ranges[0][0], op
            for span in operator.spans:
                schema = next(schema for first, last, schema in ranges if first <= span.opsets[1] <= last)
                constraints = {constraint.type_param_str for constraint in schema.type_constraints}
                assert set(span.types) <= constraints, (op, span)


@pytest.mark.parametrize("name", NAMES)
def test_the_page_of_a_target_is_up_to_date(name):
    assert pages.paths()[name].read_text() == pages.page(name)


def test_there_is_no_page_of_another_target():
    assert sorted(pages.FOLDER.glob("*.md")) == sorted(pages.paths().values())
