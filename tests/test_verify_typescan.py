"""typescan: number types, operators and external files are found wherever a model may name them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from folding import typescan
from folding.typescan import MESSAGES, TEXTS, TYPES, Scan, scan, size_with_data
from tests.verification_models import parsed

if TYPE_CHECKING:
    from pathlib import Path

FLOAT, FLOAT16, DOUBLE, INT64, BOOL, BFLOAT16 = 1, 10, 11, 7, 9, 16
BRANCHES = """(float[1] x, bool c) => (float[1] y) { y = If (c) <
    then_branch = t () => (float[1] a) { a = Relu(x) },
    else_branch = e () => (float[1] b) { h = Cast<to=10>(x) b = Cast<to=1>(h) }> }"""


def scanned(model: onnx.ModelProto, folder: Path) -> Scan:
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return scan(path)


@pytest.mark.parametrize(
    ("text", "types", "operators"),
    [
        ("(float[4] x) => (double[4] y) { y = Cast<to=11>(x) }", {FLOAT, DOUBLE}, {"Cast"}),
        ("(float[4] x) => (float[4] y) { h = Cast<to=10>(x) y = Cast<to=1>(h) }", {FLOAT, FLOAT16}, {"Cast"}),
        ("(float[4] x) => (int64[1] y) { y = Shape(x) }", {FLOAT, INT64}, {"Shape"}),
        ("(float[1] x) => (float[1] y) <float16[1] w = {1}> { y = Relu(x) }", {FLOAT, FLOAT16}, {"Relu"}),
        (
            "(float[1] x) => (float[1] y) { k = Constant<value=bfloat16[1] {1}>() y = Relu(x) }",
            {FLOAT, BFLOAT16},
            {"Constant", "Relu"},
        ),
        (BRANCHES, {FLOAT, FLOAT16, BOOL}, {"If", "Relu", "Cast"}),
    ],
)
def test_types_and_operators(text: str, types: set[int], operators: set[str], tmp_path: Path) -> None:
    found = scanned(parsed(text), tmp_path)
    assert (found.types, found.operators) == (types, operators)


def test_functions_and_sparse_weights_are_scanned(tmp_path: Path) -> None:
    model = parsed("(float[1] x) => (float[1] y) { y = Relu(x) }")
    model.functions.add(name="f", domain="d").node.add(op_type="Tanh")
    values = numpy_helper.from_array(np.ones(1, np.float16), "w")
    model.graph.sparse_initializer.add(values=values, dims=[4])
    found = scanned(model, tmp_path)
    assert (found.types, found.operators) == ({FLOAT, FLOAT16}, {"Relu", "Tanh"})


@pytest.mark.parametrize(
    ("types", "epsilon"),
    [(set(), 2**-23), ({7}, 2**-23), ({11}, 2**-52), ({1, 11}, 2**-23), ({1, 10}, 2**-10), ({10, 16}, 2**-7)],
)
def test_the_narrowest_type_decides(types: set[int], epsilon: float) -> None:
    assert Scan(types).epsilon == epsilon


@pytest.mark.parametrize(
    ("operator", "quantizes"),
    [
        ("QuantizeLinear", True),
        ("DynamicQuantizeLinear", True),
        ("QLinearConv", True),
        ("ConvInteger", True),
        ("DequantizeLinear", False),
        ("Conv", False),
    ],
)
def test_quantized_activations_are_told_from_quantized_weights(operator: str, quantizes: bool) -> None:
    assert Scan(operators={"Relu", operator}).quantizes is quantizes


def test_external_data_count(tmp_path: Path) -> None:
    model = parsed("(float[1] x) => (float[1] y) { y = Relu(x) }")
    for location in ("weights.bin", "missing.bin"):
        tensor = model.graph.initializer.add(data_type=FLOAT, dims=[1000], data_location=onnx.TensorProto.EXTERNAL)
        tensor.external_data.add(key="location", value=location)
    (tmp_path / "weights.bin").write_bytes(bytes(4000))
    found = scanned(model, tmp_path)
    assert found.locations == {"weights.bin", "missing.bin"}
    path = tmp_path / "model.onnx"
    assert size_with_data(path, found) == path.stat().st_size + 4000


@pytest.mark.parametrize(
    "content", [b"", b"\x80", b"\xff" * 20, b"\x3a\xff\xff\x01", b"\x0b", b"\x09\x00", b"no protobuf at all"]
)
def test_what_is_no_message_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(ValueError, match=r"."):
        scan(tmp_path / "model.onnx")


def test_deep_nesting_is_refused(tmp_path: Path) -> None:
    graph = b""
    for _ in range(typescan.NESTING):
        for tag in (b"\x32", b"\x2a", b"\x0a"):  # attribute.g, node.attribute, graph.node
            length = len(graph)
            graph = tag + bytes((length & 0x7F | 0x80, length >> 7 & 0x7F | 0x80, length >> 14)) + graph
    (tmp_path / "model.onnx").write_bytes(b"\x3a" + bytes((len(graph) & 0x7F | 0x80, len(graph) >> 7)) + graph)
    with pytest.raises(ValueError, match="nested too deeply"):
        scan(tmp_path / "model.onnx")


@pytest.mark.parametrize("message", [*MESSAGES])
def test_field_numbers_are_those_of_onnx(message: str) -> None:
    fields = _descriptor(message).fields_by_number
    for number, inner in MESSAGES[message].items():
        assert fields[number].message_type.full_name == f"onnx.{inner}"


@pytest.mark.parametrize(
    ("message", "number", "name"),
    [
        *((message, number, None) for message, numbers in TEXTS.items() for number in numbers),
        ("TensorProto", TYPES["TensorProto"], "data_type"),
        ("TypeProto.Tensor", TYPES["TypeProto.Tensor"], "elem_type"),
        ("AttributeProto", typescan.ATTRIBUTE_NAME, "name"),
        ("AttributeProto", typescan.ATTRIBUTE_INT, "i"),
        ("NodeProto", typescan.OPERATOR, "op_type"),
        ("StringStringEntryProto", typescan.ENTRY_KEY, "key"),
        ("StringStringEntryProto", typescan.ENTRY_VALUE, "value"),
    ],
)
def test_what_is_read_is_there(message: str, number: int, name: str | None) -> None:
    field = _descriptor(message).fields_by_number[number]
    assert field.name == name if name else field.type == field.TYPE_STRING


def _descriptor(message: str) -> Any:
    outer, _, inner = message.partition(".")
    kind = getattr(onnx, outer)
    return (getattr(kind, inner) if inner else kind).DESCRIPTOR
