"""Where constants come from: every form of a Constant node, sparse tensors, and operators on constants."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from folding import Options, Outcome, fold_model
from folding import fold as fold_file
from folding.analysis import selecting
from folding.onnxfile.skeleton import INLINE_BYTES
from folding.onnxfile.wire import header
from tests.support import structures
from tests.support.models import DIGITS, NO_VERIFY, SITE, Model, assert_same_function, fold
from tests.support.rows.row import Kept, into, judge, out, start


def simple(outputs: int = 6, dtype: type = np.float64) -> Model:
    m = Model(dtype=dtype)
    out(m, m.bn(m.conv(start(m), outputs)))
    return m


def checked(before: onnx.ModelProto, m: Model, options: Options = NO_VERIFY) -> onnx.ModelProto:
    after, report = fold(before, options)
    outcome = next(o for o in report.outcomes if o.node == SITE)
    judge(outcome, into("Conv"), {n.name: n.op_type for n in before.graph.node})
    assert_same_function(before, after, m.feeds, DIGITS[m.dtype])
    return after


@pytest.mark.parametrize("outputs", [6, 40])
@pytest.mark.parametrize("sparse", [False, True])
def test_constant_nodes(outputs, sparse):
    m = simple(outputs)
    after = checked(structures.with_constant_nodes(m.build(), list(m.initializers), sparse=sparse), m)
    assert [n.op_type for n in after.graph.node] == ["Asinh", "Conv", "Asinh"]


FORMS = [
    ("value_float", 2.0, ()),
    ("value_floats", [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], (6,)),
    ("value_floats", [float(n % 7 + 1) for n in range(INLINE_BYTES)], (INLINE_BYTES,)),
]


@pytest.mark.parametrize(("form", "value", "shape"), FORMS, ids=["value_float", "value_floats", "many value_floats"])
def test_numbers_as_attributes(form, value, shape):
    m = Model(dtype=np.float32)
    x = m.op("Gemm", start(m, 3, 4), m.constant((4, *(shape or (5,)))))
    out(m, m.op("Mul", x, m.op("Constant", **{form: value}), name=SITE))
    _, report = fold(m.build())
    judge(report.outcomes[0], into("Gemm"), {n.name: n.op_type for n in m.nodes})
    after, _ = fold(m.build())
    assert_same_function(m.build(), after, m.feeds, DIGITS[m.dtype])


@pytest.mark.parametrize("count", [3, INLINE_BYTES])
def test_integers_as_attributes(count):
    """A table of places, each of two bytes: the larger one is left in the file."""
    m = Model()
    places = m.op("Constant", value_ints=[200 - n % 3 for n in range(count)])
    x = m.op("Gemm", start(m, 3, 4), m.constant((4, count)))
    out(m, m.op("Mul", x, m.op("Gather", m.constant((201,)), places), name=SITE))
    before = m.build()
    after, report = fold(before)
    assert report.outcomes[0].status == "folded"
    assert_same_function(before, after, m.feeds, DIGITS[m.dtype])


PACKED = [
    ("value_floats", onnx.AttributeProto.FLOATS, 7, np.full(INLINE_BYTES, 2, np.float32).tobytes()),
    ("value_ints", onnx.AttributeProto.INTS, 8, bytes([2] * (2 * INLINE_BYTES))),
]


@pytest.mark.parametrize(("form", "kind", "number", "data"), PACKED, ids=[row[0] for row in PACKED])
def test_packed_numbers_stay_in_the_file(form, kind, number, data, tmp_path):
    """Another writer packs the numbers of an attribute, so that they are one large field."""
    m = Model(dtype=np.float32)
    count = len(data) // (4 if form == "value_floats" else 1)
    x = m.op("Gemm", start(m, 3, 4), m.constant((4, count)))
    table = m.constant(np.arange(1.0, 4.0), name="table")
    m.values["numbers"] = np.full(count, 2)
    scale = "numbers" if form == "value_floats" else m.op("Gather", table, "numbers")
    out(m, m.op("Mul", x, scale, name=SITE))
    model = m.build()
    graph, node = onnx.GraphProto(), onnx.NodeProto(op_type="Constant", output=["numbers"], name="packed")
    graph.CopyFrom(model.graph)
    model.ClearField("graph")
    attribute = onnx.AttributeProto(name=form, type=kind).SerializeToString() + header(number, len(data)) + data
    operator = node.SerializeToString() + header(5, len(attribute)) + attribute
    whole = header(1, len(operator)) + operator + graph.SerializeToString()
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString() + header(7, len(whole)) + whole)
    report = fold_file(tmp_path / "m.onnx", tmp_path / "n.onnx")
    judge(report.outcomes[0], into("Gemm"), {n.name: n.op_type for n in m.nodes})
    assert report.verification.status == "verified"


@pytest.mark.parametrize("attributes", [{"value_string": "x"}, {"value_strings": ["x"]}])
def test_strings_are_no_weights(attributes):
    m = Model()
    text = helper.make_node("Constant", [], ["text"], **attributes)
    m.nodes.append(text)
    x = start(m)
    out(m, m.op("Mul", m.conv(x, 6), "text", name=SITE, like=x))
    before = m.build()
    assert fold_model(before, NO_VERIFY)[0] == before


# --- sparse initializers ------------------------------------------------------------------------------------


def with_sparse_initializers(m: Model, names: list[str], *, flat: bool = True) -> onnx.ModelProto:
    before = m.build()
    chosen = [t for t in before.graph.initializer if t.name in names]
    rest = [t for t in before.graph.initializer if t.name not in names]
    del before.graph.initializer[:]
    before.graph.initializer.extend(rest)
    for tensor in chosen:
        sparse = structures.sparse_tensor(tensor)
        if not flat:
            places = np.argwhere(numpy_helper.to_array(tensor)).astype(np.int64)
            sparse.indices.CopyFrom(numpy_helper.from_array(places))
        before.graph.sparse_initializer.append(sparse)
    return before


@pytest.mark.parametrize("flat", [True, False])
def test_sparse_initializers_become_dense_where_they_are_folded(flat):
    m = simple()
    m.initializers["c0"][::2] = 0
    before = with_sparse_initializers(m, ["c0", "c2"], flat=flat)
    after = checked(before, m)
    assert not after.graph.sparse_initializer
    assert len(after.graph.initializer) == 2


def test_a_sparse_initializer_that_another_reads_stays():
    m = Model()
    x = start(m)
    w = m.constant((4, 4, 3, 3))
    out(m, m.op("Conv", out(m, m.bn(m.op("Conv", x, w))), w))
    before = with_sparse_initializers(m, [w])
    after = checked(before, m)
    assert after.graph.sparse_initializer == before.graph.sparse_initializer


def test_an_overridable_sparse_initializer_is_no_constant():
    m = simple()
    m.overridable = {"c0"}
    before = with_sparse_initializers(m, ["c0"])
    _, report = fold_model(before, NO_VERIFY)
    judge(report.outcomes[0], Kept("overridable", "barrier"), {})
    after, _ = fold_model(before, Options(verify=False, freeze_initializers=True))
    assert [value.name for value in after.graph.input] == ["x0"]
    assert not after.graph.sparse_initializer


BROKEN = [
    ("beyond the end", np.array([0, 6])),
    ("negative", np.array([-1, 2])),
    ("too few", np.array([1])),
    ("two coordinates for one axis", np.array([[0, 0], [0, 1]])),
]


@pytest.mark.parametrize(("name", "places"), BROKEN, ids=[name for name, _ in BROKEN])
def test_indices_that_do_not_fit(name, places):
    m = simple()
    m.initializers["c2"][2:] = 0
    before = with_sparse_initializers(m, ["c2"])
    before.graph.sparse_initializer[0].indices.CopyFrom(numpy_helper.from_array(places.astype(np.int64)))
    after, report = fold_model(before, NO_VERIFY)
    judge(report.outcomes[0], Kept("parameters", "parameters"), {})
    assert after == before


# --- operators on constants -----------------------------------------------------------------------------------


def scale(m: Model, op: str, *inputs: str, **attributes: object) -> Outcome:
    """Conv, then Mul with what an operator makes of constants."""
    x = m.conv(start(m), 6)
    made = m.op(op, *inputs, like=m.constant((6, 1, 1)), **attributes)
    out(m, m.op("Mul", x, made, name=SITE, like=x))
    _, report = fold_model(m.build(), NO_VERIFY)
    return next(o for o in report.outcomes if o.node == SITE)


def test_what_cannot_be_computed_is_no_constant():
    m = Model()
    gamma = m.op("Concat", m.constant((2,)), m.constant((2, 2)), axis=0, like=m.constant((4,)))
    x = start(m)
    out(m, m.op("BatchNormalization", x, gamma, *(m.constant(np.ones(4)) for _ in range(3)), name=SITE))
    _, report = fold_model(m.build(), NO_VERIFY)
    judge(report.outcomes[0], Kept("parameters", "parameters"), {})


def test_nothing_large_is_computed(monkeypatch):
    monkeypatch.setattr(selecting, "VALUES_LIMIT", 5)
    m = Model()
    outcome = scale(m, "Expand", m.constant((1, 1, 1)), m.constant(np.array([6, 1, 1])))
    judge(outcome, Kept("too-large", "too-large"), {})


def test_a_reference_that_fails_is_no_answer(monkeypatch):
    def fail(*_: object) -> None:
        raise RuntimeError("no result")

    monkeypatch.setattr("onnx.reference.ReferenceEvaluator.run", fail)
    m = Model()
    judge(scale(m, "Exp", m.constant((6, 1, 1))), Kept("parameters", "parameters"), {})


def test_negative_integers_are_not_divided():
    m = Model()
    size = m.op("Div", m.constant(np.array([-6])), m.constant(np.array([-1])))
    shape = m.op("Concat", size, m.constant(np.array([1, 1])), axis=0)
    judge(scale(m, "Expand", m.constant((1, 1, 1)), shape), Kept("parameters", "parameters"), {})


@pytest.mark.parametrize("opset", [15, 17])
def test_parts_of_shapes(opset):
    m = Model(opset)
    x = m.conv(start(m), 6)
    sizes = m.op("Shape", x, start=1, end=2, like=m.constant(np.array([6])))
    shape = m.op("Concat", sizes, m.constant(np.array([1, 1])), axis=0)
    factor = m.op("Expand", m.constant((1, 1, 1)), shape)
    count = m.op("Cast", m.op("Size", m.constant((7,)), like=m.constant(np.array(7))), to=11)
    out(m, m.op("Div", m.op("Mul", x, factor, name=SITE), count))
    _, report = fold_model(m.build(), NO_VERIFY)
    assert [o.status for o in report.outcomes] == ["folded", "folded"]


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_constants_are_computed_in_their_own_type(dtype):
    """A runtime overflows in fp16 where float64 does not: the scale is infinite."""
    m = Model(dtype=dtype)
    x = m.conv(start(m), 6)
    power = m.op("Pow", m.constant(np.full((6, 1, 1), 300.0)), m.constant(np.array(2.0)))
    out(m, m.op("Mul", x, power, name=SITE))
    _, report = fold_model(m.build(), NO_VERIFY)
    assert report.outcomes[0].status == ("kept" if dtype == np.float16 else "folded")
