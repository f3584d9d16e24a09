"""Values beyond float16 are scaled by powers of two between the weights around them: exactly, or not at all."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import HealthCheck, given, settings

from folding import Options, fold_model, onnxfile
from folding.analysis import shapes
from folding.analysis.values import indexed
from folding.editing.writeback import write_back
from folding.precision.lower import lower
from folding.scaling.balance import KEY, SCALED, balance
from folding.verification.ranges import Range
from tests.folding.test_precision_gate import EXAMPLES, FIXED
from tests.support.halved import single
from tests.support.lowering import HALF, casts, parsed, ran, random_feeds, types
from tests.support.strategies.graphs import graphs, wrapped
from tests.support.strategies.stacks import stacks

OPTIONS = Options(precision="fp16", verify=False)
HEAVY = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
BIG, SMALL = 3e6, 1e-6
RNG = np.random.default_rng(0)
WEIGHTS = {
    "big": RNG.standard_normal((4, 4, 1, 1)) * BIG / 100,
    "offset": RNG.standard_normal(4) * BIG,
    "mid": RNG.standard_normal((4, 4, 1, 1)),
    "small": RNG.standard_normal((4, 4, 1, 1)) * SMALL,
    "wide": RNG.standard_normal((4, 8, 1, 1)) * SMALL,
    "turned": RNG.standard_normal((4, 2, 2, 2)) * SMALL,
    "matrix": RNG.standard_normal((4, 4)) * BIG / 100,
    "last": RNG.standard_normal((4, 4)) * SMALL,
    "row": RNG.standard_normal(4) * BIG,
    "deep": RNG.standard_normal((4, 1, 1, 1)) * SMALL,
    "six": np.array(6.0),
    "low": np.array(-1e6),
    "high": np.array(1e6),
    "slope": np.array([[[0.1]], [[0.2]], [[0.3]], [[0.4]]]),
    "factor": RNG.standard_normal((1, 4, 1, 1)) * SMALL,
}  # fmt: skip
FOUR = "(float[2,4,6,6] x) => (float[N,M,H,W] y)"
TWO = "(float[2,4] x) => (float[2,4] y)"
START = "a = Conv(x, big, offset)"
MADE: dict[str, tuple[str, str]] = {
    "Conv": (FOUR, "y = Conv(a, small)"),
    "Relu": (FOUR, "b = Relu(a) y = Conv(b, small)"),
    "LeakyRelu": (FOUR, "b = LeakyRelu <alpha: float = 0.3> (a) y = Conv(b, small)"),
    "PRelu": (FOUR, "b = PRelu(a, slope) y = Conv(b, small)"),
    "Clip": (FOUR, "b = Clip(a, low, high) y = Conv(b, small)"),
    "MaxPool": (FOUR, "b = MaxPool <kernel_shape = [2, 2]> (a) y = Conv(b, small)"),
    "AveragePool": (FOUR, "b = AveragePool <kernel_shape = [2, 2]> (a) y = Conv(b, small)"),
    "ConvTranspose": (FOUR, "b = Relu(a) y = ConvTranspose <group = 2> (b, turned)"),
    "depthwise": (FOUR, "b = Relu(a) y = Conv <group = 4> (b, deep)"),
    "residual": (FOUR, "r = Relu(a) c = Conv(r, mid) s = Add(r, c) t = Relu(s) y = Conv(t, small)"),
    "two residual sums": (
        FOUR,
        "r = Relu(a) c = Conv(r, mid) s = Add(r, c) t = Relu(s) d = Conv(t, mid) u = Add(t, d) y = Conv(u, small)",
    ),
    "both sides": (FOUR, "r = Relu(a) c = Conv(r, mid) q = Relu(c) y = Conv(q, small)"),
    "Concat": (FOUR, "c = Conv(x, mid) b = Concat <axis = 1> (a, c) y = Conv(b, wide)"),
    "Concat of two": (FOUR, "c = Conv(x, big) b = Concat <axis = 1> (c, a) y = Conv(b, wide)"),
    "Transpose": (FOUR, "b = Transpose <perm = [0, 1, 3, 2]> (a) y = Conv(b, small)"),
    "two readers": (FOUR, "b = Conv(a, small) r = Relu(a) c = Conv(r, small) y = Add(b, c)"),
    "gate": (FOUR, "g = GlobalAveragePool(a) h = Conv(g, small) s = Sigmoid(h) m = Mul(a, s) y = Conv(m, small)"),
    "Mul by a constant": (FOUR, "y = Mul(a, factor)"),
    "Div by a constant": (FOUR, "b = Div(a, six) y = Conv(b, small)"),
    "Add of a constant": (FOUR, "b = Add(a, high) y = Conv(b, small)"),
    "Shape": (FOUR, "n = Shape(a) b = Relu(a) r = Reshape(b, n) y = Conv(r, small)"),
    "shared weight": (
        FOUR,
        "r = Relu(a) c = Conv(x, big) q = Relu(c) u = Conv(r, small) v = Conv(q, small) y = Add(u, v)",
    ),
    "Flatten and Gemm": ("(float[2,4,1,1] x) => (float[2,4] y)", "b = Flatten(a) y = Gemm(b, last)"),
    "Gemm": (TWO, "a = Gemm(x, matrix, row) b = Relu(a) y = Gemm <transB = 1> (b, last, six)"),
    "MatMul": (TWO, "a = MatMul(x, matrix) b = Relu(a) y = MatMul(b, last)"),
}
REFUSED: dict[str, tuple[str, str]] = {
    "graph output": ("(float[2,4,6,6] x) => (float[2,4,6,6] a, float[2,4,6,6] y)", "y = Conv(a, small)"),
    "Sigmoid": (FOUR, "s = Sigmoid(a) y = Conv(s, small)"),
    "one of two readers": (FOUR, "s = Sigmoid(a) b = Conv(a, small) y = Add(s, b)"),
    "Sigmoid behind Relu": (FOUR, "r = Relu(a) s = Sigmoid(r) c = Conv(r, small) y = Mul(c, s)"),
    "a graph input in the sum": (FOUR, "s = Add(a, x) y = Conv(s, small)"),
    "a square": (FOUR, "s = Mul(a, a) r = Sqrt(s) y = Conv(r, small)"),
    "only one bound": (FOUR, "s = Max(a, x) y = Conv(s, small)"),
    "weights without room": (FOUR, "r = Relu(a) y = Conv(r, tiny)"),
    "a nested graph reads it": (
        FOUR,
        ("c = Cast <to = 9> (yes) y = If (c) <then_branch = g () => (float[N,M,H,W] t) { t = Conv(a, small) }, "
        "else_branch = h () => (float[N,M,H,W] e) { e = Relu(a) }>"),
    ),
}  # fmt: skip


def model_of(row):
    header, text = row
    start = "" if "a = " in text else START
    model = parsed(f"g {header} {{ {start} {text} }}")
    used = {name for node in model.graph.node for name in _read(node)}
    constants = WEIGHTS | {"tiny": WEIGHTS["small"] * 1e-33, "yes": np.array(1.0)}
    for name in sorted(used & constants.keys()):
        model.graph.initializer.append(onnx.numpy_helper.from_array(constants[name].astype(np.float32), name))
    onnx.checker.check_model(model)
    return model


def _read(node):
    yield from node.input
    for attribute in node.attribute:
        for inner in attribute.g.node:
            yield from _read(inner)


def ranges_of(model, feeds):
    """The ranges of all values that operators of the main graph make."""
    wide = onnx.ModelProto()
    wide.CopyFrom(onnx.shape_inference.infer_shapes(model))
    made = {name for node in model.graph.node for name in node.output}
    known = {value.name for value in model.graph.output}
    wide.graph.output.extend(v for v in wide.graph.value_info if v.name in made - known)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(wide.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_outputs()]
    found = dict(zip(names, session.run(names, feeds), strict=True))
    return {name: Range.of(values) for name, values in found.items() if values.dtype == np.float32}


def balanced(model, options=OPTIONS, blocked=()):
    """The balanced model, and what was done."""
    with onnxfile.from_bytes(model.SerializeToString()) as file:
        graph = indexed(file)
        shapes.infer(graph)
        done = balance(graph, options, ranges_of(model, random_feeds(model)), blocked)
        write_back(graph)
        return onnx.ModelProto.FromString(onnxfile.to_bytes(file)), done


def lowered(model):
    with onnxfile.from_bytes(model.SerializeToString()) as file:
        graph = indexed(file)
        shapes.infer(graph)
        lower(graph, "fp16", ranges=ranges_of(model, random_feeds(model)))
        write_back(graph)
        return onnx.ModelProto.FromString(onnxfile.to_bytes(file))


def assert_identical(before, after):
    """Every bit of the outputs is the same."""
    for seed in range(3):
        feeds = random_feeds(before, seed)
        for expected, found in zip(ran(before, feeds), ran(after, feeds), strict=True):
            assert expected.tobytes() == found.tobytes()


@pytest.mark.parametrize("row", MADE)
def test_a_power_of_two_moves_out_of_the_way(row):
    model = model_of(MADE[row])
    after, done = balanced(model)
    assert {change.kind for change in done.changes} == {SCALED}
    assert [node.op_type for node in after.graph.node] == [node.op_type for node in model.graph.node]
    assert_identical(model, after)
    assert all(one.largest < 65504 / 4 for one in ranges_of(after, random_feeds(model)).values())
    again, more = balanced(after)
    assert (again, more.changes) == (after, [])


@pytest.mark.parametrize("row", MADE)
def test_everything_heavy_is_then_in_float16(row):
    after = lowered(balanced(model_of(MADE[row]))[0])
    known = types(after)
    assert all(known[node.output[0]] == HALF for node in after.graph.node if node.op_type in HEAVY)
    assert casts(after) == 2


@pytest.mark.parametrize("row", REFUSED)
def test_all_or_nothing(row):
    model = model_of(REFUSED[row])
    after, done = balanced(model)
    assert (after, done.changes, done.notes) == (model, [], [])


@pytest.mark.parametrize(
    ("options", "blocked"),
    [
        (Options(precision="fp16", keep=("first",)), ()),
        (Options(precision="fp16", keep_fp32=("first",)), ()),
        (OPTIONS, {KEY + "a", KEY + "b"}),
    ],
)
def test_what_is_kept_or_blocked_stays(options, blocked):
    model = model_of(MADE["Relu"])
    model.graph.node[0].name = "first"
    assert balanced(model, options, blocked) == (model, balanced(model_of(REFUSED["Sigmoid"]))[1])


def test_a_weight_that_a_caller_may_change_is_no_constant():
    model = model_of(MADE["Relu"])
    model.graph.input.append(onnx.helper.make_tensor_value_info("small", 1, [4, 4, 1, 1]))
    feeds = random_feeds(model)
    with onnxfile.from_bytes(model.SerializeToString()) as file:
        graph = indexed(file)
        shapes.infer(graph)
        assert not balance(graph, OPTIONS, ranges_of(model, feeds)).changes


def of_channels(factors, inverse):
    """Two convolutions, of which the channels between them have weights of different magnitudes."""
    model = parsed("g (float[2,4,6,6] x) => (float[2,4,6,6] y) { a = Conv(x, w) b = Relu(a) y = Conv(b, v) }")
    factors, inverse = np.array(factors), np.array(inverse)
    for name, values in {
        "w": WEIGHTS["mid"] * factors[:, None, None, None],
        "v": WEIGHTS["mid"] * inverse[:, None, None],
    }.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(values.astype(np.float32), name))
    return model


@pytest.mark.parametrize(
    ("factors", "inverse"),
    [([1, 1e-7, 1, 1], [1, 1e3, 1, 1]), ([1, 1, 4e3, 1], [1, 1, 1e-6, 1])],
    ids=["before", "behind"],
)  # fmt: skip
def test_a_channel_whose_weights_would_vanish_is_scaled_alone(factors, inverse):
    model = of_channels(factors, inverse)
    after, done = balanced(model)
    assert len(done.changes) == 1
    assert_identical(model, after)
    weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in after.graph.initializer}
    sizes = [np.abs(weights["w"]).max(axis=(1, 2, 3)), np.abs(weights["v"]).max(axis=(0, 2, 3))]
    assert min(map(np.min, sizes)) > 2.0**-17
    moved = np.abs(weights["w"] / onnx.numpy_helper.to_array(model.graph.initializer[0])).max(axis=(1, 2, 3))
    assert sum(moved != 1) == 1
    assert balanced(after)[1].changes == []


def test_small_weights_that_nothing_can_make_good_stay():
    model = of_channels([1, 1e-7, 1, 1], [1, 1e-7, 1, 1])
    assert balanced(model)[0] == model


def test_a_value_that_is_too_small_is_raised():
    model = of_channels([1e-6] * 4, [1e4] * 4)
    after, done = balanced(model)
    assert done.changes
    assert_identical(model, after)
    assert min(one.largest for one in ranges_of(after, random_feeds(model)).values()) > 2.0**-14


@given(graphs() | wrapped() | stacks())
@settings(
    max_examples=EXAMPLES, derandomize=FIXED, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)
def test_random_graphs_compute_the_same_bits(made):
    """Every value is said to be beyond the range: what can be scaled is, wherever it lies."""
    model = single(made[0])
    feeds = {name: v.astype(np.float32) if v.dtype == np.float64 else v for name, v in made[1].items()}
    with onnxfile.from_bytes(model.SerializeToString()) as file:
        graph = indexed(file)
        shapes.infer(graph)
        said = {name: Range(largest=2.0**18, count=1) for name in graph.main.producers}
        done = balance(graph, OPTIONS, {n: r for n, r in said.items() if graph.main.dtype(n) == np.float32})
        write_back(graph)
        after = onnx.ModelProto.FromString(onnxfile.to_bytes(file))
    assert done.changes or after == model
    if done.changes:
        onnx.checker.check_model(after, full_check=True)
        with np.errstate(all="ignore"):
            try:
                results = ran(model, feeds)
            except Exception:  # noqa: BLE001  the original does not run
                return
            for expected, found in zip(results, ran(after, feeds), strict=True):
                assert np.array_equal(expected, found, equal_nan=expected.dtype.kind == "f")


@pytest.mark.parametrize("precision", ["fp16", "mixed"])
def test_the_report_says_what_was_scaled(precision):
    model = model_of(MADE["Relu"])
    after, report = fold_model(model, Options(precision=precision))
    assert report.verification.status == "verified"
    assert casts(after) == 2
    (change,) = [one for one in report.changes if one.kind == SCALED]
    assert (change.stage, change.count, change.key) == ("lowered", 1, KEY + "a")
    (note,) = [one for one in report.notes if "were scaled" in one]
    assert "'a' by 2^-" in note
    assert "'b' by 2^-" in note
    assert SCALED in report.to_text()


@pytest.mark.parametrize("precision", ["keep", "bf16"])
def test_other_types_have_room(precision):
    _, report = fold_model(model_of(MADE["Relu"]), Options(precision=precision, verify=False))
    assert SCALED not in {change.kind for change in report.changes}
