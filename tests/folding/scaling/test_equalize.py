"""Channels are scaled by powers of two between the weights around them: no bit changes, and 8 bits lose less."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings

from folding import Options, fold_model, onnxfile
from folding.analysis import shapes
from folding.analysis.values import indexed
from folding.editing.writeback import write_back
from folding.report.model import Report
from folding.scaling.equalize import KEY, SCALED, equalize
from tests.folding.test_precision_gate import EXAMPLES, FIXED
from tests.support.halved import single
from tests.support.lowering import counted, parsed, ran, random_feeds
from tests.support.strategies.graphs import graphs, wrapped
from tests.support.strategies.stacks import stacks

OPTIONS = Options(equalize=True, verify=False)
RNG = np.random.default_rng(0)
SKEW = np.array([1.0, 64.0, 1 / 32, 8.0])  # of the channels of every weight that makes four of them


def normal(*shape):
    """Of magnitudes between 1 and 2, so that the ranges of channels are those of the skew."""
    return RNG.uniform(1, 2, shape) * RNG.choice([-1, 1], shape)


WEIGHTS = {
    "w": normal(4, 3, 1, 1) * SKEW[:, None, None, None],
    "w2": normal(4, 3, 1, 1) * SKEW[:, None, None, None],
    "b": normal(4) * SKEW,
    "v": normal(4, 4, 1, 1),
    "deep": normal(4, 1, 3, 3),
    "wide": normal(4, 8, 1, 1),
    "turned": normal(4, 2, 2, 2),
    "last": normal(4, 4),
    "matrix": normal(3, 4) * SKEW,
    "row": normal(4) * SKEW,
    "offset": normal(1, 4, 1, 1),
    "factor": normal(1, 4, 1, 1),
    "slope": np.array([[[0.1]], [[0.2]], [[0.3]], [[0.4]]]),
    "zero": np.array(0.0),
    "six": np.array(6.0),
    "one": np.array(1.0),
}
FOUR = "(float[2,3,6,6] x) => (float[N,M,H,W] y)"
TWO = "(float[2,3] x) => (float[2,4] y)"
START = "a = Conv(x, w, b)"
SQUARE = "kernel_shape = [2, 2]"
MADE: dict[str, tuple[str, str]] = {
    "Conv": (FOUR, "y = Conv(a, v)"),
    "Relu": (FOUR, "r = Relu(a) y = Conv(r, v)"),
    "LeakyRelu": (FOUR, "r = LeakyRelu <alpha: float = 0.3> (a) y = Conv(r, v)"),
    "PRelu": (FOUR, "r = PRelu(a, slope) y = Conv(r, v)"),
    "Clip without an upper bound": (FOUR, "r = Clip(a, zero) y = Conv(r, v)"),
    "MaxPool": (FOUR, f"r = MaxPool <{SQUARE}> (a) y = Conv(r, v)"),
    "AveragePool": (FOUR, f"r = AveragePool <{SQUARE}> (a) y = Conv(r, v)"),
    "GlobalAveragePool, Flatten, Gemm": (
        "(float[2,3,6,6] x) => (float[2,4] y)",
        "g = GlobalAveragePool(a) f = Flatten(g) y = Gemm <transB = 1> (f, last)",
    ),
    "depthwise, a chain of three": (FOUR, "r = Relu(a) d = Conv <group = 4> (r, deep) s = Relu(d) y = Conv(s, v)"),
    "ConvTranspose": (FOUR, "r = Relu(a) y = ConvTranspose <group = 2> (r, turned)"),
    "padded": (FOUR, "r = Relu(a) d = Conv <group = 4, pads = [1,1,1,1]> (r, deep) y = Conv(d, v)"),
    "Concat": (FOUR, "c = Conv(x, w2) k = Concat <axis = 1> (a, c) y = Conv(k, wide)"),
    "Concat with an input": (FOUR, "p = Conv(x, w2) s = Sigmoid(p) k = Concat <axis = 1> (a, s) y = Conv(k, wide)"),
    "residual Add": (FOUR, "r = Relu(a) c = Conv(r, v) d = Add(a, c) e = Relu(d) y = Conv(e, v)"),
    "residual Add, three deep": (
        FOUR,
        "p = Relu(a) c = Conv(p, v) d = Add(a, c) q = Relu(d) e = Conv(q, v) f = Add(d, e) y = Conv(f, v)",
    ),
    "a constant Add": (FOUR, "d = Add(a, offset) y = Conv(d, v)"),
    "two readers": (FOUR, "r = Relu(a) c = Conv(r, v) d = Conv(r, v) y = Add(c, d)"),
    "channel attention": (
        FOUR,
        "r = Relu(a) g = GlobalAveragePool(r) h = Conv(g, v) s = Sigmoid(h) m = Mul(r, s) y = Conv(m, v)",
    ),
    "Gemm": (TWO, "a = Gemm(x, matrix, row) r = Relu(a) y = Gemm <transB = 1> (r, last)"),
    "MatMul": (TWO, "a = MatMul(x, matrix) r = Relu(a) y = MatMul(r, last)"),
    "Resize": (
        FOUR,
        'u = Constant <value_floats = [1.0, 1.0, 2.0, 2.0]> () r = Resize <mode = "nearest"> (a, , u) y = Conv(r, v)',
    ),
    "an If beside it": (
        FOUR,
        ("k = Cast <to = 9> (one) r = Relu(a) c = Conv(r, v) "
         "y = If (k) <then_branch = g () => (float[N,M,H,W] t) { t = Relu(c) }, "
         "else_branch = h () => (float[N,M,H,W] e) { e = Neg(c) }>"),
    ),
}  # fmt: skip
REFUSED: dict[str, tuple[str, tuple[str, str]]] = {
    "ReLU6": ("no-gain", (FOUR, "r = Clip(a, zero, six) y = Conv(r, v)")),
    "HardSwish": ("barrier", (FOUR, "r = HardSwish(a) y = Conv(r, v)")),
    "Sigmoid": ("barrier", (FOUR, "r = Sigmoid(a) y = Conv(r, v)")),
    "Softmax": ("barrier", (FOUR, "r = Softmax <axis = 1> (a) y = Conv(r, v)")),
    "SiLU": ("idiom", (FOUR, "s = Sigmoid(a) r = Mul(a, s) y = Conv(r, v)")),
    "an output of the graph": (
        "graph-output",
        ("(float[2,3,6,6] x) => (float[N,M,H,W] a, float[N,M,H,W] y)", "y = Conv(a, v)"),
    ),
    "an input in the sum": (
        "graph-input",
        ("(float[2,3,6,6] x, float[2,4,6,6] z) => (float[N,M,H,W] y)", "s = Add(a, z) y = Conv(s, v)"),
    ),
    "one of two readers": ("barrier", (FOUR, "s = Sigmoid(a) c = Conv(a, v) y = Add(s, c)")),
    "a constant takes all of it": ("no-gain", (FOUR, "d = Mul(a, factor) r = Relu(d) y = Conv(r, v)")),
    "a square": ("reconvergent", (FOUR, "s = Mul(a, a) y = Conv(s, v)")),
    "a sum over channels": (
        "axis",
        (FOUR, "s = ReduceSum <keepdims = 1> (a, axis) t = Expand(s, wanted) y = Conv(t, v)"),
    ),
    "a nested graph reads it": (
        "captured",
        (FOUR,
         ("k = Cast <to = 9> (one) y = If (k) <then_branch = g () => (float[N,M,H,W] t) { t = Conv(a, v) }, "
         "else_branch = h () => (float[N,M,H,W] e) { e = Relu(a) }>")),
    ),
}  # fmt: skip


def model_of(row, **weights):
    """A model with these weights in place of those of `WEIGHTS`, or beside them."""
    header, text = row
    start = "" if "a = " in text else START
    model = parsed(f"g {header} {{ {start} {text} }}")
    constants = WEIGHTS | weights
    used = {name for node in model.graph.node for name in _read(node)}
    for name in sorted(used & constants.keys()):
        values = constants[name] if constants[name].dtype == np.int8 else constants[name].astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    for name, values in {"axis": [1], "wanted": [1, 4, 1, 1]}.items():
        if name in used:
            model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(values, np.int64), name))
    onnx.checker.check_model(model)
    return model


def _read(node):
    yield from node.input
    for attribute in node.attribute:
        for inner in attribute.g.node:
            yield from _read(inner)


def equalized(model, options=OPTIONS, blocked=(), *, clamps=False):
    """The equalized model, what was changed, and what is reported of each value."""
    with onnxfile.from_bytes(model.SerializeToString()) as file:
        graph = indexed(file)
        shapes.infer(graph)
        changes, reported = equalize(graph, options, blocked, clamps=clamps)
        write_back(graph)
        return onnx.ModelProto.FromString(onnxfile.to_bytes(file)), changes, reported


def assert_identical(before, after):
    """Every bit of the outputs is the same."""
    for seed in range(3):
        feeds = random_feeds(before, seed)
        for expected, found in zip(ran(before, feeds), ran(after, feeds), strict=True):
            assert expected.tobytes() == found.tobytes()


def weights_of(model):
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


@pytest.mark.parametrize("row", MADE)
def test_channels_become_even_and_no_bit_changes(row):
    model = model_of(MADE[row])
    after, changes, reported = equalized(model)
    assert {change.kind for change in changes} == {SCALED}
    assert [node.op_type for node in after.graph.node] == [node.op_type for node in model.graph.node]
    assert_identical(model, after)
    scaled = [one for one in reported if not one.code]
    assert len(scaled) == len(changes)
    assert all(one.channels and one.producers and one.consumers for one in scaled)
    assert min(one.after / one.before for one in scaled) <= 0.5  # the skew that was put there goes
    again, more, _ = equalized(after)
    assert (again.SerializeToString(), more) == (after.SerializeToString(), [])


@pytest.mark.parametrize("row", REFUSED)
def test_what_no_scale_passes_stays_and_the_report_says_why(row):
    code, written = REFUSED[row]
    model = model_of(written)
    after, changes, reported = equalized(model)
    assert (after, changes) == (model, [])
    assert reported[0].value == "a"
    assert reported[0].code == code
    assert reported[0].reason


def test_all_three_weights_of_a_depthwise_chain_share_the_skew():
    """Nagel et al., appendix: the ranges of a chain become their geometric mean, here within a factor of two."""
    model = model_of(MADE["depthwise, a chain of three"])
    after, changes, _ = equalized(model)
    assert [change.key for change in changes] == [KEY + "a", KEY + "d"]
    found = weights_of(after)
    first, deep, last = found["w"], found["deep"], found["v"]
    ranges = [abs(first).max((1, 2, 3)), abs(deep).max((1, 2, 3)), abs(last).max((0, 2, 3))]
    precisions = np.array([of / of.max() for of in ranges])
    assert (precisions.max(0) / precisions.min(0) <= 8).all()
    assert (abs(WEIGHTS["w"]).max((1, 2, 3)).max() / abs(WEIGHTS["w"]).max((1, 2, 3)).min()) > 1000


def test_a_bound_per_channel_lets_it_pass_relu6_where_that_is_allowed():
    model = model_of(REFUSED["ReLU6"][1])
    after, changes, _ = equalized(model, clamps=True)
    assert len(changes) == 1
    assert counted(after)["Max"] + counted(after)["Min"] == 2
    assert_identical(model, after)
    again, more, _ = equalized(after, clamps=True)
    assert (again, more) == (after, [])


@pytest.mark.parametrize(("clamp", "target", "changed"), [("always", None, True), ("auto", None, False)])
def test_only_the_option_allows_bounds_per_channel(clamp, target, changed):
    model = model_of(REFUSED["ReLU6"][1])
    after, _ = fold_model(model, Options(equalize=True, clamp=clamp, target=target))
    assert ("Min" in counted(after)) == changed


def test_even_channels_stay():
    model = model_of(MADE["Relu"], w=normal(4, 3, 1, 1))
    after, changes, reported = equalized(model)
    assert (after, changes) == (model, [])
    assert [(one.value, one.code) for one in reported] == [("a", "no-gain"), ("y", "graph-output")]


def test_a_channel_that_is_next_to_constant_is_not_enlarged():
    """Its weights vanish beside its bias: as large as others they would make the value as large as the bias by them."""
    weights, bias = WEIGHTS["w"].copy(), WEIGHTS["b"].copy()
    weights[2] = 1.5 / 64
    for size in (1e-3, 64.0):
        bias[2] = size
        model = model_of(MADE["Relu"], w=weights, b=bias)
        after, _, _ = equalized(model)
        found = weights_of(after)
        grown = abs(found["w"][2]).max() > abs(weights[2]).max() * 2
        assert grown == (size < 1)
        assert abs(found["b"]).max() <= abs(bias).max()
        assert_identical(model, after)


def test_dead_channels_stay():
    weights, behind = WEIGHTS["w"].copy(), WEIGHTS["v"].copy()
    weights[2], behind[:, 1] = 0, 0
    model = model_of(MADE["Relu"], w=weights, v=behind)
    after, changes, _ = equalized(model)
    assert len(changes) == 1
    found = weights_of(after)
    assert (found["v"][:, 2] == behind[:, 2].astype(np.float32)).all()
    assert (found["w"][1] == weights[1].astype(np.float32)).all()
    assert_identical(model, after)


@pytest.mark.parametrize("small", ["w", "b"])
def test_nothing_becomes_subnormal(small):
    """The second channel is made smaller, but not by more than its smallest elements bear."""
    weights, bias = WEIGHTS["w"].copy(), WEIGHTS["b"].copy()
    (weights if small == "w" else bias).reshape(4, -1)[1, 0] = 2.0**-125
    model = model_of(MADE["Relu"], w=weights, b=bias)
    after, _, _ = equalized(model)
    found = weights_of(after)
    assert (abs(found["w"][1]) / abs(weights[1].astype(np.float32)) == 0.5).all()
    assert min(abs(values[values != 0]).min() for values in found.values()) >= 2.0**-126
    assert_identical(model, after)


@pytest.mark.parametrize(
    ("options", "blocked", "code"),
    [
        (Options(equalize=True, keep=("first",)), (), "kept-by-option"),
        (OPTIONS, {KEY + "a"}, "taken-back"),
    ],
)
def test_what_is_kept_or_blocked_stays(options, blocked, code):
    model = model_of(MADE["Relu"])
    model.graph.node[0].name = "first"
    after, changes, reported = equalized(model, options, blocked)
    assert (after, changes) == (model, [])
    assert reported[0].code == code


def test_a_weight_that_a_caller_may_change_is_no_constant():
    model = model_of(MADE["Relu"])
    model.graph.input.append(onnx.helper.make_tensor_value_info("v", 1, [4, 4, 1, 1]))
    after, changes, reported = equalized(model)
    assert (after, changes, reported[0].code) == (model, [], "overridable")


def test_quantized_weights_stay():
    text = "r = Relu(a) q = DequantizeLinear(whole, one) y = Conv(r, q)"
    model = model_of((FOUR, text), whole=np.ones((4, 4, 1, 1), np.int8))
    after, changes, reported = equalized(model)
    assert (after, changes, reported[0].code) == (model, [], "quantized")


@given(graphs() | wrapped() | stacks())
@settings(
    max_examples=EXAMPLES, derandomize=FIXED, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)
def test_random_graphs_compute_the_same_bits(made):
    """And what was equalized once is even: a second run changes no byte."""
    model = single(made[0])
    feeds = {name: v.astype(np.float32) if v.dtype == np.float64 else v for name, v in made[1].items()}
    after, changes, _ = equalized(model, clamps=True)
    assert changes or after == model
    if not changes:
        return
    onnx.checker.check_model(after, full_check=True)
    again, more, _ = equalized(after, clamps=True)
    assert (again, more) == (after, [])
    with np.errstate(all="ignore"):
        try:
            results = ran(model, feeds)
        except Exception:  # noqa: BLE001  the original does not run
            return
        for expected, found in zip(results, ran(after, feeds), strict=True):
            assert np.array_equal(expected, found, equal_nan=expected.dtype.kind == "f")


def normalized():
    """A model with a normalization to fold, of skewed channels."""
    text = "c = Conv(x, w2) a = BatchNormalization(c, gamma, beta, mean, var) r = Relu(a) y = Conv(r, v)"
    return model_of((FOUR, text), w2=normal(4, 3, 1, 1), gamma=SKEW, beta=normal(4), mean=normal(4), var=np.ones(4))


def test_folded_equalized_and_verified_once_is_enough():
    model = normalized()
    folded, _ = fold_model(model)
    after, report = fold_model(model, Options(equalize=True))
    assert report.verification.status == "verified"
    assert [one.op_type for one in after.graph.node] == ["Conv", "Relu", "Conv"]
    assert_identical(folded, after)
    again, second = fold_model(after, Options(equalize=True))
    assert not second.changed
    assert again.SerializeToString() == after.SerializeToString()


def test_every_form_of_the_report_says_what_was_done():
    _, report = fold_model(normalized(), Options(equalize=True))
    scaled, stays = report.equalized
    assert (scaled.value, scaled.producers, scaled.consumers) == ("a", ("a",), ("y",))
    assert scaled.before > 2 * scaled.after
    assert (stays.value, stays.code) == ("y", "graph-output")
    for text in (report.to_text(), report.to_html(), report.to_markdown()):
        assert "Channels equalized for 8 bits: 1 of 2 values between weights" in text
        assert "times the range of a typical one" in text
        assert "graph-output" in text
    assert Report.from_dict(report.as_dict()) == report


def test_without_the_option_nothing_is_scaled():
    _, report = fold_model(normalized())
    assert report.equalized == ()
    assert "8 bits" not in report.to_text()
