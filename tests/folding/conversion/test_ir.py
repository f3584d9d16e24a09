"""The IR version goes where a target takes it, constants stay constants, and parts that need a newer one are named."""

from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto, helper, parser

from folding import onnxfile
from folding.conversion.ir import fit, of_opset
from folding.errors import OptionError
from tests.folding.conversion.computing import applied, assert_equal, model

OLD = """
<ir_version: 3, opset_import: ["": 9]>
g (float[2,3] x, float[3] w) => (float[2,3] y) <float[3] w = {1, 2, 3}> { y = Add(x, w) }
"""


def test_it_stays_where_the_range_allows_it():
    made = model(17, "float[2] x", "y = Relu(x)", ir=8)
    assert applied(made, lambda file: fit(file, 3, 10)) == (made, [])


def test_initializers_of_old_files_do_not_become_default_values():
    before = parser.parse_model(OLD)
    after, changes = applied(before, lambda file: fit(file, 7, 10))
    assert [change.kind for change in changes] == ["IR version 3 to 7"]
    assert [value.name for value in after.graph.input] == ["x"]
    assert_equal(before, after)
    back, _ = applied(after, lambda file: fit(file, 3, 3))
    assert back == before


def test_it_is_lowered_into_the_range():
    after, changes = applied(model(17, "float[2] x", "y = Relu(x)", ir=11), lambda file: fit(file, 4, 9))
    assert (after.ir_version, changes[0].kind) == (9, "IR version 11 to 9")
    onnx.checker.check_model(after)


def typed(code: int) -> onnx.ModelProto:
    made = model(21, "float[2] x", "y = Relu(x)", ir=12)
    made.graph.initializer.append(helper.make_tensor("t", code, [2], b"\x00" * 2, raw=True))
    return made


LOCAL = parser.parse_model("""
<ir_version: 10, opset_import: ["": 17, "l": 1]> g (float[2] x) => (float[2] y) { y = l.F(x) }
<domain: "l", opset_import: ["": 17]> F (a) => (b) { b = Relu(a) }
""")
NEEDS = [
    (typed(TensorProto.FLOAT8E4M3FN), 8, "no type float8e4m3fn, which 't' has .it came with 9"),
    (LOCAL, 7, "no model-local functions .it came with 8"),
]


@pytest.mark.parametrize(("made", "highest", "message"), NEEDS)
def test_what_needs_a_newer_one_is_refused(made, highest, message):
    with onnxfile.from_bytes(made.SerializeToString()) as file:
        with pytest.raises(OptionError, match=message):
            fit(file, 3, highest)
        assert file.model == made


def test_it_is_raised_to_what_its_parts_need():
    made = model(21, "float[2] x", "y = Cast<to=22>(x)", ir=8)
    after, _ = applied(made, lambda file: fit(file, 3, 12))
    assert after.ir_version == 10  # int4


def test_the_ir_version_of_an_opset():
    assert [of_opset(n) for n in (8, 9, 13, 17, 21, 23)] == [3, 4, 7, 8, 10, 11]
