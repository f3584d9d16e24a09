"""Idioms become the operators that they are where the operator set has them, exactly, and nothing else does."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from folding.fusing.fuse import KEY, fuse, kind_of, left
from folding.fusing.fuse import WRITERS as OPERATORS
from folding.graph.idioms import BIAS
from folding.graph.idioms import WRITTEN_OUT as TABLE
from tests.support.models import Model
from tests.support.ready import idioms
from tests.support.ready.fusing import Fake, assert_equal, fused, once, operators
from tests.support.ready.idioms import WRITERS, WRITTEN_OUT, number, reduced
from tests.support.rows.row import start

ALL = WRITERS | WRITTEN_OUT
NONE = {"l2_norm", "l2_norm_added", "attention_where"}  # an epsilon; a mask of -1e4
NEWEST = 24


def written(name, opset, *, dtype=np.float32, shape=None):
    """A model of one idiom."""
    m = Model(opset=opset, dtype=dtype, ir=10)
    kind, writer = ALL[name]
    m.op("Identity", writer(m, start(m, *(shape or ((3, 4) if kind == BIAS.name else (2, 4, 5, 6))))))
    return m, m.build()


def since(name):
    return OPERATORS[ALL[name][0]].since


@pytest.mark.parametrize("opset", [13, 14, 17, 18, 20, 21, 23, 24])
@pytest.mark.parametrize("name", sorted(ALL.keys() - NONE))
def test_an_idiom_becomes_its_operator_from_its_opset_on(name, opset):
    m, model = written(name, opset)
    after, changes = fused(model)
    if opset < since(name):
        assert (after, changes) == (model, [])
        return
    (change,) = changes
    kind = ALL[name][0]
    idiom = next(idiom for idiom in (*TABLE, BIAS) if idiom.name == kind)
    assert operators(after) == ["Asinh", idiom.operator, "Identity"]
    assert (change.stage, change.kind) == ("fused", kind_of(idiom))
    assert after.graph.node[1].output == model.graph.node[-2].output
    assert after.graph.node[1].name == model.graph.node[-2].name == change.examples[0]
    assert after.graph.node[1].metadata_props[0].key == "bnfold.fused"
    assert_equal(model, after, m.feeds)


@pytest.mark.parametrize("name", sorted(NONE))
def test_an_idiom_without_an_exact_operator_stays(name):
    _, model = written(name, NEWEST)
    assert fused(model) == (model, [])


def test_every_idiom_has_an_operator_but_one():
    assert {idiom.name for idiom in TABLE} - OPERATORS.keys() == {"L2 normalization"}
    assert {kind for kind, _ in ALL.values()} == {idiom.name for idiom in TABLE} | {BIAS.name}


# --- other types ----------------------------------------------------------


@pytest.mark.parametrize("name", sorted(ALL.keys() - NONE))
def test_16_bits(name):
    m, model = written(name, NEWEST, dtype=np.float16)
    after, changes = fused(model)
    assert len(changes) == 1
    assert_equal(model, after, m.feeds)


@pytest.mark.parametrize(
    "name", ["layer_norm", "rms_norm", "group_norm", "instance_norm", "hard_swish", "gelu_sigmoid"]
)
def test_float64_stays_where_the_operator_is_narrower(name):
    _, model = written(name, NEWEST, dtype=np.float64)
    assert fused(model) == (model, [])


@pytest.mark.parametrize("name", ["gelu", "gelu_tanh", "silu", "mish", "softmax", "product_with_bias"])
def test_float64_becomes_what_is_exact(name):
    _, model = written(name, NEWEST, dtype=np.float64)
    assert len(fused(model)[1]) == 1


def half_norm(writer, *, back=TensorProto.FLOAT16):
    """As Llama normalizes in 16 bits: in float32, then back, then gamma."""
    m = Model(opset=NEWEST, dtype=np.float16, ir=10)
    x = m.op("Cast", start(m, 2, 3, 4), to=TensorProto.FLOAT)
    m.dtype = np.dtype(np.float32)
    y = m.op("Cast", writer(m, x), to=back)
    m.dtype = np.dtype(np.float16)
    m.op("Identity", idioms.scaled(m, y, shift="layer" in writer.__name__))
    return m, m.build()


def rms_core(m, x):
    square = reduced(m, "ReduceMean", m.op("Pow", x, number(m, 2)), -1)
    return m.op("Mul", x, m.op("Reciprocal", m.op("Sqrt", m.op("Add", square, number(m, 1e-6)))))


@pytest.mark.parametrize(
    ("writer", "op"), [(idioms.layer_norm_core, "LayerNormalization"), (rms_core, "RMSNormalization")]
)
def test_a_first_stage_in_float32_is_the_operators_own(writer, op):
    m, model = half_norm(writer)
    after, _ = fused(model)
    assert operators(after) == ["Asinh", op, "Identity"]
    assert_equal(model, after, m.feeds)


def test_two_casts_of_one_value_are_one():
    """As TorchScript exports T5: the value is cast once for its square, and once to be scaled."""
    m = Model(opset=NEWEST, dtype=np.float16, ir=10)
    x = start(m, 2, 3, 4)
    first, second = (m.op("Cast", x, to=TensorProto.FLOAT) for _ in range(2))
    m.dtype = np.dtype(np.float32)
    square = reduced(m, "ReduceMean", m.op("Pow", first, number(m, 2)), -1)
    inverse = m.op("Reciprocal", m.op("Sqrt", m.op("Add", square, number(m, 1e-6))))
    y = m.op("Cast", m.op("Mul", second, inverse), to=TensorProto.FLOAT16)
    m.dtype = np.dtype(np.float16)
    m.op("Identity", idioms.scaled(m, y, shift=False))
    model = m.build()
    after, _ = fused(model)
    assert operators(after) == ["Asinh", "RMSNormalization", "Identity"]
    assert_equal(model, after, m.feeds)


def test_a_cast_inside_is_no_operators():
    m = Model(opset=NEWEST, dtype=np.float16)
    d = idioms.centered(m, start(m))
    wide = m.op("Cast", d, to=TensorProto.FLOAT)
    m.dtype = np.dtype(np.float32)
    variance = reduced(m, "ReduceMean", m.op("Pow", wide, number(m, 2)), -1)
    y = m.op("Div", wide, m.op("Sqrt", m.op("Add", variance, number(m, 1e-5))))
    m.dtype = np.dtype(np.float16)
    m.op("Identity", m.op("Cast", y, to=TensorProto.FLOAT16))
    model = m.build()
    assert fused(model) == (model, [])


# --- near misses ----------------------------------------------------------


def gelu_of(root, half=0.5, one=1.0):
    def writer(m, x):
        inner = m.op("Add", m.op("Erf", m.op("Div", x, number(m, root))), number(m, one))
        return m.op("Mul", m.op("Mul", x, inner), number(m, half))

    return writer


def layer_norm_of(mean=(-1,), variance=(-1,), keepdims=1, power=2.0, epsilon=1e-5):
    def writer(m, x):
        d = m.op("Sub", x, reduced(m, "ReduceMean", x, *mean))
        squared = reduced(m, "ReduceMean", m.op("Pow", d, number(m, power)), *variance)
        eps = number(m, epsilon) if isinstance(epsilon, float) else m.constant(epsilon)
        return m.op("Div", d, m.op("Sqrt", m.op("Add", squared, eps)))

    return writer


def softmax_of(largest, total):
    def writer(m, x):
        raised = m.op("Exp", m.op("Sub", x, reduced(m, "ReduceMax", x, largest)))
        return m.op("Div", raised, reduced(m, "ReduceSum", raised, total))

    return writer


def group_norm_of(scale=1.0, bias=0.0, groups=2, first=2):
    def writer(m, x):
        shape = m.at(x).shape
        inner = m.constant(np.full(groups, scale)), m.constant(np.full(groups, bias))
        grouped = m.op("Reshape", x, m.constant(np.array([first, groups, -1])))
        back = m.op("InstanceNormalization", grouped, *inner)
        return m.op("Reshape", back, m.constant(np.array(shape)))

    return writer


def hard_swish_of(alpha, beta=0.5):
    return lambda m, x: m.op("Mul", x, m.op("HardSigmoid", x, alpha=alpha, beta=beta))


def rms_norm_shifted(m, x):
    return m.op("Add", idioms.rms_norm(m, x), m.constant((6,)))


def softplus_of_another(m, x):
    return m.op("Mul", x, m.op("Tanh", m.op("Softplus", m.op("Relu", x))))


def clipped_to(low, high):
    def writer(m, x):
        line = m.op("Add", m.op("Mul", x, number(m, 0.2)), number(m, 0.5))
        return m.op("Clip", line, number(m, low), number(m, high))

    return writer


def clip_per_channel(m, x):
    line = m.op("Add", m.per_channel("Mul", x, name=""), number(m, 0.5))
    return m.op("Clip", line, number(m, 0), number(m, 1))


def attention_of(*, perm=(0, 1, 3, 2), axis=-1, mask=None, second=0, scale=0.5):
    def writer(m, x):
        scores = m.op("Mul", m.op("MatMul", x, m.op("Transpose", x, perm=list(perm))), number(m, scale))
        if mask is not None:
            scores = m.op("Add", scores, m.constant(mask))
        weights = m.op("Softmax", scores, axis=axis)
        return m.op("MatMul", *((weights, x) if second == 0 else (m.op("Transpose", x, perm=[0, 1, 3, 2]), weights)))

    return writer


def hidden_rows(m, x):
    """A mask that hides whole rows, of which PyTorch makes 0, and Attention NaN."""
    length = m.at(x).shape[-2]
    hidden = np.zeros((length, length))
    hidden[0] = -np.inf
    scores = m.op("Add", m.op("Mul", m.op("MatMul", x, idioms.turned(m, x)), number(m, 0.5)), m.constant(hidden))
    weights = m.op("Softmax", scores, axis=-1)
    safe = m.op("Where", m.op("IsNaN", weights, like=weights), number(m, 0), weights, like=weights)
    return m.op("MatMul", safe, x)


MISSES = {
    "gelu root": gelu_of(1.4142),  # runtimes take it for GELU; it is none
    "gelu half": gelu_of(np.sqrt(2), 0.5001),
    "gelu one": gelu_of(np.sqrt(2), one=1.0005),
    "layer norm over channels": layer_norm_of((1,), (1,)),
    "layer norm over two axes": layer_norm_of((-1,), (-2,)),
    "layer norm of a cube": layer_norm_of(power=3.0),
    "layer norm epsilon per row": layer_norm_of(epsilon=(5, 1)),
    "softmax over two axes": softmax_of(-1, -2),
    "group norm scaled inside": group_norm_of(scale=2.0),
    "group norm shifted inside": group_norm_of(bias=0.5),
    "group norm over the batch": group_norm_of(first=1, groups=4),
    "hard swish of another slope": hard_swish_of(0.2),
    "hard swish of another shift": hard_swish_of(1 / 6, 0.4),
    "rms norm with a shift": rms_norm_shifted,
    "mish of two values": softplus_of_another,
    "hard sigmoid to 2": clipped_to(0, 2),
    "hard sigmoid from -1": clipped_to(-1, 1),
    "hard sigmoid per channel": clip_per_channel,
    "attention over another axis": attention_of(axis=-2),
    "attention mask without its last axis": attention_of(mask=(5, 1)),
    "attention mask for all queries": attention_of(mask=(2, 1, 1, 5)),
    "attention the other way round": attention_of(second=1),
    "attention that hides a row": hidden_rows,
    "attention with a negative scale": attention_of(scale=-0.5),
    "attention with a scale of 0": attention_of(scale=0.0),
}


@pytest.mark.parametrize("opset", [17, NEWEST])
@pytest.mark.parametrize("miss", MISSES)
def test_near_misses_are_left_alone(miss, opset):
    m = Model(opset=opset, dtype=np.float32, ir=10)
    m.op("Identity", MISSES[miss](m, start(m)))
    model = m.build()
    assert fused(model) == (model, [])


@pytest.mark.parametrize("perm", [(0, 2, 1, 3), (0, 1, 2, 3)])
def test_keys_that_another_permutation_turned_are_turned_back(perm):
    """``k^T`` must be k with its last two axes swapped; what the Transpose does besides stays one."""
    m = Model(opset=NEWEST, dtype=np.float32, ir=10)
    x = start(m, 2, 4, 4, 4)
    m.op("Identity", attention_of(perm=(*perm[:2], perm[3], perm[2]))(m, x))
    model = m.build()
    after, _ = fused(model)
    turned = [] if perm == (0, 1, 2, 3) else ["Transpose"]
    assert operators(after) == ["Asinh", *turned, "Attention", "Identity"]
    assert_equal(model, after, m.feeds)


@pytest.mark.parametrize("rank", [2, 3])
def test_attention_needs_four_axes(rank):
    m = Model(opset=NEWEST, dtype=np.float32, ir=10)
    m.op("Identity", idioms.attention(m, start(m, *(2, 5, 6)[-rank:])))
    model = m.build()
    assert fused(model) == (model, [])


def test_a_product_of_three_axes_stays():
    m = Model(opset=NEWEST, dtype=np.float32)
    m.op("Identity", idioms.product_with_bias(m, start(m, 2, 3, 4)))
    model = m.build()
    assert fused(model) == (model, [])


# What is inside these is an operator as well: all without gamma and beta, or a HardSigmoid
PARTS = {"layer_norm", "layer_norm_reciprocal", "rms_norm", "instance_norm", "group_norm", "hard_swish_sixth_first"}


@pytest.mark.parametrize("how", ["reader", "output"])
@pytest.mark.parametrize("name", sorted(ALL.keys() - NONE))
def test_a_value_inside_that_others_see_leaves_it_alone(name, how):
    m = Model(opset=NEWEST, dtype=np.float32, ir=10)
    kind, writer = ALL[name]
    last = writer(m, start(m, *((3, 4) if kind == BIAS.name else (2, 4, 5, 6))))
    inner = next(node.output[0] for node in reversed(m.nodes) if node.output[0] in m.nodes[-1].input)
    model = m.build(last, inner if how == "output" else m.op("Abs", inner))
    after, changes = fused(model)
    assert (not changes) == (name not in PARTS)
    assert_equal(model, after, m.feeds)


def test_an_overridable_constant_leaves_it_alone():
    m = Model(opset=NEWEST, dtype=np.float32, ir=10)
    m.op("Identity", idioms.gelu(m, start(m)))
    m.overridable.add(next(name for name, values in m.initializers.items() if values == 0.5))
    model = m.build()
    assert fused(model) == (model, [])


def test_a_function_of_the_same_name_has_another_meaning():
    _, model = written("gelu", NEWEST)
    model.functions.append(
        helper.make_function(
            "", "Gelu", ["x"], ["y"], [helper.make_node("Abs", ["x"], ["y"])], [helper.make_opsetid("", NEWEST)]
        )
    )
    assert once(fuse, model) == (model, [])


# --- gamma and beta ----------------------------------------------------------


@pytest.mark.parametrize("shape", [(6,), (1, 6), (1, 1, 1, 6), (1,), ()])
def test_gamma_gets_the_shape_of_the_normalized_axes(shape):
    m = Model(opset=17, dtype=np.float32)
    core = idioms.layer_norm_core(m, start(m))
    m.op("Identity", m.op("Mul", core, m.constant(np.asarray(m.random.uniform(1, 2, shape)))))
    model = m.build()
    after, _ = fused(model)
    (scale,) = [i for i in after.graph.initializer if i.name == after.graph.node[1].input[1]]
    assert list(scale.dims) == [6]
    assert_equal(model, after, m.feeds)


@pytest.mark.parametrize("shape", [(4, 1, 1), (1, 4, 1, 1), (1, 1, 1), (1,)])
def test_gamma_of_channels_becomes_a_vector(shape):
    m = Model(opset=21, dtype=np.float32)
    core = idioms.instance_norm_core(m, start(m))
    m.op("Identity", m.op("Mul", core, m.constant(np.asarray(m.random.uniform(1, 2, shape)))))
    model = m.build()
    after, _ = fused(model)
    assert operators(after) == ["Asinh", "InstanceNormalization", "Identity"]
    assert_equal(model, after, m.feeds)


@pytest.mark.parametrize(
    ("shape", "gamma", "op"),
    [
        ((2, 4, 6), None, "LayerNormalization"),
        ((2, 4, 6), (6,), "LayerNormalization"),
        ((2, 4, 6), (4, 1), "InstanceNormalization"),
        ((2, 4, 5, 6), None, "InstanceNormalization"),
        ((2, 4, 5, 6), (5, 6), "LayerNormalization"),
        ((2, 4, 5, 6), (4, 1, 1), "InstanceNormalization"),
    ],
)
def test_gamma_distinguishes_rows_from_images(shape, gamma, op):
    m = Model(opset=17, dtype=np.float32)
    y = idioms.instance_norm_core(m, start(m, *shape))
    m.op("Identity", y if gamma is None else m.op("Mul", y, m.constant(gamma)))
    model = m.build()
    after, _ = fused(model)
    assert operators(after) == ["Asinh", op, "Identity"]
    assert_equal(model, after, m.feeds)


@pytest.mark.parametrize(
    ("name", "shape", "gamma"),
    [
        ("layer_norm_core", (2, 3, 1), (8,)),
        ("layer_norm_core", (2, 1, 6), (3, 6)),
        ("rms_core", (2, 3, 1), (8,)),
        ("instance_norm_core", (2, 1, 5, 6), (4, 1, 1)),
    ],
)
def test_a_constant_that_repeats_the_value_is_no_gamma(name, shape, gamma):
    m = Model(opset=NEWEST, dtype=np.float32, ir=10)
    core = rms_core(m, start(m, *shape)) if name == "rms_core" else getattr(idioms, name)(m, start(m, *shape))
    m.op("Identity", m.op("Mul", core, m.constant(gamma)))
    model = m.build()
    after, _ = fused(model)
    assert "Mul" in operators(after)
    assert_equal(model, after, m.feeds)


def test_a_constant_that_repeats_a_product_is_no_bias():
    m = Model(opset=13, dtype=np.float32)
    m.op("Add", m.op("MatMul", m.x(2, 3), m.constant((3, 1))), m.constant((4,)))
    model = m.build()
    assert fused(model) == (model, [])


@pytest.mark.parametrize("name", ["gelu", "gelu_tanh", "gelu_sigmoid", "rms_norm"])
def test_a_constant_of_more_axes_than_the_data_leaves_it_alone(name):
    m = Model(opset=NEWEST, dtype=np.float32, ir=10)
    m.op("Identity", ALL[name][1](m, start(m, 6)))
    model = m.build()
    for tensor in model.graph.initializer:
        if not tensor.dims:
            tensor.dims.extend([1, 1])
    del model.graph.value_info[:]
    model.graph.output[0].type.CopyFrom(helper.make_tensor_type_proto(TensorProto.FLOAT, [1, 6]))
    after, changes = fused(model)
    assert changes == []
    assert_equal(model, after, m.feeds)


def test_a_scale_of_ones_is_one_for_all():
    m = Model(opset=17, dtype=np.float32)
    x = m.op("Relu", idioms.layer_norm_core(m, start(m)))
    m.op("Identity", idioms.layer_norm_core(m, x))
    after, changes = fused(m.build())
    assert len(after.graph.initializer) == 1
    assert [change.nbytes for change in changes] == [24, 24]


def test_lengths_that_are_unknown_leave_a_missing_gamma_unmade():
    m = Model(opset=17, dtype=np.float32)
    x = m.x(2, 3, 4, declare=[2, 3, None])
    m.declared["v8"] = [2, 3, None]
    m.op("Identity", idioms.layer_norm_core(m, m.op("Relu", x)))
    m.declared[m.nodes[-1].output[0]] = [2, 3, None]
    model = m.build()
    assert fused(model) == (model, [])


def test_the_shape_that_a_reshape_restored_goes():
    """As PyTorch writes GroupNorm of a variable shape."""
    m = Model(opset=21, dtype=np.float32)
    x = m.x(2, 4, 5, 6, declare=["n", 4, "h", "w"])
    ones, zeros = m.constant(np.ones(2)), m.constant(np.zeros(2))
    grouped = m.op("Reshape", x, m.constant(np.array([0, 2, -1])))
    normal = m.op("InstanceNormalization", grouped, ones, zeros)
    back = m.op("Reshape", normal, m.op("Shape", x))
    m.op("Identity", idioms.scaled(m, back, axis=1))
    m.declared[m.nodes[-1].output[0]] = ["n", 4, "h", "w"]
    model = m.build()
    after, _ = fused(model)
    assert operators(after) == ["GroupNormalization", "Identity"]
    assert len(after.graph.initializer) == 2
    assert_equal(model, after, m.feeds)


# --- in rounds ----------------------------------------------------------


def test_a_softmax_written_out_becomes_part_of_attention():
    m = Model(opset=NEWEST, dtype=np.float32, ir=10)
    x = start(m)
    scores = m.op("Mul", m.op("MatMul", x, idioms.turned(m, x)), number(m, 0.5))
    m.op("Identity", m.op("MatMul", idioms.softmax(m, scores), x))
    model = m.build()
    after, changes = fused(model)
    assert operators(after) == ["Asinh", "Attention", "Identity"]
    assert [change.kind for change in changes] == ["Softmax written as one operator", "attention written as Attention"]
    assert_equal(model, after, m.feeds)


def test_the_larger_idiom_comes_first():
    """A HardSigmoid in a HardSwish that the operator set lacks stays in it."""
    _, model = written("hard_swish_sixth_first", 13)
    assert fused(model) == (model, [])


def test_two_attentions_that_share_a_product_are_fused_one_by_one():
    """The second product of the first is the first of the second."""
    m = Model(opset=NEWEST, dtype=np.float32, ir=10)
    x = start(m, 2, 4, 6, 6)
    m.op("Identity", m.op("MatMul", m.op("Softmax", scaled_product(m, attended(m, x), x), axis=-1), x))
    model = m.build()
    after, changes = fused(model)
    assert len(changes) >= 1
    assert_equal(model, after, m.feeds)


def attended(m, x):
    return m.op("Softmax", scaled_product(m, x, x), axis=-1)


def scaled_product(m, x, y):
    return m.op("Mul", m.op("MatMul", x, idioms.turned(m, y)), number(m, 0.5))


# --- what is asked for ----------------------------------------------------------


def two(opset=NEWEST):
    m = Model(opset=opset, dtype=np.float32, ir=10)
    m.op("Identity", idioms.gelu(m, m.op("Relu", idioms.gelu(m, start(m)))))
    return m.build()


def test_an_occurrence_can_be_left_out():
    _, changes = fused(two())
    first, second = changes
    assert first.key.startswith(KEY)
    after, rest = fused(two(), None, [first.key])
    assert [change.key for change in rest] == [second.key]
    assert operators(after).count("Gelu") == 1


def test_what_the_user_keeps_stays():
    model = two()
    label = next(node.name for node in model.graph.node if node.op_type == "Erf")
    assert len(fused(model, keeps=lambda name: name == label)[1]) == 1


@pytest.mark.parametrize(
    ("target", "count"),
    [
        (Fake(), 2),
        (Fake(idioms={"GELU": "operator"}), 2),
        (Fake(idioms={"GELU": "form"}), 0),
        (Fake(idioms={"GELU": "none"}), 0),
        (Fake(lacks=frozenset({"Gelu"})), 0),
    ],
)
def test_a_target_gets_what_it_wants(target, count):
    assert len(fused(two(), target)[1]) == count


def test_what_stays_says_why():
    def stage(graph):
        found.extend((one.idiom.name, refusal.code) for one, refusal in left(graph))
        return []

    found = []
    once(stage, written("gelu", 17)[1])
    once(stage, written("l2_norm", 17)[1])
    assert found == [("GELU", "old-opset"), ("L2 normalization", "idiom")]


def test_types_and_opset_are_asked_of_the_target():
    asked = []

    class Asking(Fake):
        def takes(self, op, opset, dtype=None):
            asked.append((op, opset, dtype))
            return True

    fused(written("gelu", 20, dtype=np.float16)[1], Asking())
    assert asked == [("Gelu", 20, "float16")]


# --- elsewhere ----------------------------------------------------------


def test_a_nested_graph_is_fused_too():
    m = Model(opset=20, dtype=np.float32)
    x, always = m.x(2, 3), m.constant(np.array(True))
    branches = []
    for _ in range(2):
        first = len(m.nodes)
        result = helper.make_tensor_value_info(idioms.gelu(m, x), TensorProto.FLOAT, [2, 3])
        branches.append(helper.make_graph(m.nodes[first:], "body", [], [result]))
    m.nodes[:] = []
    m.op("If", always, like=x, then_branch=branches[0], else_branch=branches[1])
    model = m.build()
    after, changes = fused(model)
    assert len(changes) == 2
    assert [node.op_type for node in after.graph.node[-1].attribute[0].g.node] == ["Gelu"]
    assert_equal(model, after, m.feeds)


def test_an_old_file_declares_new_constants_as_inputs():
    m = Model(opset=17, dtype=np.float32, ir=3)
    m.op("Identity", idioms.layer_norm_core(m, start(m)))
    model = m.build()
    after, _ = fused(model)
    scale = after.graph.node[1].input[1]
    assert scale in {value.name for value in after.graph.input}
    assert_equal(model, after, m.feeds)
