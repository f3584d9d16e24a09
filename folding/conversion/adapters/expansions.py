"""Operators that an older operator set does not have, written out in those that it has.

The most frequent ones as exporters write them, which runtimes recognize; all others that have one by the function with
which the standard defines them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, defs, helper

from folding.conversion.adapters.node import NoFormError, attribute, given, label, text
from folding.conversion.bodies import Renaming, copied
from folding.conversion.here import dtype_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from folding.conversion.here import Here

TANH_CUBIC = 0.044715  # of the tanh approximation of Gelu (operator Gelu, opset 20)


def _like(node: onnx.NodeProto, here: Here, value: Any, wish: str) -> str:
    """A constant of the type of the operator's input."""
    dtype = dtype_of(here.code(given(node, 0)))
    if dtype is None:
        raise NoFormError("the type of its input is unknown")
    return here.constant(np.asarray(value).astype(dtype), f"{label(node)}.{wish}")


class _Chain:
    """Operators one behind the other, all of the shape of the first input; the last one gets the old output."""

    def __init__(self, node: onnx.NodeProto, here: Here) -> None:
        self.node, self.here, self.made = node, here, list[onnx.NodeProto]()

    def add(self, op: str, *inputs: str, wish: str = "", **given_: Any) -> str:
        """Append an operator; return its output."""
        source = given(self.node, 0)
        made = self.here.new(op, list(inputs), wish or label(self.node), self.here.shape(source), **given_)
        self.made.append(made)
        return str(made.output[0])

    def replaced(self) -> list[onnx.NodeProto]:
        """The operators, of which the last one takes the place of the old one: its output, its name, its metadata."""
        last = self.made[-1]
        final = onnx.NodeProto()
        final.CopyFrom(self.node)
        final.op_type = last.op_type
        for field in ("input", "output", "attribute"):
            final.ClearField(field)
        final.input.extend(last.input)
        final.output.append(self.node.output[0])
        final.attribute.extend(last.attribute)
        return [*self.made[:-1], final]


def _gelu(node: onnx.NodeProto, here: Here, opset: int) -> list[onnx.NodeProto]:
    """``x * (1 + erf(x / sqrt 2)) / 2``, or its approximation by tanh, as PyTorch writes them."""
    x, half, one = given(node, 0), _like(node, here, 0.5, "half"), _like(node, here, 1.0, "one")
    chain = _Chain(node, here)
    if text(node, "approximate", "none") == "none":
        inner = chain.add("Erf", chain.add("Div", x, _like(node, here, math.sqrt(2), "root")))
        chain.add("Mul", chain.add("Mul", x, chain.add("Add", inner, one)), half)
        return chain.replaced()
    cubic = chain.add("Mul", chain.add("Mul", x, x), x)
    cubic = chain.add("Add", x, chain.add("Mul", cubic, _like(node, here, TANH_CUBIC, "cubic")))
    inner = chain.add("Tanh", chain.add("Mul", cubic, _like(node, here, math.sqrt(2 / math.pi), "factor")))
    chain.add("Mul", chain.add("Mul", x, half), chain.add("Add", inner, one))
    return chain.replaced()


def _hard_swish(node: onnx.NodeProto, here: Here, opset: int) -> list[onnx.NodeProto]:
    """``x * hardsigmoid(x)`` with the slope 1/6."""
    chain = _Chain(node, here)
    chain.add("Mul", given(node, 0), chain.add("HardSigmoid", given(node, 0), alpha=1 / 6, beta=0.5))
    return chain.replaced()


def _mish(node: onnx.NodeProto, here: Here, opset: int) -> list[onnx.NodeProto]:
    """``x * tanh(softplus(x))``."""
    chain = _Chain(node, here)
    chain.add("Mul", given(node, 0), chain.add("Tanh", chain.add("Softplus", given(node, 0))))
    return chain.replaced()


def _swish(node: onnx.NodeProto, here: Here, opset: int) -> list[onnx.NodeProto]:
    """``x * sigmoid(alpha * x)``."""
    chain, x, alpha = _Chain(node, here), given(node, 0), attribute(node, "alpha", 1.0)
    scaled = x if alpha == 1 else chain.add("Mul", x, _like(node, here, alpha, "alpha"))
    chain.add("Mul", x, chain.add("Sigmoid", scaled))
    return chain.replaced()


class _Normalization(_Chain):
    """The operators of a normalization over the last axes, which compute in `stash_type`."""

    def __init__(self, node: onnx.NodeProto, here: Here, opset: int) -> None:
        super().__init__(node, here)
        self._opset = opset
        self.code, self.stash = here.code(given(node, 0)), attribute(node, "stash_type", TensorProto.FLOAT)
        axis, rank = attribute(node, "axis", -1), here.rank(given(node, 0))
        dtype = dtype_of(self.stash)
        if self.code is None or dtype is None or (axis >= 0 and rank is None):
            raise NoFormError("the type or the rank of its input is unknown")
        self._dtype = dtype
        self._axes = list(range(axis if axis < 0 else axis - (rank or 0), 0))
        self.x = given(node, 0) if self.code == self.stash else self.add("Cast", given(node, 0), to=self.stash)
        here.note(self.x, self.stash, here.shape(given(node, 0)))

    def stored(self, value: Any, wish: str) -> str:
        """A constant of the type in which it computes."""
        return self.here.constant(np.asarray(value, self._dtype), f"{label(self.node)}.{wish}")

    def mean(self, x: str) -> str:
        """The mean over the axes, which are an input of ReduceMean from opset 18 on."""
        if self._opset < 18:
            return self.add("ReduceMean", x, axes=self._axes, keepdims=1)
        axes = self.here.constant(np.asarray(self._axes, np.int64), f"{label(self.node)}.axes")
        return self.add("ReduceMean", x, axes, keepdims=1)

    def spread(self, x: str) -> str:
        """``sqrt(mean(x^2) + epsilon)``."""
        square = self.mean(self.add("Pow", x, self.stored(2, "two")))
        epsilon = self.stored(attribute(self.node, "epsilon", 1e-5), "epsilon")
        return self.add("Sqrt", self.add("Add", square, epsilon))

    def cast_back(self, x: str) -> str:
        """The value in the type of the input."""
        if self.code == self.stash:
            return x
        result = self.add("Cast", x, to=self.code)
        self.here.note(result, self.code, self.here.shape(given(self.node, 0)))
        return result


