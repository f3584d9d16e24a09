"""What only training needs goes where nothing reads it."""

from __future__ import annotations

import pytest
from onnx import parser

from folding.conversion.leftovers import strip
from tests.folding.conversion.computing import applied, assert_equal

MODEL = """
<ir_version: 8, opset_import: ["": OPSET]>
g (float[2,3] x) => (float[2,3] y OUTPUT) <float[3] s = {1, 2, 3}, bool[2,3] mask> {
  a, mask = Dropout(x)
  n, mean, var = BatchNormalization<training_mode=MODE>(a, s, s, s, s)
  y = Relu(n)
}
"""


def made(opset: int = 15, output: str = "", mode: int = 0):
    found = parser.parse_model(
        MODEL.replace("OPSET", str(opset))
        .replace("OUTPUT", output)
        .replace("<training_mode=MODE>", f"<training_mode={mode}>" if opset >= 14 else "")
    )
    found.training_info.add()
    return found


def test_training_information_masks_and_statistics_go():
    after, changes = applied(made(), strip)
    assert [(change.kind, change.count) for change in changes] == [
        ("training information removed", 1),
        ("statistics of BatchNormalization removed", 1),
        ("mask of Dropout removed", 1),
    ]
    assert [len(node.output) for node in after.graph.node] == [1, 1, 1]
    assert not after.graph.value_info
    assert applied(after, strip) == (after, [])


@pytest.mark.parametrize(("output", "left"), [(", bool[2,3] mask", [2, 1, 1]), (", float[3] var", [1, 3, 1])])
def test_what_is_read_stays(output, left):
    after, _ = applied(made(output=output), strip)
    assert [len(node.output) for node in after.graph.node] == left


def test_statistics_of_a_normalization_that_trains_stay_as_the_standard_requires_them():
    after, _ = applied(made(mode=1), strip)
    assert [len(node.output) for node in after.graph.node] == [1, 3, 1]


def test_before_opset_14_the_number_of_outputs_determined_the_mode():
    after, _ = applied(made(13), strip)
    assert [len(node.output) for node in after.graph.node] == [1, 3, 1]


def test_a_dropout_computes_the_same():
    before = parser.parse_model(
        '<ir_version: 8, opset_import: ["": 15]> g (float[2,3] x) => (float[2,3] y) { y, m = Dropout(x) }'
    )
    after, _ = applied(before, strip)
    assert_equal(before, after)
