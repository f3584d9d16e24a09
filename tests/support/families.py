"""Random models that are hard to verify: steps behind folds, and networks that amplify rounding."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Callable

FAMILIES = ("round", "floor", "sign", "compare", "integer", "mod", "top", "saturating")
SIZE = 8  # height and width


class _Network:
    """A graph under construction, whose constants are random; `wild`: weights are not scaled by their fan-in."""

    def __init__(self, seed: int, *, wild: bool) -> None:
        self.random, self.wild = np.random.default_rng(seed), wild
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []

    def constant(self, values: object) -> str:
        name = f"c{len(self.tensors)}"
        array = np.asarray(values)
        self.tensors.append(
            numpy_helper.from_array(array.astype(np.float32) if array.dtype.kind == "f" else array, name)
        )
        return name

    def op(self, operator: str, *inputs: str, outputs: int = 1, **attributes: object) -> str:
        names = [f"v{len(self.nodes)}.{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(operator, inputs, names, name=f"{operator}{len(self.nodes)}", **attributes))
        return names[0]

    def layer(self, x: str, inputs: int, outputs: int, activation: str) -> str:
        """Conv -> BatchNormalization -> activation."""
        r = self.random
        weight = r.uniform(0.5, 1.5, (outputs, inputs, 3, 3)) * r.choice([-1, 1], (outputs, inputs, 3, 3))
        if not self.wild:
            weight /= np.sqrt(9 * inputs)
        conv = self.op("Conv", x, self.constant(weight), self.constant(r.standard_normal(outputs)), pads=[1] * 4)
        scale = r.uniform(0.5, 1.5, outputs) * r.choice([-1, 1], outputs)
        rest = r.standard_normal(outputs), r.standard_normal(outputs), r.uniform(0.5, 2, outputs)
        normal = self.op("BatchNormalization", conv, *(self.constant(a) for a in (scale, *rest)))
        return self.op(activation, normal) if activation else normal


def family(name: str, seed: int, *, wild: bool) -> onnx.ModelProto:
    """A model of a family; the same one for the same arguments."""
    net = _Network(seed, wild=wild)
    r = net.random
    channels = int(r.choice([8, 16, 32, 64]))
    smooth = (
        ["Tanh", "Sigmoid", "Softsign", "Erf"] if name == "saturating" or wild else ["Relu", "Tanh", "HardSwish", ""]
    )
    value = net.op("Asinh", "x")
    for number in range(int(r.integers(1, 4 + wild))):
        value = net.layer(value, channels if number else 4, channels, str(r.choice(smooth)))
    value = _STEPS[name](net, net.layer(value, channels, channels, ""))
    kind = onnx.TensorProto.INT64 if name == "top" and r.random() < 0.5 else onnx.TensorProto.FLOAT
    if kind == onnx.TensorProto.INT64:
        value = net.op("ArgMax", value, axis=1)
    elif r.random() < 0.5 and name != "top":
        value = net.layer(value, channels, channels, str(r.choice(["Sigmoid", ""])))
    graph = helper.make_graph(
        net.nodes,
        name,
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 4, SIZE, SIZE])],
        [helper.make_tensor_value_info(value, kind, None)],
        net.tensors,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _scaled(net: _Network, x: str) -> str:
    return net.op("Mul", x, net.constant(float(net.random.choice([1, 10, 127]))))


def _round(net: _Network, x: str) -> str:
    return net.op("Div", net.op("Round", _scaled(net, x)), net.constant(127.0))


def _floor(net: _Network, x: str) -> str:
    return net.op(str(net.random.choice(["Floor", "Ceil"])), _scaled(net, x))


def _sign(net: _Network, x: str) -> str:
    return net.op("Sign", x)


def _compare(net: _Network, x: str) -> str:
    test = net.op(str(net.random.choice(["Greater", "Less", "GreaterOrEqual"])), x, net.constant(0.1))
    if net.random.random() < 0.5:
        return net.op("Cast", test, to=onnx.TensorProto.FLOAT)
    return net.op("Where", test, x, net.constant(-1.0))


def _integer(net: _Network, x: str) -> str:
    whole = net.op("Cast", _scaled(net, x), to=int(net.random.choice([onnx.TensorProto.INT32, onnx.TensorProto.INT64])))
    return net.op("Cast", whole, to=onnx.TensorProto.FLOAT)


def _mod(net: _Network, x: str) -> str:
    return net.op("Mod", _scaled(net, x), net.constant(1.0), fmod=1)


def _top(net: _Network, x: str) -> str:
    return net.op("TopK", x, net.constant(np.array([3])), axis=1, outputs=2)


def _saturating(net: _Network, x: str) -> str:
    return net.op(str(net.random.choice(["Tanh", "Sigmoid", "Softsign", "Erf"])), x)


_STEPS: dict[str, Callable[[_Network, str], str]] = {
    "round": _round,
    "floor": _floor,
    "sign": _sign,
    "compare": _compare,
    "integer": _integer,
    "mod": _mod,
    "top": _top,
    "saturating": _saturating,
}
