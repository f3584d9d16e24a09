"""Idioms take a map into gamma and beta, and otherwise neither take nor pass one."""

from __future__ import annotations

from tests.support.ready.idioms import attention, gelu, group_norm, hard_swish, layer_norm, product_with_bias, rms_norm
from tests.support.rows.row import Kept, into, out, start

ROWS = [
    ("into a layer normalization written out", lambda m: out(m, m.bn(layer_norm(m, start(m, 3, 4)))), into("Mul", "Add", direction="backward", left=11)),
    ("a shift into a layer normalization written out", lambda m: out(m, m.per_channel("Add", m.op("Identity", layer_norm(m, start(m, 3, 4))))), into("Add", direction="backward")),
    ("into an RMS normalization written out", lambda m: out(m, m.bn(rms_norm(m, start(m, 3, 4)))), into("Mul", status="split", left=10)),
    ("into a group normalization written out", lambda m: out(m, m.bn(group_norm(m, start(m)))), into("Mul", "Add", direction="backward", left=7)),
    ("another axis behind a layer normalization written out", lambda m: out(m, m.bn(layer_norm(m, start(m)))), Kept("idiom", "barrier")),
    ("behind a GELU", lambda m: out(m, m.bn(gelu(m, start(m)))), Kept("idiom", "barrier")),
    ("before a GELU", lambda m: out(m, gelu(m, m.bn(start(m)))), Kept("barrier", "idiom")),
    ("between a GELU and a convolution", lambda m: out(m, m.conv(m.bn(gelu(m, start(m))), 3, 1)), into("Conv", direction="forward", left=8)),
    ("behind a HardSwish", lambda m: out(m, m.per_channel("Mul", hard_swish(m, start(m)))), Kept("idiom", "barrier")),
    ("before attention", lambda m: out(m, attention(m, m.per_channel("Mul", start(m, 2, 4, 4), axis=2))), Kept("barrier", "idiom")),
    ("into a product and its bias", lambda m: out(m, m.bn(product_with_bias(m, start(m, 3, 4)))), into("MatMul", "Add", left=4)),
]  # fmt: skip
