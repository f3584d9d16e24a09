"""Models that were made to hang, crash or mislead a reader, each with what bnfold says about it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto, helper, parser

from folding.onnxfile import Limits
from folding.onnxfile.skeleton import INLINE_BYTES
from folding.onnxfile.wire import header

if TYPE_CHECKING:
    from collections.abc import Callable

FLOAT = TensorProto.FLOAT
LARGE = INLINE_BYTES  # elements of a float tensor that is lifted out of the skeleton
TIGHT = Limits(
    nodes=2, initializers=1, attributes=3, functions=1, expanded_nodes=50, skeleton_bytes=9_000, tensor_bytes=20_000
)
DEEP = 10_000
HUGE = 2**62


def small() -> ModelProto:
    """y = Relu(x * w), with one inline and one large weight."""
    model = parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[N] x) => (float[N] y)'
        "{ a = Mul(x, w) b = Add(a, v) y = Relu(b) }"
    )
    model.graph.initializer.extend([weight("w", [2]), weight("v", [LARGE])])
    return model


def weight(name: str, dims: list[int], nbytes: int | None = None, data_type: int = FLOAT) -> TensorProto:
    """A tensor of raw zeros; as many as its dims say unless `nbytes` says otherwise."""
    count = 1
    for dim in dims:
        count *= dim
    return TensorProto(
        name=name, data_type=data_type, dims=dims, raw_data=bytes(4 * count if nbytes is None else nbytes)
    )


def with_graph(edit: Callable[[GraphProto], object]) -> bytes:
    model = small()
    edit(model.graph)
    return model.SerializeToString()


def with_weight(*tensors: TensorProto) -> bytes:
    return with_graph(lambda graph: graph.initializer.extend(tensors))


def with_text(*, wrong: bytes) -> bytes:
    data = with_graph(lambda graph: setattr(graph.node[0], "name", "NAME"))
    return data.replace(b"NAME", wrong)


def with_nodes(body: str) -> bytes:
    text = f'<ir_version: 8, opset_import: ["" : 17, "local" : 1]> g (float[N] x) => (float[N] y) {{ {body} }}'
    return parser.parse_model(text).SerializeToString()


def functions(*texts: str, call: str = "y = local.f0 (x)") -> bytes:
    """A model that calls f0; each text is the body of f0, f1, ..."""
    model = ModelProto.FromString(with_nodes(call))
    head = '<opset_import: ["" : 17, "local" : 1], domain: "local">'
    for index, text in enumerate(texts):
        model.functions.append(parser.parse_function(f"{head} f{index} (x) => (y) {{ {text} }}"))
    return model.SerializeToString()


def laughs(levels: int) -> bytes:
    """Each function calls the next one twice: 2 ** levels nodes."""
    twice = [f"a = local.f{level + 1} (x) y = local.f{level + 1} (a)" for level in range(levels)]
    return functions(*twice, "y = Relu (x)")


def nested(levels: int, inner: bytes = b"") -> bytes:
    """Graphs in attributes of nodes of graphs, by hand: protobuf would not write so many."""
    body, parts = inner, []
    length = len(inner)
    for _ in range(levels):
        for number in (6, 5, 1):  # g of an attribute, attribute of a node, node of a graph
            parts.append(header(number, length))
            length += len(parts[-1])
    return header(7, length) + b"".join(reversed(parts)) + body


def sparse(values: TensorProto) -> bytes:
    indices = TensorProto(data_type=TensorProto.INT64, dims=[1], int64_data=[0])
    one = SparseTensorProto(values=values, indices=indices, dims=[2])
    return with_graph(lambda graph: graph.sparse_initializer.append(one))


def node(op: str, *inputs: str, output: str, **attributes: Any) -> NodeProto:
    return helper.make_node(op, list(inputs), [output], **attributes)


def external(name: str, entries: dict[str, str], **fields: Any) -> TensorProto:
    """A tensor of four floats whose data are in a file."""
    tensor = TensorProto(**{"name": name, "data_type": FLOAT, "dims": [4], **fields})
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def hidden(tensor: TensorProto) -> bytes:
    """A tensor in an attribute whose type says that there is none."""
    one = node("Relu", "x", output="z")
    one.attribute.append(AttributeProto(name="alpha", type=AttributeProto.INT, t=tensor))
    return with_graph(lambda graph: graph.node.append(one))


def with_attribute(**fields: Any) -> ModelProto:
    made = small()
    made.graph.node[0].attribute.append(AttributeProto(name="alpha", **fields))
    return made


def segment() -> bytes:
    tensor = weight("s", [1])
    tensor.segment.end = 1
    return with_weight(tensor)


def twice(tensor: TensorProto) -> TensorProto:
    tensor.float_data.append(1)
    return tensor


PACKED_FLOATS = header(4, LARGE + 1) + bytes(LARGE + 1)
ENDLESS_VARINTS = header(7, LARGE + 1) + b"\xff" * (LARGE + 1)
OPEN_VARINT = header(7, LARGE + 1) + b"\x01" * LARGE + b"\x80"


def tensor_bytes(data: bytes) -> bytes:
    """A model with one initializer made of these bytes, and a name."""
    tensor = data + header(8, 1) + b"q"
    return header(7, len(header(5, len(tensor))) + len(tensor)) + header(5, len(tensor)) + tensor


# Each row: bytes, what is said about them, and limits where the default ones are generous.
HOSTILE: dict[str, tuple[Callable[[], bytes], str] | tuple[Callable[[], bytes], str, Limits]] = {
    "empty": (lambda: b"", "is empty; it is not an ONNX model"),
    "one byte": (lambda: b"\x3a", "truncated or corrupt"),
    "zeros": (lambda: bytes(9000), "the field at byte 0 has the number 0"),
    "a number 0 in a graph": (lambda: header(7, LARGE + 9) + bytes(LARGE + 9), "has the number 0"),
    "text": (lambda: b"<html>not found</html>" * 500, "is an HTML page, not an ONNX model"),
    "pickle": (lambda: b"\x80\x04\x95" + bytes(9000), "is a pickle, perhaps a PyTorch checkpoint"),
    "zip": (lambda: b"PK\x03\x04" + bytes(9000), "is a zip archive, not an ONNX model"),
    "no graph": (lambda: ModelProto(ir_version=8, producer_name="p").SerializeToString(), "has no graph"),
    "a tensor": (lambda: weight("t", [2]).SerializeToString(), "not a"),
    "length beyond the end": (lambda: header(7, 2**40) + bytes(9000), "ends 1,099,511,618,776 bytes after"),
    "length without end": (lambda: b"\x3a" + b"\xff" * 9000, "does not end"),
    "number without end": (lambda: b"\x08" + b"\xff" * 9000, "does not end"),
    "inner length beyond": (lambda: header(7, LARGE + 9) + header(1, 2**33) + bytes(LARGE + 3), "after its message"),
    "10,000 levels": (lambda: nested(DEEP), "exceeds the limit nesting_depth"),
    "10,000 levels of groups": (lambda: b"\x0b" * DEEP, "corrupt"),
    "200 small levels": (lambda: nested(200), "nested deeper than 100"),
    "a field too many": (lambda: header(7, 10**6) + b"\x0a\x00" * 500_000, "limit fields", Limits(fields=1000)),
    "small fields": (lambda: header(7, 4000) + b"\x0a\x00" * 2_000, "limit fields", Limits(fields=1000)),
    "skeleton": (lambda: with_graph(lambda g: setattr(g, "doc_string", "d" * 9_001)), "limit skeleton_bytes", TIGHT),
    "nodes": (small().SerializeToString, "limit nodes (3 > 2)", replace(TIGHT, initializers=9)),
    "initializers": (small().SerializeToString, "limit initializers (2 > 1)", replace(TIGHT, nodes=9)),
    "attributes": (
        lambda: with_nodes("y = LRN<alpha = 1.0, beta = 1.0, bias = 1.0, size = 1>(x)"),
        "limit attributes (4 > 3)",
        TIGHT,
    ),
    "functions": (lambda: functions("y = Relu(x)", "y = Relu(x)"), "limit functions (2 > 1)", TIGHT),
    "expansion": (lambda: laughs(6), "limit expanded_nodes (51 > 50)", replace(TIGHT, functions=9, nodes=99)),
    "billion laughs": (lambda: laughs(3_000), "limit expanded_nodes"),
    "tensor bytes": (
        lambda: with_weight(weight("q", [999])),
        "limit tensor_bytes",
        replace(TIGHT, nodes=9, initializers=9),
    ),
    "negative dim": (lambda: with_weight(weight("q", [-1], 4)), "q: dimension -1 is negative in shape [-1]"),
    "dims overflow": (lambda: with_weight(weight("q", [HUGE, HUGE, 4], 0)), "more elements than 64 bits can count"),
    "10,000 dims": (lambda: with_weight(weight("q", [2] * DEEP, 0)), "more elements than 64 bits can count"),
    "short data": (
        lambda: with_weight(weight("q", [3], 8)),
        "q: shape [3] of FLOAT takes 12 bytes, but raw_data has 8",
    ),
    "long data": (lambda: with_weight(weight("q", [3], 16)), "takes 12 bytes, but raw_data has 16"),
    "short large data": (lambda: with_weight(weight("q", [LARGE], LARGE)), "takes 16384 bytes, but raw_data has 4096"),
    "no data": (lambda: with_weight(TensorProto(name="q", data_type=FLOAT, dims=[3])), "but it has no data"),
    "wrong field": (
        lambda: with_weight(TensorProto(name="q", data_type=FLOAT, dims=[1], int64_data=[1])),
        "needs 1 entries in float_data, but its data are in int64_data",
    ),
    "two fields": (lambda: with_weight(twice(weight("q", [1]))), "data in raw_data and float_data"),
    "no type": (lambda: with_weight(weight("q", [1], 4, 0)), "q: the tensor has no data type"),
    "segment": (segment, "is a segment"),
    "odd int4": (lambda: with_weight(weight("q", [3], 3, 22)), "shape [3] of INT4 takes 2 bytes"),
    "int32_data of int4": (
        lambda: with_weight(TensorProto(name="q", data_type=22, dims=[3], int32_data=[1, 2, 3])),
        "shape [3] of INT4 takes 2 entries",
    ),
    "complex": (
        lambda: with_weight(TensorProto(name="q", data_type=14, dims=[1], float_data=[1])),
        "COMPLEX64 takes 2 entries",
    ),
    "raw strings": (lambda: with_weight(weight("q", [1], 4, TensorProto.STRING)), "entries in string_data"),
    "packed floats": (lambda: tensor_bytes(PACKED_FLOATS), "are no array of 4-byte numbers"),
    "packed endless": (lambda: tensor_bytes(ENDLESS_VARINTS), "takes more than 10 bytes"),
    "packed open": (lambda: tensor_bytes(OPEN_VARINT), "does not end"),
    "hidden tensor": (lambda: hidden(weight("q", [-5], 0)), "dimension -5 is negative"),
    "sparse data": (lambda: sparse(weight("s", [2], 4)), "s: shape [2] of FLOAT takes 8 bytes"),
    "invalid name": (lambda: with_text(wrong=b"\xff\xfe\xfd\xfc"), r"NodeProto.name b'\xff\xfe\xfd\xfc' is not UTF-8"),
    "surrogate name": (lambda: with_text(wrong=b"a\xed\xa0\x80"), "is not UTF-8 text"),
    "initializer twice": (lambda: with_weight(weight("w", [2])), 'the initializer "w" is there twice'),
    "initializer unnamed": (lambda: with_weight(weight("", [2])), "an initializer has no name"),
    "produced twice": (
        lambda: with_graph(lambda g: g.node.append(node("Relu", "x", output="a"))),
        '"a" is produced twice',
    ),
    "produces an initializer": (
        lambda: with_graph(lambda g: g.node.append(node("Relu", "x", output="w"))),
        '"w" is produced twice',
    ),
    "undefined input": (
        lambda: with_graph(lambda g: g.node.append(node("Relu", "ghost", output="z"))),
        'reads "ghost", which nothing produces',
    ),
    "undefined output": (
        lambda: with_graph(lambda g: setattr(g.output[0], "name", "ghost")),
        'an output is "ghost", which nothing produces',
    ),
    "undefined in a branch": (
        lambda: with_nodes("y = If(x) <then_branch = t () => (float[N] o) { o = Relu(ghost) }>"),
        'the If node "y" reads "ghost"',
    ),
    "self loop": (lambda: with_nodes("y = Add(x, y)"), 'the Add node "y" is part of a cycle'),
    "cycle": (lambda: with_nodes("a = Add(x, c) b = Relu(a) c = Relu(b) y = Relu(c)"), "is part of a cycle"),
    "cycle through a branch": (
        lambda: with_nodes("a = If(x) <then_branch = t () => (float[N] o) { o = Relu(y) }> y = Relu(a)"),
        "is part of a cycle",
    ),
    "recursive function": (lambda: functions("y = local.f0 (x)"), 'the function "local.f0" calls itself'),
    "mutual recursion": (lambda: functions("y = local.f1 (x)", "y = local.f0 (x)"), "calls itself"),
    "recursion in a branch": (
        lambda: functions("y = If(x) <then_branch = t () => (float[N] o) { o = local.f0 (x) }>"),
        "calls itself",
    ),
    "function twice": (
        lambda: functions("y = Relu(x)") + functions("y = Relu(x)"),
        'the function "local.f0" is defined twice',
    ),
    "function reads outside": (lambda: functions("y = Relu(w)"), 'reads "w", which nothing produces'),
    "external without location": (lambda: with_weight(external("q", {})), "no location says in which file"),
    "external sparse": (
        lambda: sparse(external("s", {"location": "w.bin"})),
        "s: a sparse tensor cannot have external",
    ),
    "external strings": (
        lambda: with_weight(external("q", {"location": "w.bin"}, data_type=TensorProto.STRING)),
        "strings cannot be external data",
    ),
    "external and inline": (
        lambda: with_weight(external("q", {"location": "w.bin"}, raw_data=bytes(4))),
        "are external and in raw_data too",
    ),
}
