"""Element types, operator sets, training mode: right or refused; and every folded weight rounded once."""

from __future__ import annotations

from decimal import Decimal, localcontext
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import defs, helper, numpy_helper

from folding import Options, fold_model
from folding.graph import sites
from folding.graph.weights import BLOCK_ELEMENTS
from tests.support.models import DIGITS, NO_VERIFY, SITE, Model, assert_same_function, fold
from tests.support.rows.row import Kept, into, judge, out, start
from tests.support.structures import in_inference_mode

if TYPE_CHECKING:
    from tests.support.rows.row import Folded

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
TYPES = [np.dtype(np.float16), BFLOAT16, np.dtype(np.float32), np.dtype(np.float64)]
NEWEST = defs.onnx_opset_version()
FULL, HALF = np.dtype(np.float32), np.dtype(np.float16)


def check(m: Model, expected: Folded | Kept, options: Options = NO_VERIFY, **build: Any) -> tuple[Any, Any]:
    before = m.build(**build)
    after, report = fold(before, options)
    outcome = next(o for o in report.outcomes if o.node == SITE)
    judge(outcome, expected, {n.name: n.op_type for n in (*before.graph.node, *after.graph.node)})
    assert_same_function(in_inference_mode(before, options), after, m.feeds, DIGITS[m.dtype])
    return after, report


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_types_of_weights_stay(dtype):
    m = Model(dtype=dtype, opset=22)
    out(m, m.bn(m.conv(start(m), 6)))
    after, _ = check(m, into("Conv"))
    assert {t.data_type for t in after.graph.initializer} == {helper.np_dtype_to_tensor_dtype(dtype)}


def test_half_data_with_full_statistics():
    m = Model(dtype=np.float16)
    x = m.conv(start(m), 6)
    parameters = [m.constant(m.random.uniform(0.5, 1.5, 6), dtype=np.float32) for _ in range(4)]
    out(m, m.op("BatchNormalization", x, *parameters, name=SITE))
    after, _ = check(m, into("Conv"))
    assert {t.data_type for t in after.graph.initializer} == {onnx.TensorProto.FLOAT16}


def cast(m: Model, x: str, dtype: np.dtype[Any]) -> str:
    return m.op("Cast", x, to=helper.np_dtype_to_tensor_dtype(dtype))


CASTS = [
    # the type before and after the Cast, and what becomes of an affine behind it and before it
    (FULL, HALF, into("Conv"), Kept("barrier", "narrower-type")),
    (HALF, FULL, Kept("narrower-type", "barrier"), into("Conv")),
    (BFLOAT16, FULL, Kept("narrower-type", "barrier"), into("Conv")),
    (BFLOAT16, HALF, Kept("narrower-type", "barrier"), Kept("barrier", "narrower-type")),
    (FULL, FULL, into("Conv"), into("Conv")),
]


@pytest.mark.parametrize(("first", "second", "behind", "before"), CASTS)
@pytest.mark.parametrize("position", ["behind", "before"])
def test_an_affine_never_moves_to_a_narrower_type(first, second, behind, before, position):
    m = Model(dtype=first, opset=22)
    x = start(m)
    if position == "behind":
        y = m.conv(x, 6)
        m.dtype = np.dtype(second)
        out(m, m.per_channel("Mul", cast(m, y, second)))
    else:
        y = m.per_channel("Mul", x)
        m.dtype = np.dtype(second)
        out(m, m.conv(cast(m, y, second), 6))
    m.dtype, narrow = np.dtype(second), min(first, second, key=lambda t: t.itemsize)
    original = m.build()
    after, report = fold(original)
    outcome = next(o for o in report.outcomes if o.node == SITE)
    judge(outcome, behind if position == "behind" else before, {n.name: n.op_type for n in after.graph.node})
    assert_same_function(original, after, m.feeds, DIGITS[np.dtype(narrow)])


