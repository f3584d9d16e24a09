"""Interpret a model with onnx's reference evaluator, in its own types or with every number in float64.

For verification, where ONNX Runtime has no kernel or two of its executions disagree. It is slow: for small inputs only.
"""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from onnx import AttributeProto, GraphProto, NodeProto

NARROW = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16})
TYPED = frozenset({"dtype", "to", "output_dtype"})  # attributes that name the type of a result
SEED = 20150211


class InterpreterError(Exception):
    """The model cannot be interpreted, or not in the time that was given; the text says why."""


class Interpreter:
    """A model that NumPy computes; `outputs` and the feeds have the types of the model if it is not `wide`.

    `wide`: every floating-point number, constants included, is a float64. `moved` changes each number of a constant by
    this fraction of itself, as one more rounding would, except single numbers: exponents and the like.

    Raises:
        InterpreterError: it cannot be read or holds an operator that onnx does not implement.
    """

    def __init__(self, path: str | os.PathLike[str], *, wide: bool = False, moved: float = 0.0) -> None:
        from onnx.reference import ReferenceEvaluator  # noqa: PLC0415  few models need it, and start-up time counts

        from folding.execution.kernels import KERNELS  # noqa: PLC0415

        self._wide = wide
        try:
            model = onnx.load(path)
            if wide:
                _widen(model.graph, np.random.default_rng(SEED), moved)
                for function in model.functions:
                    _widen(function, np.random.default_rng(SEED), moved)
            self.inputs = [(v.name, _kind(v), _shape(v)) for v in model.graph.input if v.name not in _constants(model)]
            self.outputs = [(v.name, _kind(v)) for v in model.graph.output]
            self._evaluator = ReferenceEvaluator(model, new_ops=KERNELS)
        except Exception as error:  # noqa: BLE001  it raises whatever its operators raise
            raise InterpreterError(_text(error)) from None

    def run(self, feeds: Mapping[str, NDArray[Any]], seconds: float, more: Sequence[str] = ()) -> list[Any]:
        """The outputs in order, then `more` values of the main graph.

        It takes so many seconds at most, where the platform can interrupt a computation.
        """
        given = {name: self._fed(value) for name, value in feeds.items()}
        try:
            with _limited(seconds), np.errstate(all="ignore"):
                return list(self._evaluator.run([*(name for name, _ in self.outputs), *more], given))
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001
            raise InterpreterError(_text(error)) from None

    def _fed(self, value: NDArray[Any]) -> NDArray[Any]:
        is_float = np.issubdtype(value.dtype, np.floating) or value.dtype.name == "bfloat16"
        return value.astype(np.float64) if self._wide and is_float else value


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def late(*_: object) -> None:
        raise TimeoutError(f"it takes more than {seconds:.0f} seconds")

    former = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)


def _constants(model: onnx.ModelProto) -> set[str]:
    return {tensor.name for tensor in model.graph.initializer}


def _kind(value: onnx.ValueInfoProto) -> str:
    """The type as ONNX Runtime writes it: "tensor(float)"."""
    code = value.type.tensor_type.elem_type
    name = TensorProto.DataType.Name(code).lower() if value.type.HasField("tensor_type") else "other"
    return f"tensor({name})"


def _shape(value: onnx.ValueInfoProto) -> tuple[int | str | None, ...]:
    return tuple(
        d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in value.type.tensor_type.shape.dim
    )


def _widen(body: Any, random: np.random.Generator, moved: float) -> None:
    """Make every floating-point number of a graph or function, and of what is nested in it, a float64."""
    if isinstance(body, onnx.GraphProto):
        for tensor in body.initializer:
            _widen_tensor(tensor, random, moved)
        for value in (*body.input, *body.output):
            if value.type.tensor_type.elem_type in NARROW:
                value.type.tensor_type.elem_type = TensorProto.DOUBLE
    del body.value_info[:]
    for node in body.node:
        for attribute in node.attribute:
            _widen_attribute(node, attribute, random, moved)
        if node.op_type == "ConstantOfShape" and not node.attribute:
            node.attribute.append(helper.make_attribute("value", numpy_helper.from_array(np.zeros(1))))


def _widen_attribute(node: NodeProto, attribute: AttributeProto, random: np.random.Generator, moved: float) -> None:
    if attribute.HasField("t"):
        _widen_tensor(attribute.t, random, moved)
    if attribute.name in TYPED and attribute.i in NARROW:
        attribute.i = TensorProto.DOUBLE
    if node.op_type == "Constant" and attribute.name in {"value_float", "value_floats"}:
        values = np.float64(attribute.f) if attribute.name == "value_float" else np.asarray(attribute.floats)
        attribute.CopyFrom(helper.make_attribute("value", numpy_helper.from_array(np.asarray(values))))
    graphs: list[GraphProto] = [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]
    for graph in graphs:
        _widen(graph, random, moved)


def _widen_tensor(tensor: TensorProto, random: np.random.Generator, moved: float) -> None:
    if tensor.data_type in NARROW:
        name, values = tensor.name, numpy_helper.to_array(tensor).astype(np.float64)
        if moved and values.size > 1:
            values = values * (1 + moved * random.choice((-1.0, 1.0), values.shape))
        tensor.CopyFrom(numpy_helper.from_array(np.asarray(values), name))
