"""Pad goes into the convolution or pooling that reads it."""

from __future__ import annotations

import pytest

from tests.support.ready.cleaning import check, model, operators

X = "(float[2,2,4,4] x) => (float[2,C,H,W] y)"
W = "float[2,2,2,2] w = {1,2,3,4,5,6,7,8,1,2,3,4,5,6,7,8}"
AROUND = "int64[8] p = {0,0,1,0,0,0,0,1}"
CHANNELS = "int64[8] p = {0,1,0,0,0,0,0,0}"
AVERAGE = "AveragePool <kernel_shape = [2,2]"
LOWEST = "float v = {-inf}"
ROWS = [
    (X + f"<{W}, {AROUND}> {{ a = Pad(x, p) y = Conv(a, w) }}", "Conv"),
    (X + f"<{W}, {AROUND}> {{ a = Pad(x, p) y = Conv <pads = [1,1,0,0]> (a, w) }}", "Conv"),
    (X + f'<{W}, {AROUND}> {{ a = Pad(x, p) y = Conv <auto_pad = "VALID"> (a, w) }}', "Conv"),
    (
        X + f"<{W}, {AROUND}> {{ a = Pad(x, p) b = Conv(a, w) c = Conv <dilations = [2,2]> (a, w) d = Relu(c)"
        " e = Relu(b) m = ReduceMax(d) y = Mul(e, m) }",
        "Conv Conv Relu Relu ReduceMax Mul",
    ),
    (X + f"<{AROUND}> {{ a = Pad(x, p) y = {AVERAGE}> (a) }}", "AveragePool"),
    (X + f"<{AROUND}> {{ a = Pad(x, p) y = {AVERAGE}, count_include_pad = 1, pads = [0,1,0,0]> (a) }}", "AveragePool"),
    (X + f"<{AROUND}, {LOWEST}> {{ a = Pad(x, p, v) y = MaxPool <kernel_shape = [2,2]> (a) }}", "MaxPool"),
    # near misses
    (X + f'<{W}, {AROUND}> {{ a = Pad(x, p) y = Conv <auto_pad = "SAME_UPPER"> (a, w) }}', "Pad Conv"),
    (X + f"<{W}, {AROUND}, float v = {{1}}> {{ a = Pad(x, p, v) y = Conv(a, w) }}", "Pad Conv"),
    (X + f'<{W}, {AROUND}> {{ a = Pad <mode = "edge"> (x, p) y = Conv(a, w) }}', "Pad Conv"),
    (X + f"<{AROUND}> {{ a = Pad(x, p) y = MaxPool <kernel_shape = [2,2]> (a) }}", "Pad MaxPool"),
    (X + f"<{AROUND}> {{ a = Pad(x, p) y = {AVERAGE}, ceil_mode = 1> (a) }}", "Pad AveragePool"),
    (X + f"<{AROUND}> {{ a = Pad(x, p) y = {AVERAGE}, pads = [0,1,0,0]> (a) }}", "Pad AveragePool"),
    (X + "<int64[8] p = {0,0,2,0,0,0,0,0}>" + f"{{ a = Pad(x, p) y = {AVERAGE}> (a) }}", "Pad AveragePool"),
    (X + f"<{CHANNELS}> {{ a = Pad(x, p) y = {AVERAGE}> (a) }}", "Pad AveragePool"),
    (
        X + f"<{W}, {AROUND}> {{ a = Pad(x, p) b = Conv(a, w) c = ReduceMax(a) y = Mul(b, c) }}",
        "Pad Conv ReduceMax Mul",
    ),
    (X + "<" + W + ", int64[8] p = {0,0,-1,0,0,0,0,0}> { a = Pad(x, p) y = Conv(a, w) }", "Pad Conv"),
]


@pytest.mark.parametrize(("text", "left"), ROWS)
def test_what_is_left(text, left):
    assert " ".join(operators(check(model(text)).graph)) == left