def normalized(dtype: np.dtype[Any], gamma: float, weight: float, *, forward: bool = False) -> Model:
    m = Model(dtype=dtype, opset=22)
    w = m.constant(np.full((6, 4, 1, 1), weight))
    parameters = [m.constant(np.full(4 if forward else 6, v)) for v in (gamma, 0.0, 0.0, 1.0)]
    x = start(m)
    if forward:
        out(m, m.op("Conv", m.op("BatchNormalization", x, *parameters, name=SITE), w))
    else:
        out(m, m.op("BatchNormalization", m.op("Conv", x, w), *parameters, name=SITE))
    return m


REPRESENTABLE = [
    ("fits", HALF, 100.0, 100.0, into("Conv")),
    ("overflow", HALF, 1000.0, 100.0, "overflow"),
    ("overflow", BFLOAT16, 1e30, 1e30, "overflow"),
    ("overflow", FULL, 1e30, 1e10, "overflow"),
    ("overflow", np.dtype(np.float64), 1e200, 1e200, "overflow"),
    ("underflow", HALF, 1e-3, 1e-3, "underflow"),
    ("underflow", FULL, 1e-30, 1e-10, "underflow"),
    ("zero", FULL, 0.0, 1.0, into("Conv")),
    ("dead", FULL, 1e-39, 1.0, into("Conv")),  # the original multiplies by a subnormal number too
    ("alive", HALF, 1e-5, 0.1, "underflow"),
    ("alive", FULL, 2e-38, 0.1, "underflow"),
    ("subnormal before", FULL, 0.5, 1e-40, into("Conv")),
]


@pytest.mark.parametrize("forward", [False, True])
@pytest.mark.parametrize(("name", "dtype", "gamma", "weight", "expected"), REPRESENTABLE)
def test_weights_that_do_not_fit_their_type_are_refused(name, dtype, gamma, weight, expected, forward):
    m = normalized(dtype, gamma, weight, forward=forward)
    if isinstance(expected, str):
        expected = Kept(expected, expected)
    before = m.build()
    after, report = fold(before)
    judge(report.outcomes[0], expected, {n.name: n.op_type for n in after.graph.node})
    assert report.changed == (report.bn_after == 0)
    assert report.changed or after == before
    assert all(np.isfinite(numpy_helper.to_array(t).astype(np.float64)).all() for t in after.graph.initializer)


@pytest.mark.parametrize(
    ("gamma", "beta", "expected"),
    [
        ([1e-3, 1, 1, 1], [1, 1, 1, 1], Kept("underflow", "underflow")),
        ([1, 1, 1, 1], [1e-5, 1, 1, 1], into("BatchNormalization", status="merged")),
    ],
    ids=["of a scale, one value is too many", "of a shift, it is lost among the others"],
)
def test_parameters_that_do_not_fit_their_type(gamma, beta, expected):
    m = Model(dtype=HALF, opset=22)
    parameters = [m.constant(np.array(v, float)) for v in (gamma, beta, [0] * 4, [1] * 4)]
    y = m.op("BatchNormalization", start(m), *parameters)
    out(m, m.op("Mul", y, m.constant(np.full((4, 1, 1), 1e-4)), name=SITE))
    after, report = fold(m.build())
    site = next(outcome for outcome in report.outcomes if outcome.node == SITE)
    judge(site, expected, {n.name: n.op_type for n in after.graph.node})


def test_groups_that_do_not_divide_the_channels_take_nothing():
    for groups in (0, 3):
        m = Model(opset=21)
        x = m.op("Add", start(m), m.constant((4, 1, 1)), name=SITE)
        out(m, m.op("GroupNormalization", x, m.constant((4,)), m.constant((4,)), num_groups=4))
        model = m.build()
        normalization = next(node for node in model.graph.node if node.op_type == "GroupNormalization")
        next(a for a in normalization.attribute if a.name == "num_groups").i = groups
        outcome = fold(model)[1].outcomes[0]
        assert (outcome.backward.code, outcome.forward.code) == ("barrier", "parameters")
        assert outcome.forward.reason == f"{groups} groups of 4 channels"


