"""Fuse a model in memory, and compare what two models compute: in ONNX Runtime, else in onnx's reference evaluator."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx.reference import ReferenceEvaluator

from folding.analysis import shapes
from folding.analysis.values import indexed
from folding.editing.writeback import write_back
from folding.execution.interpreter import Interpreter
from folding.fusing.fuse import fuse
from folding.onnxfile import from_bytes
from folding.onnxfile.writer import to_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from folding.report.changes import Change
    from tests.support.models import Array

COARSE = 2e-2  # the same in float16
SECONDS = 60.0
DIGITS = 2e-5  # of the largest magnitude of an output; float32 has 1e-7, and a normalization of large values loses some


@dataclass(frozen=True)
class Fake:
    """A target that takes every operator but these, and wants idioms in these forms."""

    lacks: frozenset[str] = frozenset()
    idioms: Mapping[str, str] = field(default_factory=dict)

    def takes(self, op: str, opset: int, dtype: str | None = None) -> bool:  # noqa: ARG002  the protocol's
        return op not in self.lacks


def fused(model: onnx.ModelProto, *given: Any, **options: Any) -> tuple[onnx.ModelProto, list[Change]]:
    """Fuse, check that the result is a valid model of the same function, and that fusing again changes nothing."""
    return rewritten(fuse, model, *given, **options)


def rewritten(stage: Any, model: onnx.ModelProto, *given: Any, **options: Any) -> tuple[onnx.ModelProto, list[Change]]:
    """As `fused`, for any stage."""
    result, changes = once(stage, model, *given, **options)
    again, more = once(stage, result, *given, **options)
    assert (again, more) == (result, [])
    onnx.checker.check_model(result, full_check=True)
    return result, changes


def once(stage: Any, model: onnx.ModelProto, *given: Any, **options: Any) -> tuple[onnx.ModelProto, list[Change]]:
    with from_bytes(model.SerializeToString()) as file:
        graph = indexed(file)
        shapes.infer(graph)
        changes = stage(graph, *given, **options)
        if changes:
            write_back(graph)
        return onnx.load_from_string(to_bytes(file)), changes


def computed(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> list[Array]:
    """The outputs of a model, without optimizations of the runtime."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    try:
        return list(ort.InferenceSession(model.SerializeToString(), options).run(None, dict(feeds)))
    except ort.capi.onnxruntime_pybind11_state.NotImplemented:
        return list(ReferenceEvaluator(model).run(None, dict(feeds)))


def assert_equal(before: onnx.ModelProto, after: onnx.ModelProto, feeds: Mapping[str, Array]) -> None:
    """Both models compute the same, up to the rounding of their type; where that is amplified, they do in float64."""
    pairs = list(zip(computed(before, feeds), computed(after, feeds), strict=True))
    for expected, found in pairs:
        assert expected.shape == found.shape
        assert expected.dtype == found.dtype
    if not all(map(_alike, *zip(*pairs, strict=True))):
        for expected, found in zip(exact(before, feeds), exact(after, feeds), strict=True):
            np.testing.assert_allclose(found, expected, rtol=0, atol=_bound(expected, DIGITS))


def _alike(expected: Array, found: Array) -> bool:
    bound = _bound(expected, COARSE if expected.dtype == np.float16 else DIGITS)
    return np.allclose(found.astype(np.float64), expected.astype(np.float64), rtol=0, atol=bound)


def _bound(expected: Array, digits: float) -> float:
    return digits * max(1.0, float(np.abs(expected[np.isfinite(expected)]).max(initial=0)))


def exact(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> list[Array]:
    """The outputs of a model with every number in float64."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(model, path)
        return list(Interpreter(path, wide=True).run(dict(feeds), SECONDS))


def operators(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]
