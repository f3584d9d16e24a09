"""The emulation of 16-bit types: what a GPU would store, from ONNX Runtime on a CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper, parser
from onnx.reference import ReferenceEvaluator

from folding import onnxfile
from folding.execution.emulation import EmulationError, emulate, roughen
from tests.support.halved import lowered, single
from tests.support.strategies.graphs import graphs
from tests.support.strategies.stacks import stacks

if TYPE_CHECKING:
    from pathlib import Path

    from folding.execution.emulation import Emulation

LEVELS = ("ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL")
TYPES = {"float16": np.dtype(np.float16), "bfloat16": np.dtype(ml_dtypes.bfloat16)}
CODES = {"float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}


def parsed(text: str, opset: int = 17, ir: int = 10, imports: str = "", **constants: Any) -> onnx.ModelProto:
    """A model as ONNX text, which has no constants of 16 bits: these are given as arrays."""
    opsets = f'"" : {opset}{imports}'
    model = parser.parse_model(f"<ir_version: {ir}, opset_import: [{opsets}]>\nagraph {text}")
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items())
    return model


def emulated(model: onnx.ModelProto, folder: Path) -> tuple[onnx.ModelProto, Emulation]:
    onnx.save(model, folder / "model.onnx")
    emulation = emulate(folder / "model.onnx", folder / "emulated.onnx")
    result = onnx.load(folder / "emulated.onnx")
    onnx.checker.check_model(result, full_check=True)
    assert [one.name for one in result.graph.input] == [one.name for one in model.graph.input]
    assert [one.name for one in result.graph.output] == [one.name for one in model.graph.output]
    return result, emulation


def run(model: onnx.ModelProto, level: str = "ORT_DISABLE_ALL", **feeds: Any) -> list[Any]:
    given = {name: np.asarray(value, np.float32) for name, value in feeds.items()}
    return list(session(model, level).run(None, given))


def session(model: onnx.ModelProto, level: str = "ORT_DISABLE_ALL") -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


BEYOND = (
    "(float[2] x) => (float[2] y) { h = Cast<to=10>(x) p = Mul(h, a) q = Mul(p, a) r = Mul(q, b) y = Cast<to=1>(r) }"
)


@pytest.mark.parametrize("level", LEVELS)
def test_what_overflows_on_the_way_is_infinite_at_every_level(tmp_path, level):
    """ONNX Runtime finds 2700 in the file itself."""
    model = parsed(BEYOND, a=np.float16(300), b=np.float16(1e-4))
    assert np.isfinite(run(model, level, x=[300, 300])[0]).all()
    result, emulation = emulated(model, tmp_path)
    assert np.isinf(run(result, level, x=[300, 300])[0]).all()
    assert emulation == ({}, {}, 4, (tmp_path / "emulated.onnx").stat().st_size)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("kind", TYPES)
def test_casts_round_as_numpy_does(tmp_path, kind, level):
    """To nearest, ties to even, with subnormal numbers, overflow and infinities."""
    bits = np.random.default_rng(0).integers(0, 2**32, 1 << 16, np.uint32)
    values = bits.view(np.float32)
    halves = np.arange(1 << 16, dtype=np.uint16).view(TYPES[kind]).astype(np.float32)
    with np.errstate(all="ignore"):
        values = np.concatenate([values, halves, halves * np.float32(1 + 2**-11), halves * np.float32(1 + 2**-8)])
        values = values[~np.isnan(values)]
        expected = values.astype(TYPES[kind]).astype(np.float32)
    model = parsed(f"(float[N] x) => (float[N] y) {{ h = Cast<to={CODES[kind]}>(x) y = Cast<to=1>(h) }}")
    result, _ = emulated(model, tmp_path)
    np.testing.assert_array_equal(run(result, level, x=values)[0], expected)


def same_as_reference(model: onnx.ModelProto, folder: Path, kind: str = "float16", **feeds: Any) -> Emulation:
    """The emulation returns what NumPy computes in the types of the model."""
    result, emulation = emulated(model, folder)
    types = {one.name: one.type.tensor_type.elem_type for one in model.graph.input}
    given = {name: np.asarray(v, np.float32) for name, v in feeds.items()}
    narrow = {name: v.astype(TYPES[kind]) if types[name] == CODES[kind] else v for name, v in given.items()}
    with np.errstate(all="ignore"):
        expected = ReferenceEvaluator(model).run(None, narrow)
    codes = [one.type.tensor_type.elem_type for one in result.graph.output]
    assert TensorProto.FLOAT16 not in codes
    assert TensorProto.BFLOAT16 not in codes
    for found, wanted in zip(run(result, **given), expected, strict=True):
        np.testing.assert_array_equal(found, np.asarray(wanted, found.dtype))
    return emulation


X = np.random.default_rng(1).standard_normal(8) * 30

GRAPHS = {
    "inputs and outputs": "({t}[8] x) => ({t}[8] y) {{ a = Mul(x, x) y = Sub(a, x) }}",
    "an input with many readers": "({t}[8] x) => ({t}[8] y, {t}[8] z) {{ y = Add(x, x) z = Mul(x, y) }}",
    "CastLike": "({t}[8] x, float[8] z) => ({t}[8] y) {{ c = CastLike(z, x) y = Mul(c, x) }}",
    "a float behind": "({t}[8] x) => (float[8] y) {{ c = Cast<to=1>(x) y = Mul(c, c) }}",
    "whole numbers": "({t}[8] x) => ({t}[8] y) {{ c = Cast<to=7>(x) d = Cast<to={c}>(c) y = Mul(d, x) }}",
    "If": """({t}[8] x) => ({t}[8] y) {{ s = ReduceSum<keepdims=0>(x) f = Cast<to=1>(s) z = Sub(f, f) c = Less(z, f)
        y = If(c) <then_branch = g () => ({t}[8] u) {{ u = Mul(x, x) }},
                   else_branch = h () => ({t}[8] v) {{ w = Mul(x, x) v = Mul(w, x) }}> }}""",
    "Loop": """({t}[8] x) => ({t}[8] y, {t}[3,8] z) <int64 n = {{3}}, bool t = {{1}}> {{
        y, z = Loop(n, t, x) <body = b (int64 i, bool ci, {t}[8] a) => (bool co, {t}[8] o, {t}[8] s) {{
            co = Identity(ci) m = Mul(a, x) o = Sub(m, a) s = Add(o, x) }}> }}""",
    "layout": """({t}[8] x) => ({t}[4,2] y) <int64[2] s = {{4, 2}}> {{
        m = Mul(x, x) r = Reshape(m, s) t = Transpose(r) u = Relu(t) v = Transpose(u) y = Neg(v) }}""",
    "ConstantOfShape": """({t}[8] x) => ({t}[8] y) {{
        s = Shape(x) k = ConstantOfShape(s) c = CastLike(k, x) y = Add(c, x) }}""",
    "unsorted": "({t}[8] x) => ({t}[8] y) {{ a = Mul(x, x) b = Mul(a, x) y = Sub(b, a) }}",
    "stale value_info": "({t}[8] x) => ({t}[8] y) <float[8] a> {{ a = Mul(x, x) y = Sub(a, x) }}",
}


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("name", GRAPHS)
def test_graphs_compute_what_numpy_computes_in_their_types(tmp_path, name, kind):
    text = GRAPHS[name].format(t=kind, c=CODES[kind])
    model = parsed(text)
    if name == "unsorted":
        nodes = list(model.graph.node)
        expected = same_as_reference(model, tmp_path, kind, x=X)
        del model.graph.node[:]
        model.graph.node.extend(reversed(nodes))
        onnx.save(model, tmp_path / "model.onnx")
        assert emulate(tmp_path / "model.onnx", tmp_path / "again.onnx") == expected
        assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "emulated.onnx").read_bytes()
        return
    feeds = {"x": X, "z": X * 1.001} if "CastLike" in name else {"x": X}
    emulation = same_as_reference(model, tmp_path, kind, **feeds)
    assert emulation.inputs == {"x": kind}
    assert emulation.depth >= 1


def function(name: str, inputs: list[str], outputs: list[str], nodes: list[onnx.NodeProto], *attributes: str) -> Any:
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    return helper.make_function("local", name, inputs, outputs, nodes, opsets, list(attributes))


def test_a_function_is_rewritten_for_each_combination_of_types(tmp_path):
    square = function("Square", ["a"], ["b"], [helper.make_node("Mul", ["a", "a"], ["b"])])
    twice = [helper.make_node("Square", ["a"], ["c"], domain="local"), helper.make_node("Neg", ["c"], ["b"])]
    text = """(float16[8] x, float[8] z) => (float16[8] y, float[8] w) {
        a = local.Twice(x) y = local.Square(a) w = local.Twice(z) }"""
    model = parsed(text, imports=', "local" : 1')
    model.functions.extend([square, function("Twice", ["a"], ["b"], twice)])
    emulation = same_as_reference(model, tmp_path, x=X, z=X)
    assert (emulation.inputs, emulation.outputs, emulation.depth) == ({"x": "float16"}, {"y": "float16"}, 3)
    made = onnx.load(tmp_path / "emulated.onnx").functions
    assert len(made) == 4
    assert [sum(node.op_type == "Cast" for node in f.node) for f in made] == [2, 0, 0, 0]


@pytest.mark.parametrize("code", [TensorProto.FLOAT16, TensorProto.FLOAT])
def test_a_type_that_a_function_takes_as_an_attribute(tmp_path, code):
    cast = helper.make_node("Cast", ["a"], ["c"])
    cast.attribute.append(onnx.AttributeProto(name="to", type=onnx.AttributeProto.INT, ref_attr_name="kind"))
    body = [cast, helper.make_node("Mul", ["c", "c"], ["b"])]
    model = parsed("(float[8] x) => (float[8] y) { a = local.F(x) y = Cast<to=1>(a) }", imports=', "local" : 1')
    model.graph.node[0].attribute.append(helper.make_attribute("kind", code))
    model.functions.append(function("F", ["a"], ["b"], body, "kind"))
    emulation = same_as_reference(model, tmp_path, x=X)
    assert emulation.depth == (2 if code == TensorProto.FLOAT16 else 0)


def stored(kind: str, values: Any, name: str, how: str) -> TensorProto:
    """A constant of 16 bits, in raw bytes or with a number in each varint."""
    array = np.asarray(values).astype(TYPES[kind])
    if how == "raw":
        return helper.make_tensor(name, CODES[kind], array.shape, array.tobytes(), raw=True)
    tensor = TensorProto(name=name, data_type=CODES[kind], dims=array.shape)
    tensor.int32_data.extend(array.reshape(-1).view(np.uint16).astype(np.int32).tolist())
    return tensor


@pytest.mark.parametrize("size", [3, 70_000, 3_000_000])
@pytest.mark.parametrize("how", ["raw", "varints", "external", "attribute"])
@pytest.mark.parametrize("kind", TYPES)
def test_constants_keep_their_values(tmp_path, kind, how, size):
    bits = np.random.default_rng(2).integers(0, 2**16, size).astype(np.uint16)
    values = bits.view(TYPES[kind])
    values = np.where(np.isnan(values.astype(np.float32)), np.float32(1), values).astype(TYPES[kind])
    model = parsed(f"({kind}[N] x) => ({kind}[N] y) {{ y = Mul(x, w) }}")
    tensor = stored(kind, values, "w", "varints" if how == "varints" else "raw")
    if how == "attribute":
        model.graph.node.insert(0, helper.make_node("Constant", [], ["w"], value=tensor))
    else:
        model.graph.initializer.append(tensor)
    if how == "external":
        onnx.save(model, tmp_path / "model.onnx", save_as_external_data=True, size_threshold=0)
        model = onnx.load(tmp_path / "model.onnx", load_external_data=False)
    onnx.save(model, tmp_path / "model.onnx")
    emulate(tmp_path / "model.onnx", tmp_path / "emulated.onnx")
    result = onnx.load(tmp_path / "emulated.onnx")
    held = result.graph.node[2].attribute[0].t if how == "attribute" else result.graph.initializer[0]
    found = numpy_helper.to_array(held)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, values.astype(np.float32))


def test_weights_are_not_loaded(tmp_path, monkeypatch):
    model = parsed("(float16[N] x) => (float16[N] y) { y = Mul(x, w) }")
    model.graph.initializer.append(stored("float16", np.ones(5_000_000), "w", "raw"))
    onnx.save(model, tmp_path / "model.onnx")
    largest = 0
    read = onnxfile.Span.read_into

    def watched(self: Any, buffer: Any, start: int = 0) -> None:
        nonlocal largest
        largest = max(largest, memoryview(buffer).nbytes)
        read(self, buffer, start)

    monkeypatch.setattr(onnxfile.Span, "read_into", watched)
    emulate(tmp_path / "model.onnx", tmp_path / "emulated.onnx")
    assert 0 < largest <= 1 << 21


def test_a_sparse_constant_keeps_its_values(tmp_path):
    model = parsed("(float16[4] x) => (float16[4] y) { y = Mul(x, w) }")
    values, indices = stored("float16", [2.5, 300], "w", "raw"), numpy_helper.from_array(np.array([0, 3]), "i")
    sparse = helper.make_sparse_tensor(values, indices, [4])
    model.graph.node.insert(0, helper.make_node("Constant", [], ["w"], sparse_value=sparse))
    result, _ = emulated(model, tmp_path)
    np.testing.assert_array_equal(run(result, x=[1, 2, 3, 300])[0], [2.5, 0, 0, np.inf])


def test_a_default_of_an_input_is_a_default_still(tmp_path):
    model = parsed("(float16[4] x, float16[4] w) => (float16[4] y) { y = Mul(x, w) }", w=np.full(4, 2.5, np.float16))
    result, emulation = emulated(model, tmp_path)
    assert emulation.inputs == {"x": "float16"}
    np.testing.assert_array_equal(run(result, x=[1, 2, 3, 4])[0], [2.5, 5, 7.5, 10])
    np.testing.assert_array_equal(run(result, x=[1, 2, 3, 4], w=[1, 1, 1, 1])[0], [1, 2, 3, 4])


ATTRIBUTES = {
    "EyeLike": ("(float[2,2] x) => (float[2,2] y) {{ e = EyeLike<dtype={c}>(x) m = Add(e, e) y = Cast<to=1>(m) }}", 17),
    "EyeLike of its input": ("({t}[2,2] x) => ({t}[2,2] y) {{ e = EyeLike(x) y = Add(e, e) }}", 17),
    "RandomUniform": (
        """(float[2,2] x) => (float[2,2] y) {{
            r = RandomUniform<dtype={c}, shape=[2, 2]>() m = Add(r, r) y = Cast<to=1>(m) }}""",
        17,
    ),
    "RandomNormalLike": (
        "({t}[2,2] x) => (float[2,2] y) {{ r = RandomNormalLike(x) m = Add(r, r) y = Cast<to=1>(m) }}",
        17,
    ),
    "LayerNormalization": (
        "({t}[2,2] x) => ({t}[2,2] y) {{ k = ReduceMean<axes=[0], keepdims=0>(x) y = LayerNormalization(x, k, k) }}",
        17,
    ),
    "Resize": (
        """({t}[1,1,2,2] x) => ({t}[1,1,4,4] y) <float[4] s = {{1, 1, 2, 2}}> {{
            y = Resize<mode="linear">(x, , s) }}""",
        13,
    ),
    "DequantizeLinear": (
        "({t}[2,2] x) => ({t}[2,2] y) {{ q = Cast<to=3>(x) s = ReduceMax<keepdims=0>(x) y = DequantizeLinear(q, s) }}",
        21,
    ),
    "TopK and ScatterND": (
        """({t}[4] x) => ({t}[4] y) <int64[1] k = {{2}}, int64[2,1] i = {{0, 3}}> {{
            v, j = TopK(x, k) y = ScatterND(x, i, v) }}""",
        17,
    ),
    "a sequence": (
        """({t}[4] x) => ({t}[4] y) <int64 i = {{1}}> {{
            m = Mul(x, x) s = SequenceConstruct(x, m) e = SequenceAt(s, i) y = Add(e, x) }}""",
        17,
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("name", ATTRIBUTES)
def test_operators_with_types_in_attributes_and_of_their_own(tmp_path, name, kind):
    text, opset = ATTRIBUTES[name]
    model = parsed(text.format(t=kind, c=CODES[kind]), opset)
    if kind == "bfloat16" and name.startswith("EyeLike"):
        model.opset_import[0].version = 22  # the first in which it has it
    if kind == "bfloat16" and name.startswith("Random"):
        pytest.skip("ONNX Runtime has no kernel of that operator set")
    result, emulation = emulated(model, tmp_path)
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    (found,) = run(result, x=np.random.default_rng(3).standard_normal(shape))
    np.testing.assert_array_equal(found, found.astype(TYPES[kind]).astype(np.float32))
    assert np.isfinite(found).all()
    assert emulation.depth >= 1


def test_what_reads_bits_is_not_emulated(tmp_path):
    node = helper.make_node("BitCast", ["x"], ["y"], to=TensorProto.INT16)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT16, [4])],
        [helper.make_tensor_value_info("y", TensorProto.INT16, [4])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 26)]), tmp_path / "model.onnx")
    with pytest.raises(EmulationError, match="BitCast reads the bits"):
        emulate(tmp_path / "model.onnx", tmp_path / "emulated.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_operators_of_the_runtime_have_the_type_of_their_data(tmp_path):
    gelu = "(float16[8] x) => (float16[8] y) { g = com.microsoft.FastGelu(x) y = Mul(g, g) }"
    model = parsed(gelu, imports=', "com.microsoft" : 1')
    onnx.save(model, tmp_path / "model.onnx")
    emulation = emulate(tmp_path / "model.onnx", tmp_path / "emulated.onnx")
    assert emulation.depth == 3
    (found,) = run(onnx.load(tmp_path / "emulated.onnx"), x=X * 10)
    assert np.isinf(found).any()


def test_names_that_are_taken_are_not_taken_again(tmp_path):
    model = parsed("(float16[8] emulated_1) => (float16[8] emulated_2) { emulated_2 = Mul(emulated_1, emulated_1) }")
    emulation = same_as_reference(model, tmp_path, emulated_1=X)
    assert emulation.inputs == {"emulated_1": "float16"}


# --- every number with fewer digits -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TYPES)
def test_digits_are_rounded_as_the_type_does_and_the_range_stays(tmp_path, kind):
    """Beyond the range of the type, too; infinities become large numbers, NaN stays NaN."""
    onnx.save(parsed("(float[N] x) => (float[N] y) { y = Identity(x) }"), tmp_path / "model.onnx")
    assert roughen(tmp_path / "model.onnx", tmp_path / "rough.onnx", kind).depth == 1
    result = onnx.load(tmp_path / "rough.onnx")
    onnx.checker.check_model(result, full_check=True)
    values = np.random.default_rng(4).standard_normal(1000).astype(np.float32)
    for scale in (1, 2.0**40, 2.0**-40):
        (found,) = run(result, x=values * np.float32(scale))
        np.testing.assert_array_equal(found, values.astype(TYPES[kind]).astype(np.float32) * np.float32(scale))
    (found,) = run(result, x=[np.inf, -np.inf, np.nan, 0])
    assert np.isnan(found[2])
    assert abs(found[0]) > 1e29 < abs(found[1])
    assert found[3] == 0


def test_every_number_is_rounded_and_what_can_only_be_float32_is_not(tmp_path):
    text = """(float[1,1,4,4] x, bool c) => (float[1,1,A,B] y) <float[4] s = {1, 1, 1.7, 1.7}, float[1] w = {0.3}> {
        m = If(c) <then_branch = g () => (float[1,1,4,4] u) { u = Mul(x, w) },
                   else_branch = h () => (float[1,1,4,4] v) { v = local.F(x) }>
        y = Resize<mode="nearest">(m, , s) }"""
    model = parsed(text, imports=', "local" : 1')
    model.functions.append(function("F", ["a"], ["b"], [helper.make_node("Exp", ["a"], ["b"])]))
    onnx.save(model, tmp_path / "model.onnx")
    assert roughen(tmp_path / "model.onnx", tmp_path / "rough.onnx", "float16").depth == 3
    result = onnx.load(tmp_path / "rough.onnx")
    onnx.checker.check_model(result, full_check=True)
    assert next(node for node in result.graph.node if node.op_type == "Resize").input[2] == "s"
    x = np.random.default_rng(5).standard_normal((1, 1, 4, 4)).astype(np.float32)
    for branch in (True, False):
        (found,) = session(result).run(None, {"x": x, "c": np.array(branch)})
        assert found.shape == (1, 1, 6, 6)
        half, w = x.astype(np.float16), np.float16(0.3)
        expected = half * w if branch else np.exp(half.astype(np.float32)).astype(np.float16)
        assert set(found.reshape(-1)) <= set(expected.astype(np.float32).reshape(-1))


def test_what_it_takes_an_operator_set_for(tmp_path):
    onnx.save(parsed("(float[N] x) => (float[N] y) { y = Exp(x) }", 10), tmp_path / "model.onnx")
    with pytest.raises(EmulationError, match="operator set 10, and this takes 11"):
        roughen(tmp_path / "model.onnx", tmp_path / "rough.onnx", "float16")


# --- random graphs ----------------------------------------------------------------------------------------------

random_graphs = settings(
    max_examples=40, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)


def loads(model: onnx.ModelProto) -> bool:
    """Whether the types are those of the standard; that there is no kernel for one is another matter."""
    try:
        session(model)
    except Exception as error:  # noqa: BLE001  the runtime's exceptions have no common base class
        return "Type Error" not in str(error) and "INVALID_GRAPH" not in str(error)
    return True


def runs(model: onnx.ModelProto, feeds: dict[str, Any]) -> bool:
    """Whether the runtime has all kernels for a model of float32."""
    try:
        session(model).run(
            None, {name: v.astype(np.float32) if v.dtype.kind == "f" else v for name, v in feeds.items()}
        )
    except Exception:  # noqa: BLE001  as above
        return False
    return True


def with_outputs(model: onnx.ModelProto, names: set[str]) -> onnx.ModelProto:
    """The model with more values of its main graph as outputs."""
    known = {value.name for value in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted(names - known))
    return model


@random_graphs
@given(drawn=st.one_of(graphs(), stacks()), kind=st.sampled_from(list(TYPES)))
def test_random_graphs_hold_nothing_but_16_bits(tmp_path_factory, drawn, kind):
    """Every value that the lowered graph stores in 16 bits is such a number in its emulation."""
    model, feeds = drawn
    model = single(model)
    half = lowered(model, CODES[kind])
    assume(runs(model, feeds) and loads(half))
    result, emulation = emulated(half, tmp_path_factory.mktemp("random"))
    assert emulation.depth > 0
    stored = {name for node in half.graph.node for name in node.output if name}
    running = session(with_outputs(result, stored))
    given = {name: value.astype(np.float32) if value.dtype.kind == "f" else value for name, value in feeds.items()}
    found = dict(zip([one.name for one in running.get_outputs()], running.run(None, given), strict=True))
    for name in stored - {value.name for value in half.graph.output}:
        value = np.asarray(found[name])
        if value.dtype == np.float32:
            with np.errstate(over="ignore"):
                np.testing.assert_array_equal(value, value.astype(TYPES[kind]).astype(np.float32), err_msg=name)


@random_graphs
@given(drawn=st.one_of(graphs(), stacks()))
def test_random_graphs_with_fewer_digits_compute_nearly_the_same(tmp_path_factory, drawn):
    model, feeds = drawn
    model = single(model)
    assume(runs(model, feeds))
    folder = tmp_path_factory.mktemp("random")
    onnx.save(model, folder / "model.onnx")
    roughen(folder / "model.onnx", folder / "rough.onnx", "float16")
    rough = onnx.load(folder / "rough.onnx")
    onnx.checker.check_model(rough, full_check=True)
    given = {name: value.astype(np.float32) if value.dtype.kind == "f" else value for name, value in feeds.items()}
    pairs = [session(one).run(None, given) for one in (model, rough)]
    for exact, rounded in zip(*pairs, strict=True):
        assert exact.shape == rounded.shape
        assert exact.dtype == rounded.dtype
