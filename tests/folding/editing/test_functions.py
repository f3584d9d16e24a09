"""Model-local functions: folded for all callers at once, inlined where callers pass the constants, else left alone."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from folding import Options, fold_model, onnxfile
from folding.editing.functions import inline_where_needed
from folding.onnxfile.skeleton import INLINE_BYTES
from tests.support import structures
from tests.support.models import DIGITS, NO_VERIFY, SITE, Model, assert_same_function, fold
from tests.support.rows.row import Kept, judge, out, start

LOCAL = helper.make_opsetid("local", 1)
STANDARD = helper.make_opsetid("", 17)


def simple(kernel: int = 3, outputs: int = 6) -> Model:
    m = Model(ir=10)
    out(m, m.bn(m.conv(start(m), outputs, kernel=kernel)))
    return m


def operators(nodes) -> list[str]:
    return [node.op_type for node in nodes]


def checked(before: onnx.ModelProto, m: Model, options: Options = NO_VERIFY):
    after, report = fold(before, options)
    assert_same_function(before, after, m.feeds, DIGITS[m.dtype])
    again, second = fold(after, options)
    assert again == after
    assert not second.changed
    return after, report


@pytest.mark.parametrize("calls", [1, 3])
def test_a_function_with_its_own_constants_is_folded_for_all_callers(calls):
    m = simple()
    before = structures.in_function(m.build(), list(m.initializers), calls=calls)
    after, report = checked(before, m)
    assert [(o.node, o.status, o.absorbed_by) for o in report.outcomes] == [
        (f"wrapped/{SITE}", "folded", ("wrapped/conv1",))
    ]
    assert operators(after.functions[0].node) == ["Constant", "Constant", "Asinh", "Conv", "Asinh"]
    assert after.graph == before.graph
    assert not report.notes


@pytest.mark.parametrize("absorber", ["Conv", "Gemm", "Gemm transposed"])
def test_maps_in_a_function_fold_too(absorber):
    m = Model(ir=10)
    if absorber == "Conv":
        x = m.conv(start(m), 6)
    else:
        x = start(m, 3, 4)
        transposed = absorber != "Gemm"
        x = m.op("Gemm", x, m.constant((5, 4) if transposed else (4, 5)), transB=int(transposed))
    out(m, m.per_channel("Mul", x))
    before = structures.in_function(m.build(), list(m.initializers), calls=2)
    after, report = checked(before, m)
    assert report.outcomes[0].status == "folded"
    assert after.graph == before.graph


@pytest.mark.parametrize("calls", [1, 3])
def test_a_function_is_inlined_where_its_callers_pass_the_constants(calls):
    m = simple()
    before = structures.in_function(m.build(), calls=calls)
    after, report = checked(before, m)
    assert operators(after.graph.node) == ["Asinh", "Conv", "Asinh"] * calls
    assert not after.functions
    assert (report.bn_before, report.bn_after) == (calls, 0)
    assert "wrapped" in report.notes[0]


def test_large_constants_of_an_inlined_function_are_there_for_every_call():
    m = simple(outputs=40)
    names = list(m.initializers)
    assert m.initializers[names[0]].nbytes > INLINE_BYTES
    before = structures.in_function(m.build(), names[:2], calls=2)
    after, _ = checked(before, m)
    assert operators(after.graph.node) == ["Asinh", "Conv", "Asinh"] * 2


def nested(*, weights_inside: bool) -> tuple[Model, onnx.ModelProto]:
    """outer calls inner (the normalization); its convolution is in outer, the weights there or in the main graph."""
    m = simple()
    before = m.build()
    norm = before.graph.node[2]
    inner = helper.make_function("local", "inner", ["value", *norm.input[1:]], ["result"], [], [STANDARD])
    inner.node.add().CopyFrom(norm)
    inner.node[0].input[0], inner.node[0].output[0] = "value", "result"
    call = helper.make_node("inner", list(norm.input), list(norm.output), domain="local", name="call")
    norm.CopyFrom(call)
    result = structures.in_function(before, list(m.initializers) if weights_inside else ())
    result.functions[0].opset_import.append(LOCAL)
    result.functions.append(inner)
    unrelated = helper.make_function(
        "local", "unrelated", ["x"], ["y"], [helper.make_node("Asinh", ["x"], ["y"])], [STANDARD]
    )
    result.functions.append(unrelated)
    return m, result


def test_only_the_functions_in_the_way_are_inlined():
    m, before = nested(weights_inside=True)
    after, report = checked(before, m)
    assert [f.name for f in after.functions] == ["wrapped", "unrelated"]
    assert "Conv" in operators(after.functions[0].node)
    assert report.bn_after == 0
    assert after.graph == before.graph


def test_functions_that_call_functions_are_inlined_together():
    m, before = nested(weights_inside=False)
    after, report = checked(before, m)
    assert [f.name for f in after.functions] == ["unrelated"]
    assert report.bn_after == 0


def test_functions_that_help_nothing_stay_as_they_are():
    m = Model(ir=10)
    out(m, m.bn(start(m)))
    before = structures.in_function(m.build(), calls=2)
    after, report = fold_model(before, NO_VERIFY)
    judge(report.outcomes[0], Kept("weight-not-constant", "weight-not-constant"), {})
    assert after == before


def test_a_function_in_a_body():
    m = simple()
    before = structures.in_branch(structures.in_function(m.build()))
    after, report = checked(before, m)
    assert report.bn_after == 0
    assert not after.functions


def test_a_body_in_a_function():
    m = simple()
    inside = structures.in_branch(m.build(), list(m.initializers))
    before = structures.in_function(inside, ["taken"])
    after, report = checked(before, m)
    assert report.bn_after == 0
    assert len(after.functions) == 1


def test_a_function_nobody_calls():
    m = simple()
    before = m.build()
    before.functions.extend(structures.in_function(simple().build(), calls=0).functions)
    before.opset_import.append(LOCAL)
    after, report = checked(before, m)
    assert (report.bn_before, report.bn_after) == (2, 1)
    assert after.functions == before.functions


def test_a_keep_pattern_keeps_a_function_whole():
    m = simple()
    before = structures.in_function(m.build())
    after, report = fold_model(before, Options(verify=False, keep=(f"wrapped/{SITE}",)))
    judge(report.outcomes[0], Kept("kept-by-option", "kept-by-option"), {})
    assert after == before


def test_two_functions_of_one_name():
    m = simple()
    before = structures.in_function(m.build())
    before.functions[0].overload = before.graph.node[0].overload = "first"
    second = before.functions.add()
    second.CopyFrom(before.functions[0])
    second.overload = "second"
    after, report = checked(before, m)
    assert report.bn_after == 0
    assert not after.functions


def test_another_operator_set():
    m = simple()
    before = structures.in_function(m.build(), list(m.initializers))
    before.functions[0].opset_import[0].version = 16
    after, report = fold_model(before, NO_VERIFY)
    judge(report.outcomes[0], Kept("in-function", "in-function"), {})
    assert report.outcomes[0].node == f"wrapped/{SITE}"
    assert after == before


def test_operator_sets_of_an_inlined_function_are_imported():
    m = simple()
    before = structures.in_function(m.build())
    before.functions[0].opset_import.append(helper.make_opsetid("other", 3))
    before.functions[0].node.append(
        helper.make_node("foo", [before.functions[0].output[0]], ["unused"], domain="other")
    )
    after, _ = fold(before)
    assert ("other", 3) in {(o.domain, o.version) for o in after.opset_import}
    before.functions.add(name="g", domain="local", opset_import=[helper.make_opsetid("other", 4)])
    after, report = fold_model(before, NO_VERIFY)
    assert after == before
    assert report.bn_after == 1


# --- attributes by reference ------------------------------------------------------------------------------------


def with_reference(m: Model, inside: list[str], default: float | None, given: float | None) -> onnx.ModelProto:
    """The model in a function whose normalization takes its epsilon from the caller."""
    before = structures.in_function(m.build(), inside)
    function, call = before.functions[0], before.graph.node[0]
    norm = next(node for node in function.node if node.op_type == "BatchNormalization")
    norm.attribute.add(name="epsilon", ref_attr_name="eps", type=onnx.AttributeProto.FLOAT)
    if default is None:
        function.attribute.append("eps")
    else:
        function.attribute_proto.append(helper.make_attribute("eps", default))
    if given is not None:
        call.attribute.append(helper.make_attribute("eps", given))
    return before


@pytest.mark.parametrize(("default", "given"), [(None, 0.5), (None, None), (0.25, None), (0.25, 0.5)])
def test_attributes_by_reference_are_known_once_inlined(default, given):
    m = simple()
    before = with_reference(m, list(m.initializers), default, given)
    after, report = checked(before, m)
    assert operators(after.graph.node) == ["Asinh", "Conv", "Asinh"]
    assert report.bn_after == 0


def test_attributes_by_reference_are_unknown_in_the_function():
    m = Model(ir=10)
    out(m, m.bn(m.op("Gemm", start(m, 3, 4), m.x(4, 5))))
    before = with_reference(m, list(m.initializers), None, 0.5)
    after, report = fold_model(before, NO_VERIFY)
    judge(report.outcomes[0], Kept("attribute-reference", "attribute-reference"), {})
    assert after == before


def test_a_default_that_a_caller_may_pass_on_is_not_guessed():
    """Where the outer function gives no value, the inner default counts; onnx's inliner leaves the attribute out."""
    m = simple()
    before = with_reference(m, list(m.initializers), 0.25, None)
    call = before.graph.node[0]
    outer = helper.make_function("local", "outer", call.input, call.output, [call], [STANDARD, LOCAL], ["eps"])
    outer.node[0].attribute.add(name="eps", ref_attr_name="eps", type=onnx.AttributeProto.FLOAT)
    before.functions.append(outer)
    call.op_type = "outer"
    after, report = fold_model(before, NO_VERIFY)
    assert after == before
    assert report.bn_after == 1