def _layer_normalization(node: onnx.NodeProto, here: Here, opset: int) -> list[onnx.NodeProto]:
    """``(x - mean) / sqrt(mean((x - mean)^2) + epsilon) * scale + bias``, as PyTorch writes it.

    Not the function of the standard, ``mean(x^2) - mean^2``, which loses digits where the mean is large.
    """
    chain = _Normalization(node, here, opset)
    mean = chain.mean(chain.x)
    centered = chain.add("Sub", chain.x, mean)
    spread = chain.spread(centered)
    result = chain.add("Mul", chain.cast_back(chain.add("Div", centered, spread)), given(node, 1))
    extra = _statistics(node, here, mean, spread)
    if given(node, 2):
        chain.add("Add", result, given(node, 2))
    return [*chain.replaced(), *extra]


def _rms_normalization(node: onnx.NodeProto, here: Here, opset: int) -> list[onnx.NodeProto]:
    """``x / sqrt(mean(x^2) + epsilon) * scale``."""
    chain = _Normalization(node, here, opset)
    chain.add("Mul", chain.cast_back(chain.add("Div", chain.x, chain.spread(chain.x))), given(node, 1))
    return chain.replaced()


def _statistics(node: onnx.NodeProto, here: Here, mean: str, spread: str) -> list[onnx.NodeProto]:
    """The second and third output of LayerNormalization, as far as they are asked for."""
    made = []
    for output, op, source in zip(node.output[1:], ("Identity", "Reciprocal"), (mean, spread), strict=False):
        if output:
            one = here.new(op, [source], f"{output}.statistic")
            one.output[0] = output
            made.append(one)
    return made


def _cast_like(node: onnx.NodeProto, here: Here, opset: int) -> list[onnx.NodeProto]:
    """A Cast to the type of the second input."""
    code = here.code(given(node, 1))
    if code is None:
        raise NoFormError("the type of its second input is unknown")
    chain = _Chain(node, here)
    chain.add("Cast", given(node, 0), to=code)
    return chain.replaced()


WRITTEN: dict[str, Callable[[onnx.NodeProto, Here, int], list[onnx.NodeProto]]] = {
    "Gelu": _gelu,
    "HardSwish": _hard_swish,
    "Mish": _mish,
    "Swish": _swish,
    "LayerNormalization": _layer_normalization,
    "RMSNormalization": _rms_normalization,
    "CastLike": _cast_like,
}


# --- the functions of the standard ---------------------------------------------------------------------------


def expanded(node: onnx.NodeProto, here: Here, opset: int) -> list[onnx.NodeProto] | None:
    """The operators of `opset` that an operator stands for; None if the standard does not define it by others."""
    if node.op_type in WRITTEN:
        return WRITTEN[node.op_type](node, here, opset)
    schema: Any = defs.get_schema(node.op_type, opset, "")  # its stubs lack the functions
    function = _function(schema, node, here, opset)
    return None if function is None else _inlined(function, schema, node, here)


def _function(schema: Any, node: onnx.NodeProto, here: Here, opset: int) -> onnx.FunctionProto | None:
    if schema.has_function:
        version = max((v for v in schema.function_opset_versions if v <= opset), default=None)
        return (
            None if version is None else onnx.FunctionProto.FromString(schema.get_function_with_opset_version(version))
        )
    if not schema.has_context_dependent_function:
        return None
    version = max((v for v in schema.context_dependent_function_opset_versions if v <= opset), default=None)
    types = [_type(here, name) for name in node.input]
    if version is None:
        return None
    data = schema.get_context_dependent_function_with_opset_version(version, node.SerializeToString(), types)
    return onnx.FunctionProto.FromString(data) if data else None


def _type(here: Here, name: str) -> bytes:
    shape, code = here.shape(name), here.code(name)
    if name and code is None:
        raise NoFormError(f"the type of {name!r} is unknown")
    return bytes(helper.make_tensor_type_proto(code or 0, shape).SerializeToString())


def _inlined(
    function: onnx.FunctionProto, schema: defs.OpSchema, node: onnx.NodeProto, here: Here
) -> list[onnx.NodeProto]:
    """The body of a function with the names and attributes of the call."""
    names = {name: given(node, index) for index, name in enumerate(function.input)}
    names |= {name: output for name, output in zip(function.output, node.output, strict=False) if output}
    attributes = {name: a.default_value for name, a in schema.attributes.items() if a.default_value.type}
    attributes |= {a.name: a for a in node.attribute}
    made = copied(function.node, Renaming(names, attributes, label(node), here.fresh))
    for one in made:
        here.learn(one)
    return made
