"""The ranges of all values of a folded graph, on the samples of the user or on generated ones."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from folding import onnxfile
from folding.execution.emulation import EmulationError, emulate
from folding.execution.facts import read_facts
from folding.execution.probes import outputs_fragment
from folding.precision.compensation import wanted
from folding.precision.kinds import BFLOAT16, FLOAT32
from folding.verification.parent import available_memory
from folding.verification.ranges import Range, Ranges, survey

if TYPE_CHECKING:
    from folding.graph.index import Graph

CHANNEL_AXIS = 1  # of data, in convolutions and normalizations
SLICE_BYTES = 1 << 28  # of the values that are outputs at the same time
TYPICAL = 64  # an unknown length
LOADED_BYTES = 1 << 30  # of a model that is loaded from memory, so that values in it become outputs

__all__ = ["Range", "Ranges", "measure"]


def measure(graph: Graph, inputs: str | None = None, *, seconds: float = 300.0, memory: int | None = None) -> Ranges:
    """Run a graph, as it was written back, and return the ranges of its values of type float32.

    `inputs` is an .npz file of samples; without it some are generated. Values of nested graphs are not seen.

    Raises:
        OptionError: the samples do not fit the model, or it does not run on them.
    """
    slices = _slices(graph)
    file = graph.file.variant(graph.model)
    if file.nbytes > LOADED_BYTES:
        return Ranges({}, refusal="the model is too large to look into it while it runs")
    with tempfile.TemporaryDirectory(prefix="bnfold-ranges-") as folder:
        path = Path(folder, "model.onnx")
        onnxfile.write(file, path)
        fragments = [outputs_fragment(names) for names in slices]
        facts = read_facts(path)
        if facts.half:  # ONNX Runtime lacks kernels for it, and computes the others in float32
            wide = path.with_name("emulated.onnx")
            try:
                halves = emulate(path, wide).inputs
            except EmulationError as error:
                return Ranges({}, refusal=str(error))
            if not halves or facts.half == BFLOAT16.name:  # samples of float16 are for the model as it is
                path = wide
        lengths = [(name, CHANNEL_AXIS, length) for name, length in facts.channels.items()]
        limit = available_memory() if memory is None else memory
        means = () if inputs is None else wanted(graph)  # generated samples do not show what is usual
        return survey(path, slices, fragments, inputs, lengths, seconds, limit, means)


def _slices(graph: Graph) -> list[list[str]]:
    """The names of the values that operators of the main graph make, in slices of bounded size."""
    outputs = {value.name for value in graph.main.proto.output}
    slices: list[list[str]] = []
    room = 0
    for node in graph.main.nodes:
        for name in () if node.removed else node.outputs:
            if name and name not in outputs and graph.main.dtype(name) == FLOAT32 and node.op != "Constant":
                nbytes = _bytes(graph, name)
                if nbytes > room or not slices:
                    slices.append([])
                    room = SLICE_BYTES
                slices[-1].append(name)
                room -= nbytes
    return slices or [[]]


def _bytes(graph: Graph, name: str) -> int:
    shape = graph.main.shapes.get(name)
    if shape is None:
        return TYPICAL**3
    return np.dtype(np.float32).itemsize * math.prod(
        n if isinstance(n, int) else 1 if axis == 0 else TYPICAL for axis, n in enumerate(shape)
    )
