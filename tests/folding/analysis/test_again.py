"""Inference again, after a change: what was known before counts as nothing that this inference has found."""

from __future__ import annotations

import pytest
from onnx import parser

from folding import onnxfile
from folding.analysis import shapes
from folding.analysis.values import indexed

NORM = "n = GroupNormalization <num_groups = 2> (x, s, s)"  # onnx infers nothing here
POOL = (
    "n = MaxPool <auto_pad = 'SAME_UPPER', dilations = [2, 2], kernel_shape = [2, 2]> (x)"  # its lengths are disputed
)
SIZES = "p = Shape(x) t = Mul(p, one) n = Reshape(x, t)"  # nor here


@pytest.mark.parametrize(
    ("text", "expected"),
    [(NORM, (1, 4, 2, 3)), (POOL.replace("'", '"'), (1, 4, None, 3)), (SIZES, (1, 4, 2, 3))],
)
def test_what_follows_is_found_again(text, expected):
    text = f"""<ir_version: 8, opset_import: ["" : 21]>
g (float[1,4,2,2] x) => (float[a,b,c,d] y) <float[4] s = {{1,2,3,4}}, int64 one = {{1}}, float[2,3] w = {{1,2,3,4,5,6}}>
{{ {text} y = MatMul(n, w) }}"""
    with onnxfile.from_bytes(parser.parse_model(text).SerializeToString()) as file:
        graph = indexed(file)
        for _ in range(3):
            shapes.infer(graph)
            assert tuple(n if isinstance(n, int) else None for n in graph.main.shapes["y"]) == expected