def test_one_weight_that_does_not_fit_keeps_only_its_own_site():
    m = normalized(HALF, 1000.0, 100.0)
    x = m.nodes[-1].output[0]
    out(m, m.bn(m.conv(x, 5), name="other"))
    after, report = fold(m.build())
    assert {o.node: o.status for o in report.outcomes} == {SITE: "kept", "other": "folded"}
    assert_same_function(m.build(), after, m.feeds, DIGITS[HALF])


# --- one rounding ----------------------------------------------------------------------------------------


def half_units(found: float, exact: Decimal, dtype: np.dtype[Any]) -> float:
    """The distance in halves of the spacing of the type at that magnitude."""
    info = ml_dtypes.finfo(dtype)
    exponent = np.floor(np.log2(max(abs(float(exact)), float(info.smallest_normal))))
    return float(abs(Decimal(found) - exact) / (Decimal(float(2.0**exponent)) * Decimal(float(info.eps)) / 2))


def exact_scale(gamma: float, var: float, eps: float) -> Decimal:
    return Decimal(gamma) / (Decimal(var) + Decimal(eps)).sqrt()


KINDS = {
    "Conv": lambda m, x: m.conv(x, 6, bias=False),
    "grouped Conv": lambda m, x: m.conv(x, 6, group=2, bias=False),
    "large Conv": lambda m, x: m.conv(x, 3 * BLOCK_ELEMENTS // 36, bias=False),
    "ConvTranspose": lambda m, x: m.conv_t(x, 6, group=2, bias=False),
    "Gemm": lambda m, x: m.op("Gemm", m.op("Flatten", x), m.constant((7, 120)), transB=1),
}


@pytest.mark.parametrize("dtype", [t for t in TYPES if t != np.float64], ids=str)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("twice", [False, True])
def test_every_folded_weight_is_rounded_once(kind, dtype, twice):
    m = Model(dtype=dtype, opset=22, seed=len(kind))
    x = start(m, 1, 4, 5, 6)
    y = m.bn(KINDS[kind](m, x))
    if twice:
        y = m.bn(y, name="second")
    out(m, y)
    before = m.build()
    after, _ = fold(before)
    with localcontext() as context:
        context.prec = 60
        scales = None
        for node in before.graph.node:
            if node.op_type == "BatchNormalization":
                gamma, var = (m.initializers[node.input[i]].astype(float) for i in (1, 4))
                eps = float(np.float32(1e-5))
                found = [exact_scale(float(g), float(v), eps) for g, v in zip(gamma, var, strict=True)]
                scales = found if scales is None else [a * b for a, b in zip(scales, found, strict=True)]
        name = next(n.input[1] for n in after.graph.node if n.op_type in kind.split())
        old = m.initializers[name].astype(np.float64)
        new = numpy_helper.to_array(next(t for t in after.graph.initializer if t.name == name)).astype(np.float64)
        places = list(np.ndindex(old.shape))
        for place in m.random.choice(len(places), min(400, len(places)), replace=False):
            at = places[place]
            group = (at[0] // 2) * 3 + at[1] if kind == "ConvTranspose" else at[0]
            exact = Decimal(float(old[at])) * scales[group]
            # Half a unit is one rounding; float64 products may end a hair on the other side of a tie.
            assert half_units(float(new[at]), exact, dtype) <= 1 + 1e-6


def test_biases_are_rounded_once_however_many_affines_they_absorb():
    m = Model(dtype=np.float16)
    x = m.conv(start(m), 2)
    for _ in range(6):
        x = m.op("Add", x, m.constant(np.full((2, 1, 1), 0.3)))
    out(m, m.op("Sub", x, m.constant(np.full((2, 1, 1), 1.8)), name=SITE))
    after, _ = fold(m.build())
    bias = numpy_helper.to_array(next(t for t in after.graph.initializer if t.dims == [2]))
    exact = m.initializers["c1"].astype(np.float64) + 6 * float(np.float16(0.3)) - float(np.float16(1.8))
    np.testing.assert_array_equal(bias, exact.astype(np.float16))


# --- operator sets ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("opset", range(1, NEWEST + 1))
def test_conv_and_normalization_in_every_operator_set(opset):
    m = Model(opset)
    extra = {"consumed_inputs": [0, 0, 0, 1, 1]} if opset < 6 else {}
    out(m, m.bn(m.conv(start(m), 6), **extra))
    check(m, into("Conv"))


@pytest.mark.parametrize(("opset", "axis"), [(1, 1), (6, 1), (6, None)])
def test_legacy_broadcasting(opset, axis):
    m = Model(opset)
    x = m.conv(start(m, 2, 4, 6, 6), 4)
    where = {"axis": axis} if axis is not None else {}
    out(m, m.op("Mul", x, m.constant((4,)), name=SITE, broadcast=1, **where))
    # without `axis` the constant aligns with the last axis, which a convolution cannot take
    check(m, into("Conv") if axis == 1 else Kept("axis", "barrier"))


@pytest.mark.parametrize("opset", [1, 5, 9])
def test_layout_operators_before_their_parameters_became_inputs(opset):
    m = Model(opset)
    x = m.op("Squeeze", m.conv(start(m, 2, 4, 5, 6), 6, kernel=(5, 1)), axes=[2])
    x = m.op("Squeeze", m.op("Unsqueeze", x, axes=[3]), axes=[3])
    shape = [2, 6, 2, 3]
    x = m.op("Reshape", x, shape=shape) if opset < 5 else m.op("Reshape", x, m.constant(np.array(shape)))
    out(m, m.bn(x, **({"consumed_inputs": [0, 0, 0, 1, 1]} if opset < 6 else {})))
    # onnx infers no shapes behind the first version of these operators
    check(m, into("Conv") if opset == 9 else Kept("unknown-shape", "barrier" if opset == 5 else "unknown-shape"))


@pytest.mark.parametrize(("is_test", "expected"), [(1, into("Conv")), (0, Kept("barrier", "barrier"))])
def test_the_mode_of_dropout_was_an_attribute(is_test, expected):
    m = Model(6)
    out(m, m.bn(m.op("Dropout", m.conv(start(m), 6), is_test=is_test)))
    check(m, expected)


@pytest.mark.parametrize("attributes", [{"axis": 3, "broadcast": 1}, {"axis": 2}])
def test_a_legacy_constant_that_does_not_fit_is_refused(attributes):
    m = Model(6)
    x = m.conv(start(m), 6)
    out(m, m.op("Mul", x, m.constant((3, 4)), name=SITE, like=x, **attributes))
    _, report = fold_model(m.build(), NO_VERIFY)
    assert report.outcomes[0].backward.code == "broadcast"


def test_legacy_broadcasting_of_a_sum_is_refused():
    m = Model(6)
    x = start(m)
    out(m, m.bn(m.op("Add", m.conv(x, 6), m.conv(x, 6), broadcast=1)))
    check(m, Kept("old-opset", "barrier"))


def test_old_operator_sets_do_not_merge():
    m = Model(6)
    x = m.op("Mul", start(m), m.constant((4,)), name=SITE, broadcast=1, axis=1)
    out(m, m.op("Mul", x, m.constant((4,)), broadcast=1, axis=1))
    check(m, Kept("barrier", "old-opset"))


@pytest.mark.parametrize(("c", "expected"), [((5,), into("Gemm")), ((3, 1), Kept("old-opset", "barrier"))])
def test_legacy_gemm(c, expected):
    m = Model(6)
    out(m, m.bn(m.op("Gemm", start(m, 3, 4), m.constant((4, 5)), m.constant(c), broadcast=1)))
    check(m, expected)


@pytest.mark.parametrize("first", [start, lambda m: m.x(2, 4, 5, 6)])
def test_an_operator_set_onnx_does_not_know_is_left_alone(first):
    m = Model()
    out(m, m.bn(m.conv(first(m), 6)))
    before = m.build()
    before.opset_import[0].version = NEWEST + 1
    after, report = fold_model(before, NO_VERIFY)
    judge(report.outcomes[0], Kept("unknown-opset", "unknown-opset"), {})
    assert after == before


# --- training mode, parameters per position ----------------------------------------------------------------

TRAINING = [
    (22, {"training_mode": 1}, 3),
    (14, {"training_mode": 1}, 3),
    (9, {}, 5),
    (6, {"is_test": 0}, 1),
    (1, {"is_test": 0, "consumed_inputs": [0, 0, 0, 1, 1]}, 1),
]


@pytest.mark.parametrize(("opset", "attributes", "outputs"), TRAINING)
@pytest.mark.parametrize("freeze", [False, True])
def test_training_mode_is_never_folded_silently(opset, attributes, outputs, freeze):
    m = Model(opset)
    x = m.conv(start(m), 6)
    parameters = [m.constant(m.random.uniform(0.5, 1.5, 6)) for _ in range(4)]
    out(m, m.op("BatchNormalization", x, *parameters, name=SITE, outputs=outputs, **attributes))
    expected = into("Conv") if freeze else Kept("training-mode", "training-mode")
    check(m, expected, Options(verify=False, freeze_training=freeze))


@pytest.mark.parametrize("opset", [9, 22])
def test_statistics_that_are_read_are_not_frozen(opset):
    m = Model(opset)
    x = m.conv(start(m), 6)
    parameters = [m.constant(m.random.uniform(0.5, 1.5, 6)) for _ in range(4)]
    mode = {"training_mode": 1} if opset >= 14 else {}
    y = m.op("BatchNormalization", x, *parameters, name=SITE, outputs=3 if mode else 5, **mode)
    m.values[f"{y}_1"] = np.zeros(6)
    before = m.build(y, f"{y}_1")
    after, report = fold_model(before, Options(verify=False, freeze_training=True))
    judge(report.outcomes[0], Kept("training-mode", "training-mode"), {})
    assert after == before


@pytest.mark.parametrize("read", [False, True])
def test_extra_outputs_in_inference(read):
    m = Model(6)
    x = m.conv(start(m), 6)
    parameters = [m.constant(m.random.uniform(0.5, 1.5, 6)) for _ in range(4)]
    y = out(m, m.op("BatchNormalization", x, *parameters, name=SITE, outputs=5, is_test=1))
    if not read:
        check(m, into("Conv"))
        return
    mean = m.nodes[-2].output[1]
    m.values[mean] = np.zeros(6)
    _, report = fold(m.build(y, mean))
    judge(report.outcomes[0], Kept("extra-outputs", "extra-outputs"), {})


def test_parameters_per_position():
    m = Model(7)
    x = m.conv(start(m), 6)
    parameters = [m.constant(m.random.uniform(0.5, 1.5, m.at(x).shape[1:])) for _ in range(4)]
    out(m, m.op("BatchNormalization", x, *parameters, name=SITE, spatial=0))
    check(m, Kept("axis", "barrier"))


def test_constants_of_other_types_are_not_float():
    m = Model()
    x = m.conv(start(m), 6)
    ones = m.constant(np.ones(6))
    odd = m.op("Cast", m.op("Cast", ones, to=onnx.TensorProto.STRING, like=ones), to=onnx.TensorProto.DOUBLE)
    parameters = [m.constant(np.ones(6)) for _ in range(3)]
    out(m, m.op("BatchNormalization", x, odd, *parameters, name=SITE))
    check(m, Kept("not-float", "not-float"))


def test_integers_are_no_affines():
    m = Model()
    m.op("Add", m.x(2, 3, dtype=np.int64), m.constant(np.array([1, 2, 3])), name=SITE)
    before = m.build()
    after, report = fold(before)
    assert report.outcomes == ()
    assert after == before


def test_large_operands_are_not_evaluated(monkeypatch):
    monkeypatch.setattr(sites, "AFFINE_LIMIT", 5)
    m = Model()
    out(m, m.per_channel("Mul", m.conv(start(m), 6)))
    check(m, Kept("too-large", "too-large"))
