"""Models in a few words: a builder that evaluates as it goes, so every value's shape is at hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from folding import Options, Report, onnxfile
from folding.analysis.values import indexed
from folding.api import fold_model
from tests.support.references import operators as reference

if TYPE_CHECKING:
    from collections.abc import Sequence

Array = NDArray[Any]
NO_VERIFY = Options(verify=False)
SITE = "site"  # the name rows give the affine they speak of


class Model:
    """A model under construction. Values are names; `at(name)` is the value for the sample input."""

    def __init__(self, opset: int = 17, dtype: Any = np.float64, seed: int = 0, ir: int = 8) -> None:
        self.opset, self.dtype, self.ir = opset, np.dtype(dtype), ir
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.initializers: dict[str, Array] = {}
        self.overridable: set[str] = set()
        self.feeds: dict[str, Array] = {}
        self.values: dict[str, Array] = {}
        self.outputs: list[str] = []
        self.declared: dict[str, Sequence[int | str | None]] = {}

    def at(self, name: str) -> Array:
        return self.values[name]

    def x(self, *shape: int, declare: Sequence[int | str | None] | None = None, dtype: Any = None) -> str:
        """A graph input with a random sample; `declare` is the shape the model declares."""
        name = f"x{len(self.inputs)}"
        kind = np.dtype(dtype or self.dtype)
        self.feeds[name] = self.random.standard_normal(shape).astype(kind)
        self.values[name] = self.feeds[name].astype(np.float64)
        code = helper.np_dtype_to_tensor_dtype(kind)
        self.inputs.append(helper.make_tensor_value_info(name, code, list(declare or shape)))
        return name

    def constant(self, values: Any, name: str | None = None, dtype: Any = None) -> str:
        """An initializer; a tuple is the shape of a random one, away from zero."""
        if isinstance(values, tuple):
            values = self.random.uniform(0.5, 1.5, values) * self.random.choice([-1, 1], values)
        array = np.asarray(values)
        array = array.astype(np.dtype(dtype or (self.dtype if array.dtype.kind == "f" else array.dtype)))
        name = name or f"c{len(self.initializers)}"
        self.initializers[name] = array
        self.values[name] = reference._wide(array)
        return name

    def op(
        self, op: str, *inputs: str, name: str = "", outputs: int = 1, like: str | None = None, **attributes: Any
    ) -> str:
        """An operator; returns its first output. `like` stands for its result where it cannot be evaluated."""
        made = [f"v{len(self.nodes)}" + (f"_{i}" if i else "") for i in range(outputs)]
        node = helper.make_node(op, list(inputs), made, name=name or f"{op.lower()}{len(self.nodes)}", **attributes)
        self.nodes.append(node)
        if like is not None:
            self.values[made[0]] = self.values[like]
            return made[0]
        given = [self.values[i] if i else None for i in inputs]
        found = reference._attributes(node, self.opset)
        with np.errstate(all="ignore"):
            results = reference.several(reference.OPERATORS[op](self.opset, found, *given))
        self.values.update(zip(made, results, strict=False))
        return made[0]

    # --- operators with weights ---------------------------------------------------------------------------

    def conv(self, x: str, outputs: int, kernel: int | Sequence[int] = 3, bias: bool = True, **attributes: Any) -> str:
        spatial = self.at(x).ndim - 2
        size = (kernel,) * spatial if isinstance(kernel, int) else tuple(kernel)
        group = attributes.get("group", 1)
        w = self.constant((outputs, self.at(x).shape[1] // group, *size))
        return self.op("Conv", x, w, *([self.constant((outputs,))] if bias else []), **attributes)

    def conv_t(self, x: str, outputs: int, kernel: int = 3, bias: bool = True, **attributes: Any) -> str:
        spatial, group = self.at(x).ndim - 2, attributes.get("group", 1)
        w = self.constant((self.at(x).shape[1], outputs // group, *(kernel,) * spatial))
        return self.op("ConvTranspose", x, w, *([self.constant((outputs,))] if bias else []), **attributes)

    def bn(self, x: str, name: str = SITE, channels: int | None = None, gamma: Any = None, **attributes: Any) -> str:
        """A BatchNormalization; `gamma` is random, and of both signs, unless given."""
        c = channels or self.at(x).shape[1]
        scale, beta, mean = (self.constant((c,)) for _ in range(3))
        if gamma is not None:
            scale = self.constant(np.broadcast_to(np.asarray(gamma, np.float64), c))
        var = self.constant(self.random.uniform(0.5, 2.0, c))
        if self.opset < 7:
            attributes = {"is_test": 1, **attributes}
        return self.op("BatchNormalization", x, scale, beta, mean, var, name=name, **attributes)

    def per_channel(self, op: str, x: str, name: str = SITE, axis: int = 1) -> str:
        """Mul, Add, Sub or Div with a constant that varies along one axis."""
        shape = [1] * self.at(x).ndim
        shape[axis] = self.at(x).shape[axis]
        return self.op(op, x, self.constant(tuple(shape)), name=name)

    # --- the result -----------------------------------------------------------------------------------------

    def build(self, *outputs: str) -> onnx.ModelProto:
        """The model with these outputs (default: the last operator's)."""
        chosen = outputs or (self.nodes[-1].output[0],)
        declared = [
            helper.make_tensor_value_info(o, self._code(o), self.declared.get(o, list(self.values[o].shape)))
            for o in chosen
        ]
        defaults = [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
            for n, a in self.initializers.items()
            if n in self.overridable or self.ir < 4
        ]
        tensors = [numpy_helper.from_array(a, n) for n, a in self.initializers.items()]
        graph = helper.make_graph(self.nodes, "g", [*self.inputs, *defaults], declared, tensors)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=self.ir)

    def _code(self, name: str) -> int:
        value = self.values[name]
        return helper.np_dtype_to_tensor_dtype(self.dtype if value.dtype.kind == "f" else value.dtype)


def fold(model: onnx.ModelProto, options: Options = NO_VERIFY) -> tuple[onnx.ModelProto, Report]:
    """Fold in memory and check that what comes out is a valid model."""
    folded, report = fold_model(model, options)
    onnx.checker.check_model(folded)
    return folded, report


def assert_left(after: onnx.ModelProto, report: Report) -> None:
    """Of every map that folded in part, and of no other, the report names operators of the folded model, and why."""
    with onnxfile.from_bytes(after.SerializeToString()) as file:
        operators = {node.label: node.op for node in indexed(file).nodes()}
    for outcome in report.outcomes:
        assert bool(outcome.left) == (outcome.status == "split"), outcome
        for left in outcome.left:
            assert operators[left.node] == left.operator in {"Add", "Mul"}
            assert not left.after or left.after in operators
            assert left.backward is not None
            assert left.forward is not None


def assert_same_function(
    before: onnx.ModelProto, after: onnx.ModelProto, feeds: dict[str, Array], digits: float
) -> None:
    """Both models compute the same, to `digits` of the largest magnitude of each output, in exact arithmetic."""
    expected, found = reference.evaluate(before, feeds), reference.evaluate(after, feeds)
    assert list(expected) == list(found)
    for name, value in expected.items():
        assert value.shape == found[name].shape
        bound = digits * max(1.0, float(np.abs(value).max(initial=0)))
        assert np.abs(value - found[name]).max(initial=0) <= bound, name


# Rounding a folded weight to its type changes the outputs of the small test models by a few of these.
DIGITS = {
    np.dtype(np.float64): 1e-11,
    np.dtype(np.float32): 1e-4,
    np.dtype(np.float16): 5e-2,
    np.dtype(ml_dtypes.bfloat16): 3e-1,
}