def test_constants_by_reference_are_no_constants():
    m = simple()
    names = list(m.initializers)
    before = structures.in_function(m.build(), names)
    constant = next(n for n in before.functions[0].node if n.output[0] == names[2])
    before.graph.node[0].attribute.append(helper.make_attribute("gamma", constant.attribute[0].t))
    before.functions[0].attribute.append("gamma")
    constant.attribute[0].Clear()
    constant.attribute[0].MergeFrom(
        onnx.AttributeProto(name="value", ref_attr_name="gamma", type=onnx.AttributeProto.TENSOR)
    )
    after, _ = checked(before, m)
    assert operators(after.graph.node) == ["Asinh", "Conv", "Asinh"]


# --- what is inlined --------------------------------------------------------------------------------------------


def test_as_few_functions_as_suffice_are_inlined():
    """Of eight functions two together let the normalization fold."""
    m = Model(ir=10)
    before = m.build(m.op("Asinh", m.x(2)))
    for number in range(8):
        body = [helper.make_node("Identity", ["x"], ["y"])]
        before.functions.append(helper.make_function("local", f"f{number}", ["x"], ["y"], body, [STANDARD]))
        before.graph.node.append(helper.make_node(f"f{number}", ["x0"], [f"y{number}"], domain="local"))
    before.functions[3].node.add(op_type="BatchNormalization", input=["x"], output=["z"])
    before.opset_import.append(LOCAL)
    asked = []

    def fold_in_place(model: onnx.ModelProto) -> None:
        """It folds where f2 and f5 are inlined."""
        asked.append(model)
        if not {"f2", "f5"} & {f.name for f in model.functions}:
            del next(f for f in model.functions if f.name == "f3").node[1:]

    model, names = inline_where_needed(before, {"f3"}, fold_in_place)
    assert names == ["f2", "f5"]
    assert [f.name for f in model.functions] == ["f0", "f1", "f3", "f4", "f6", "f7"]
    assert len(asked) < 16


def test_a_variant_shares_the_payloads():
    m = simple(outputs=40)
    data = m.build().SerializeToString()
    with onnxfile.from_bytes(data) as file:
        copy = onnx.ModelProto()
        copy.CopyFrom(file.model)
        variant = file.variant(copy)
        assert variant.payload(copy.graph.initializer[0]) == file.payload(file.model.graph.initializer[0])
        assert np.frombuffer(onnxfile.to_bytes(variant), np.uint8).size == len(data)
    assert numpy_helper.to_array(onnx.ModelProto.FromString(data).graph.initializer[0]).shape == (40, 4, 3, 3)
