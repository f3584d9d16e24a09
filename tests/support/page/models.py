"""Models for the tests of the page: one that shows every kind of fold, one whose names attack, one made to go wrong."""

from __future__ import annotations

import numpy as np

from tests.support.models import Model

HOSTILE = "<img src=x onerror=alert(1)></script>\x1b[31m\u202e'\"`&amp;"


def varied(remark: str = "") -> bytes:
    """Folds into the node before and after, through others, into several at once; one stays, one leaves a map."""
    m = Model(dtype=np.float32)
    x = m.op("Relu", m.bn(m.conv(m.x(1, 3, 8, 8), 6), name="/stem/bn1/BatchNormalization"))
    x = m.bn(x, name="/stage1/bn_shared/BatchNormalization")
    left = m.conv(x, 4, name="/stage1/left/conv/Conv")
    right = m.conv(x, 4, name="/stage1/right/conv/Conv")
    x = m.op("Concat", left, right, axis=1, name="/stage1/join/Concat")
    x = m.bn(x, name="/stage1/bn_join/BatchNormalization")
    x = m.bn(m.op("Asinh", x, name="/head/act/Asinh"), name="/head/bn_stays/BatchNormalization")
    x = m.op("Asinh", x)
    x = m.per_channel("Mul", m.op("Transpose", m.conv(x, 5, 1), perm=[0, 2, 3, 1]), name="/head/scale/Mul", axis=3)
    model = m.build()
    model.doc_string = remark
    return model.SerializeToString()


def hostile() -> bytes:
    """A model that folds, whose every name would be markup, a terminal's command, or a turned-around line."""
    m = Model(dtype=np.float32)
    x = m.bn(m.conv(m.x(1, 3, 6, 6), 4, name=f"{HOSTILE} conv"), name=f"{HOSTILE} bn")
    x = m.bn(m.op("Asinh", x, name=f"{HOSTILE} act"), name=f"{HOSTILE} stays")
    return m.build(m.op("Asinh", x)).SerializeToString()


def deep(layers: int) -> bytes:
    """Many layers, for a table that must not grow without end."""
    m = Model(dtype=np.float32)
    x = m.x(1, 2, 4, 4)
    for i in range(layers):
        x = m.op("Relu", m.bn(m.conv(x, 2, 1), name=f"/layer{i}/bn/BatchNormalization"))
    return m.build().SerializeToString()
