"""What the planner and the commit ask once for all rules: who else can see a value, a weight or a name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from folding import OptionError, Options, fold_model
from folding.planning import planner
from folding.planning.commit import ABSORBED
from tests.support.models import DIGITS, NO_VERIFY, SITE, Model, assert_same_function, fold
from tests.support.rows.row import Folded, Kept, into, judge, out, start

if TYPE_CHECKING:
    from folding import Report


def simple(**kind: int) -> Model:
    """Relu -> Conv -> BatchNormalization -> Relu; the weight is c0, the bias c1."""
    m = Model(**kind)
    out(m, m.bn(m.conv(start(m), 6)))
    return m


def check(
    m: Model, before: onnx.ModelProto, expected: Folded | Kept, options: Options = NO_VERIFY
) -> tuple[onnx.ModelProto, Report]:
    after, report = fold(before, options)
    outcome = next(o for o in report.outcomes if o.node == SITE)
    judge(outcome, expected, {n.name: n.op_type for n in (*before.graph.node, *after.graph.node)})
    assert_same_function(before, after, m.feeds, DIGITS[m.dtype])
    assert [i.name for i in after.graph.input if i.name in m.feeds] == [
        i.name for i in before.graph.input if i.name in m.feeds
    ]
    assert after.graph.output == before.graph.output
    return after, report


def names(model: onnx.ModelProto) -> tuple[set[str], set[str]]:
    return {t.name for t in model.graph.initializer}, {i.name for i in model.graph.input}


# --- initializers a caller may override ---------------------------------------------------------------------


@pytest.mark.parametrize("which", ["c0", "c1", "c2", "c5"], ids=["weight", "bias", "gamma", "var"])
def test_an_overridable_initializer_is_no_constant(which):
    m = simple()
    m.overridable = {which}
    expected = Kept("overridable", "barrier" if which in {"c0", "c1"} else "overridable")
    check(m, m.build(), expected)
    after, _ = check(m, m.build(), into("Conv"), Options(verify=False, freeze_initializers=True))
    assert which not in names(after)[1]


def test_a_frozen_initializer_that_no_fold_needs_stays_an_input():
    m = Model()
    x = start(m)
    unrelated = m.constant((4, 1, 1), name="unrelated")
    m.overridable = {unrelated}
    m.op(
        "Concat", out(m, m.bn(m.conv(x, 6, kernel=1))), m.op("Sigmoid", m.op("Relu", m.op("Add", x, unrelated))), axis=1
    )
    after, _ = check(m, m.build(), into("Conv"), Options(verify=False, freeze_initializers=True))
    assert "unrelated" in names(after)[1]


def test_before_ir_4_initializers_are_constants_and_declared_as_inputs():
    m = Model(opset=8, ir=3)
    x = start(m)
    w = m.constant((4, 4, 3, 3))
    y = m.op("Conv", out(m, m.bn(m.op("Conv", x, w))), w)
    out(m, y)
    after, _ = check(m, m.build(), into("Conv"))
    initializers, inputs = names(after)
    assert initializers <= inputs
    assert inputs == initializers | {"x0"}


# --- values others can see ----------------------------------------------------------------------------------


def test_a_graph_output_between_stays():
    m = simple()
    conv = m.nodes[1].output[0]
    check(m, m.build(conv, m.nodes[-1].output[0]), Kept("graph-output", "barrier"))


def test_an_affine_that_makes_a_graph_output_keeps_its_name():
    m = Model()
    y = m.bn(m.conv(start(m), 6))
    check(m, m.build(y), into("Conv"))


def test_an_affine_on_a_graph_input_that_makes_a_graph_output_stays():
    m = Model()
    y = m.op("Mul", m.x(2, 3), m.constant(np.ones(())), name=SITE)
    check(m, m.build(y), Kept("graph-input", "graph-output"))


def test_quantization_annotations_are_respected():
    m = simple()
    before = m.build()
    before.graph.quantization_annotation.add(tensor_name=m.nodes[1].output[0])
    after, _ = check(m, before, Kept("annotated", "barrier"))
    assert after == before


def test_training_information_is_respected():
    m = simple()
    before = m.build()
    info = before.training_info.add()
    info.algorithm.name = "step"
    info.algorithm.node.add(op_type="Identity", input=[m.nodes[1].output[0]], output=["seen"])
    after, report = fold_model(before, NO_VERIFY)
    judge(report.outcomes[0], Kept("captured", "barrier"), {})
    assert after == before


def test_a_weight_that_training_updates_is_copied():
    m = simple()
    before = m.build()
    info = before.training_info.add()
    info.algorithm.name = "step"
    info.update_binding.add(key="c0", value="new")
    after, _ = fold_model(before, NO_VERIFY)
    old, new = ({t.name: t for t in g.graph.initializer} for g in (before, after))
    assert new["c0"] == old["c0"]
    assert "c0_folded" in new


def test_moves_end_somewhere(monkeypatch):
    monkeypatch.setattr(planner, "DEPTH_LIMIT", 8)
    m = Model()
    x = m.conv(start(m), 6)
    for _ in range(9):
        x = m.op("Identity", x)
    out(m, m.bn(x))
    check(m, m.build(), Kept("too-far", "barrier"))


def test_a_long_way_is_no_recursion_error():
    m = Model()
    x = m.conv(start(m), 6)
    for _ in range(3000):
        x = m.op("Identity", x)
    out(m, m.bn(x))
    check(m, m.build(), Kept("too-far", "barrier"))


# --- nested graphs ------------------------------------------------------------------------------------------


def with_branches(m: Model, reads: str, **initializers: np.ndarray) -> str:
    """An If whose branches are Identity(reads) and Neg(reads)."""
    shape = m.at(reads).shape
    made = []
    for op in ("Identity", "Neg"):
        result = helper.make_tensor_value_info(f"{op}_out", helper.np_dtype_to_tensor_dtype(m.dtype), shape)
        nodes = [helper.make_node(op, [reads], [f"{op}_out"])]
        made.append(helper.make_graph(nodes, op, [], [result]))
    condition = m.constant(np.array(True), name="condition")
    node = helper.make_node("If", [condition], ["chosen"], name="if", then_branch=made[0], else_branch=made[1])
    m.nodes.append(node)
    m.values["chosen"] = m.at(reads)
    return "chosen"


def test_a_captured_value_stays():
    m = simple()
    conv = m.nodes[1].output[0]
    chosen = with_branches(m, conv)
    check(m, m.build(m.nodes[3].output[0], chosen), Kept("captured", "barrier"))


def test_a_captured_weight_is_copied():
    m = simple()
    chosen = with_branches(m, "c0")
    after, _ = check(m, m.build(m.nodes[3].output[0], chosen), into("Conv"))
    assert {"c0", "c0_folded"} <= names(after)[0]


def inner_model(*, own_weight: bool, own_input: bool) -> tuple[Model, onnx.ModelProto]:
    """An If whose then-branch is BN(Conv(x)), its weight inside or outside, its data computed inside or outside."""
    m = Model()
    x = start(m)
    y = m.bn(m.conv(x, 6))
    body, parameters = m.nodes[-2:], set(m.initializers)
    m.nodes = m.nodes[:-2]
    inside = [numpy_helper.from_array(m.initializers[n], n) for n in sorted(parameters) if own_weight]
    if own_weight:
        m.initializers.clear()
    if not own_input:
        m.nodes.append(body[0])
        body = body[1:]
    kind, shape = helper.np_dtype_to_tensor_dtype(m.dtype), m.at(y).shape
    then = helper.make_graph(body, "then", [], [helper.make_tensor_value_info(y, kind, shape)], inside)
    zeros = numpy_helper.from_array(np.zeros(shape, m.dtype), "zeros")
    otherwise = helper.make_graph([], "else", [], [helper.make_tensor_value_info("zeros", kind, shape)], [zeros])
    condition = m.constant(np.array(True), name="condition")
    m.nodes.append(helper.make_node("If", [condition], ["chosen"], then_branch=then, else_branch=otherwise))
    m.values["chosen"] = m.at(y)
    return m, m.build("chosen")


@pytest.mark.parametrize("own_weight", [False, True])
def test_bodies_are_folded_with_weights_from_anywhere(own_weight):
    m, before = inner_model(own_weight=own_weight, own_input=True)
    after, report = fold(before)
    assert report.outcomes[0].status == "folded"
    assert report.bn_after == 0
    assert_same_function(before, after, m.feeds, DIGITS[m.dtype])


def test_a_value_of_the_enclosing_graph_stays():
    _, before = inner_model(own_weight=False, own_input=False)
    after, report = fold(before)
    judge(report.outcomes[0], Kept("outer-scope", "graph-output"), {})
    assert after == before


# --- operators that are not ONNX's, functions, options --------------------------------------------------------


def test_a_custom_normalization_is_not_ours():
    m = simple()
    before = m.build()
    before.graph.node[2].domain = "my.domain"
    before.opset_import.add(domain="my.domain", version=1)
    after, report = fold_model(before, NO_VERIFY)
    judge(report.outcomes[0], Kept("custom-domain", "custom-domain"), {})
    assert after == before


def test_the_other_spelling_of_the_standard_domain_is_ours():
    m = simple()
    before = m.build()
    before.graph.node[2].domain = "ai.onnx"
    assert fold_model(before, NO_VERIFY)[1].bn_after == 0


def test_a_function_may_give_a_standard_name_another_meaning():
    m = simple()
    before = m.build()
    body = [helper.make_node("Identity", ["x"], ["y"])]
    before.functions.append(
        helper.make_function("", "Conv", ["x", "w", "b"], ["y"], body, [helper.make_opsetid("", 17)])
    )
    after, report = fold_model(before, NO_VERIFY)
    assert report.bn_after == 1
    assert after == before


OPTIONS = [
    (Options(verify=False, keep=(SITE,)), Kept("kept-by-option", "kept-by-option")),
    (Options(verify=False, keep=("conv*",)), Kept("kept-by-option", "barrier")),
    (Options(verify=False, only=("conv*",)), Kept("kept-by-option", "kept-by-option")),
    (Options(verify=False, only=("si?e",)), into("Conv")),
]


@pytest.mark.parametrize(("options", "expected"), OPTIONS)
def test_keep_and_only(options, expected):
    m = simple()
    check(m, m.build(), expected, options)


@pytest.mark.parametrize("given", [{"keep": ("sito",)}, {"only": ("sito",)}, {"keep": (SITE, "nosuch*")}])
def test_a_pattern_that_matches_nothing_is_a_mistake(given):
    with pytest.raises(OptionError, match="no operator is named"):
        fold_model(simple().build(), Options(verify=False, **given))


# --- names, sharing, what survives ----------------------------------------------------------------------------


def test_new_names_do_not_collide():
    m = Model()
    x, w = start(m), m.constant((4, 4, 3, 3), name="w")
    m.constant((1,), name="w_folded")
    first = m.bn(m.op("Conv", x, w))
    m.op("Concat", m.op("Add", out(m, first), m.op("Relu", m.op("Conv", x, w))), axis=0)
    after, _ = check(m, m.build(), into("Conv"))
    assert {"w", "w_folded", "w_folded_2"} <= names(after)[0]


def test_equal_results_are_made_once():
    """A siamese network: one weight and one set of parameters, applied twice."""
    m = Model()
    w, parameters = m.constant((6, 4, 3, 3)), [m.constant(m.random.uniform(0.5, 1.5, 6)) for _ in range(4)]
    ends = [
        out(m, m.op("BatchNormalization", m.op("Conv", start(m), w), *parameters, name=name)) for name in (SITE, "twin")
    ]
    m.op("Add", *ends)
    before = m.build()
    after, _ = check(m, before, into("Conv"))
    assert len(after.graph.initializer) == 2  # one weight, one bias


def test_twins_with_different_parameters_get_their_own_weights():
    m = Model()
    w = m.constant((6, 4, 3, 3))
    m.op("Add", *[out(m, m.bn(m.op("Conv", start(m), w), name=name)) for name in (SITE, "twin")])
    after, _ = check(m, m.build(), into("Conv"))
    assert len(after.graph.initializer) == 4


def test_names_metadata_and_untouched_tensors_survive():
    m = simple()
    other = m.constant((3, 3), name="other")
    m.op("MatMul", m.x(3, 3), other, name="apart")
    before = m.build(m.nodes[3].output[0], m.nodes[-1].output[0])
    before.graph.node[1].doc_string = "stem"
    before.graph.node[1].metadata_props.add(key="from", value="exporter")
    before.graph.value_info.append(helper.make_tensor_value_info(m.nodes[1].output[0], 11, (2, 6, 3, 4)))
    after, _ = check(m, before, into("Conv"))
    conv = next(n for n in after.graph.node if n.op_type == "Conv")
    assert (conv.name, conv.doc_string) == ("conv1", "stem")
    assert {p.key: p.value for p in conv.metadata_props} == {"from": "exporter", ABSORBED: SITE}
    untouched = {t.name: t for t in before.graph.initializer}["other"]
    assert {t.name: t for t in after.graph.initializer}["other"] == untouched
    assert not after.graph.value_info  # what it said of the convolution's output is true of nothing now


def test_dead_constants_go_and_unrelated_dead_ones_stay():
    m = simple()
    m.constant((2,), name="never read")
    after, _ = check(m, m.build(), into("Conv"))
    assert names(after)[0] == {"c0", "c1", "never read"}


def test_nameless_nodes_are_reported_by_their_outputs():
    m = simple()
    for node in m.nodes:
        node.name = ""
    _, report = fold(m.build())
    assert report.outcomes[0].node == m.nodes[2].output[0]
    assert report.outcomes[0].absorbed_by == (m.nodes[2].output[0],)
