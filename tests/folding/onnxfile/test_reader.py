"""What was not changed comes out as it went in, however unusual it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, ModelProto, TensorProto, helper, numpy_helper

from folding.errors import ModelError
from folding.onnxfile import Span, copy, from_bytes, read, to_bytes, write
from folding.onnxfile.skeleton import INLINE_BYTES
from folding.onnxfile.wire import header
from tests.support.hostile import files as hostile
from tests.support.hostile.files import with_attribute
from tests.support.onnxfiles import COUNT, model, saved, values

PACKAGE = Path(onnx.__file__).parent
PACKAGE_MODELS = sorted(PACKAGE.glob("backend/test/data/**/*.onnx"))


@pytest.mark.parametrize("path", PACKAGE_MODELS, ids=lambda path: path.parent.name + "/" + path.stem)
def test_package_models_survive(path: Path, tmp_path: Path) -> None:
    written, copied = tmp_path / "written.onnx", tmp_path / "copied.onnx"
    with read(path) as file:
        assert write(file, written) == copy(file, copied) == file.nbytes
    assert written.read_bytes() == copied.read_bytes() == path.read_bytes()


def test_there_are_package_models() -> None:
    assert len(PACKAGE_MODELS) > 100


LARGE_LIST = list(range(INLINE_BYTES))
UNKNOWN = header(1000, 5) + b"hello"


def with_tensor(**fields: Any) -> ModelProto:
    made = hostile.small()
    made.graph.initializer.append(TensorProto(name="q", **fields))
    return made


def with_subgraph() -> ModelProto:
    made = hostile.small()
    inner = hostile.small().graph
    made.graph.node[0].attribute.append(AttributeProto(name="body", type=AttributeProto.GRAPH, g=inner))
    made.graph.node[1].attribute.append(AttributeProto(name="bodies", type=AttributeProto.GRAPHS, graphs=[inner]))
    return made


def with_function() -> ModelProto:
    made = ModelProto.FromString(hostile.functions("c = Constant() y = Add(x, c)"))
    tensor = numpy_helper.from_array(values(1), "c")
    made.functions[0].node[0].attribute.append(AttributeProto(name="value", type=AttributeProto.TENSOR, t=tensor))
    return made


def with_default() -> ModelProto:
    made = with_function()
    made.functions[0].attribute_proto.append(AttributeProto(name="w", type=AttributeProto.TENSOR, t=weight()))
    return made


def weight() -> TensorProto:
    tensor: TensorProto = numpy_helper.from_array(values(7))
    return tensor


def with_training() -> ModelProto:
    made = hostile.small()
    info = made.training_info.add()
    info.algorithm.initializer.append(numpy_helper.from_array(values(2), "rate"))
    info.algorithm.node.append(helper.make_node("Mul", ["v", "rate"], ["v_new"]))
    info.update_binding.add(key="v", value="v_new")
    return made


def with_extras() -> ModelProto:
    made = hostile.small()
    made.graph.quantization_annotation.add(tensor_name="v").quant_parameter_tensor_names.add(key="SCALE", value="w")
    made.metadata_props.add(key="author", value="J\u00fcrgen")
    made.graph.node[0].metadata_props.add(key="k", value="v")
    made.graph.doc_string = "d" * 2 * INLINE_BYTES
    return made


def with_sparse() -> ModelProto:
    made = hostile.small()
    sparse = made.graph.sparse_initializer.add(dims=[10**6])
    sparse.values.CopyFrom(numpy_helper.from_array(values(3), "s"))
    sparse.indices.CopyFrom(numpy_helper.from_array(np.arange(COUNT), ""))
    return made


def with_unknown_fields() -> ModelProto:
    made = hostile.small()
    made.MergeFromString(UNKNOWN)
    made.graph.MergeFromString(UNKNOWN)
    made.graph.initializer[1].MergeFromString(UNKNOWN)
    return made


MODELS = {
    "weights": hostile.small,
    "unknown fields": with_unknown_fields,
    "subgraphs": with_subgraph,
    "function": with_function,
    "training_info": with_training,
    "annotations, metadata, doc_string": with_extras,
    "sparse": with_sparse,
    "float_data": lambda: with_tensor(data_type=1, dims=[COUNT], float_data=values(4)),
    "double_data": lambda: with_tensor(data_type=11, dims=[COUNT], double_data=values(4)),
    "int32_data": lambda: with_tensor(data_type=6, dims=[INLINE_BYTES], int32_data=[-n for n in LARGE_LIST]),
    "int64_data": lambda: with_tensor(data_type=7, dims=[INLINE_BYTES], int64_data=LARGE_LIST),
    "uint64_data": lambda: with_tensor(data_type=13, dims=[INLINE_BYTES], uint64_data=LARGE_LIST),
    "complex64": lambda: with_tensor(data_type=14, dims=[COUNT // 2], float_data=values(4)),
    "bool": lambda: with_tensor(data_type=9, dims=[INLINE_BYTES + 1], int32_data=[1] * (INLINE_BYTES + 1)),
    "int4": lambda: with_tensor(data_type=22, dims=[2 * INLINE_BYTES + 1], raw_data=bytes(INLINE_BYTES + 1)),
    "int2": lambda: with_tensor(data_type=26, dims=[5], int32_data=[1, 2]),
    "strings": lambda: with_tensor(data_type=8, dims=[INLINE_BYTES], string_data=[b"\xff", b"b"] * (INLINE_BYTES // 2)),
    "scalar": lambda: with_tensor(data_type=1, dims=[], raw_data=bytes(4)),
    "no elements": lambda: with_tensor(data_type=1, dims=[2**40, 0, 2**40]),
    "a type of the future": lambda: with_tensor(data_type=99, dims=[3], raw_data=bytes(7)),
    "attribute s": lambda: with_attribute(type=AttributeProto.STRING, s=b"s" * 9_999),
    "attribute floats": lambda: with_attribute(type=AttributeProto.FLOATS, floats=values(5)),
    "attribute ints": lambda: with_attribute(type=AttributeProto.INTS, ints=LARGE_LIST),
    "attribute sparse_tensors": lambda: with_attribute(
        type=AttributeProto.SPARSE_TENSORS, sparse_tensors=[with_sparse().graph.sparse_initializer[0]] * 2
    ),
    "attribute sparse_tensor": lambda: with_attribute(
        type=AttributeProto.SPARSE_TENSOR, sparse_tensor=with_sparse().graph.sparse_initializer[0]
    ),
    "default of a function's attribute": with_default,
    "attribute tensors": lambda: with_attribute(
        type=AttributeProto.TENSORS, tensors=[numpy_helper.from_array(values(6))] * 2
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_what_is_not_ours_survives(name: str, tmp_path: Path) -> None:
    original = MODELS[name]().SerializeToString()
    path, target = tmp_path / "model.onnx", tmp_path / "out.onnx"
    path.write_bytes(original)
    with read(path) as file:
        assert file.nbytes == write(file, target) == len(original)
        assert file.model.ByteSize() < len(original) - INLINE_BYTES
    assert target.read_bytes() == original == to_bytes(from_bytes(original))


def graph_of(*fields: bytes) -> bytes:
    body = b"".join(fields)
    return header(7, len(body)) + body


def field(number: int, value: bytes) -> bytes:
    return header(number, len(value)) + value


RAW = b"\1\2\3\4" * COUNT
TENSOR_HEAD = b"\x08" + header(0, COUNT)[1:] + b"\x10\x01"  # dims, data_type
UNUSUAL = {
    "fields out of order": graph_of(field(2, b"g"), field(5, field(9, RAW) + field(8, b"q") + TENSOR_HEAD)),
    "raw_data twice": graph_of(field(5, field(9, RAW[::-1]) + field(8, b"q") + field(9, RAW) + TENSOR_HEAD)),
    "graph twice": graph_of(field(5, field(9, RAW) + field(8, b"q") + TENSOR_HEAD))
    + graph_of(field(5, field(9, RAW) + field(8, b"r") + TENSOR_HEAD)),
    "float_data in two pieces": graph_of(
        field(5, field(4, RAW[:8000]) + field(8, b"q") + TENSOR_HEAD + field(4, RAW[8000:]))
    ),
    "t in two pieces": graph_of(
        field(1, field(5, field(1, b"a") + field(5, TENSOR_HEAD + field(9, RAW[::-1])) + field(5, field(9, RAW))))
    ),
    "an attribute with s and t": graph_of(
        field(1, field(5, field(1, b"a") + field(4, RAW) + field(5, TENSOR_HEAD + field(9, RAW))))
    ),
    "packed attribute floats": graph_of(field(1, field(5, field(1, b"a") + field(7, RAW)))),
    "a group among the fields": graph_of(field(5, field(8, b"q") + TENSOR_HEAD + b"\xa3\x3e\xa4\x3e" + field(9, RAW))),
    "a length in more bytes than it needs": graph_of(
        field(5, field(8, b"q") + TENSOR_HEAD + b"\x4a\x80\xe0\x80\x00" + RAW)
    ),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_unusual_encodings_mean_what_protobuf_says(name: str) -> None:
    assert ModelProto.FromString(to_bytes(from_bytes(UNUSUAL[name]))) == ModelProto.FromString(UNUSUAL[name])


def test_large_payloads_stay_in_the_file(tmp_path: Path) -> None:
    path = saved(model(a=values(1), b=values(2, 8)), tmp_path / "model.onnx")
    with read(path) as file:
        large, small = file.model.graph.initializer
        span = file.payload(large)
        assert isinstance(span, Span)
        assert (span.length, span.field, span.read()) == (4 * COUNT, 9, values(1).tobytes())
        assert span.read(4, 12) == values(1)[1:3].tobytes()
        part = np.zeros(5, np.float32)
        span.read_into(part, 8)
        np.testing.assert_array_equal(part, values(1)[2:7])
        assert file.payload(small) is None
        assert span == file.payload(large)
        with pytest.raises(ValueError, match="not within"):
            span.read_into(part, 4 * COUNT - 4)
    with pytest.raises(ModelError, match="was closed"):
        span.read()


def test_unsorted_nodes_are_accepted() -> None:
    made = hostile.small()
    nodes = list(made.graph.node)[::-1]
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    assert to_bytes(from_bytes(made.SerializeToString())) == made.SerializeToString()


def test_the_same_name_as_input_and_initializer() -> None:
    made = hostile.small()
    made.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [2]))
    assert to_bytes(from_bytes(made.SerializeToString())) == made.SerializeToString()
