"""What verification looks at besides the outputs: values before a last activation, folded weights, known traps."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from folding.onnxfile import Span

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from numpy.typing import NDArray
    from onnx import NodeProto

    from folding.onnxfile import OnnxFile

STANDARD = frozenset({"", "ai.onnx"})  # two spellings of one domain, see the ONNX IR specification
# Operators that map many numbers to few, or to one: behind them an error may be invisible.
SATURATING = frozenset(
    "ArgMax ArgMin Erf HardSigmoid Hardmax LogSoftmax Sigmoid Sign Softmax Softsign Tanh TopK".split()  # noqa: SIM905
)
# Operators that move values, which may follow one of these; the others that may leave every value at its place.
MOVING = frozenset("Flatten Gather Reshape Slice Squeeze Transpose Unsqueeze".split())  # noqa: SIM905
STAYING = frozenset({"Cast", "Identity"})
PACKED_VARINTS = 5  # the field int32_data of TensorProto, whose entries have no fixed length
ABSORBED = "bnfold.absorbed"  # the key in an operator's metadata_props that a fold leaves, see planning.commit
SPOILED = 2  # weights and as many biases whose change is measured: the first and the last
SPOILED_BYTES = 1 << 24  # of one of them
STORED: dict[int, np.dtype[Any]] = {
    TensorProto.FLOAT: np.dtype("<f4"),
    TensorProto.DOUBLE: np.dtype("<f8"),
    TensorProto.FLOAT16: np.dtype("<f2"),
}


class Tap(NamedTuple):
    """The value that a saturating operator reads which makes a graph output, and how the results move to get there.

    Of two models, values with unlike moves are not in the same order: a Transpose may have passed the operator.
    """

    value: str
    operator: str
    moves: tuple[tuple[str | bytes, ...], ...]


def taps(model: ModelProto) -> dict[str, Tap]:
    """The values before the last saturating operator, by graph output."""
    producers = {name: node for node in model.graph.node for name in node.output if name}
    outputs = {value.name for value in model.graph.output}
    found = {}
    for output in outputs:
        node, moves = producers.get(output), []
        while node is not None and node.op_type in MOVING | STAYING and node.domain in STANDARD:
            if node.op_type in MOVING:
                moves.append(_move(node))
            node = producers.get(node.input[0])
        if node is None or node.op_type not in SATURATING or node.domain not in STANDARD:
            continue
        if node.input[0] in producers and node.input[0] not in outputs:
            found[output] = Tap(node.input[0], node.op_type, tuple(moves))
    return found


def _move(node: NodeProto) -> tuple[str | bytes, ...]:
    """What tells two moves apart, in every operator set: Transpose alone may order values in many ways."""
    order = [a.SerializeToString() for a in node.attribute] if node.op_type == "Transpose" else []
    return node.op_type, *order


def outputs_fragment(names: list[str]) -> bytes:
    """Bytes that make these values outputs of the main graph when they follow a serialized model."""
    fragment = ModelProto()
    for name in names:
        fragment.graph.output.add().name = name
    return bytes(fragment.SerializeToString())


def _trains_with_shared_constants(node: NodeProto) -> bool:
    if node.op_type != "BatchNormalization" or node.domain not in STANDARD or len(node.input) != 5:
        return False
    trains = any(a.name == "training_mode" and a.i for a in node.attribute)
    return trains and not set(node.input[1:3]).isdisjoint(node.input[3:])


class Trap(NamedTuple):
    """A known fault of ONNX Runtime on the CPU: what it computes wrongly, in which versions, and a reference."""

    what: str
    versions: str  # in which it was seen; no release mends it yet
    reference: str
    holds: Callable[[NodeProto], bool]


TRAPS = [
    Trap(
        "a BatchNormalization in training mode whose scale or bias is also its mean or variance",
        "1.27 to 1.32",
        "https://github.com/microsoft/onnxruntime/issues/29790",
        _trains_with_shared_constants,
    ),
]


def traps(model: ModelProto) -> list[Trap]:
    """What the model holds of `TRAPS`."""
    return [trap for trap in TRAPS if any(map(trap.holds, model.graph.node))]


def folded_constants(file: OnnxFile) -> dict[str, NDArray[Any]]:
    """Some weights and biases that folds changed, with their values: evenly sampled over the graph."""
    tensors = {tensor.name: tensor for tensor in file.model.graph.initializer}
    chosen: dict[str, NDArray[Any]] = {}
    for kind in (True, False):  # weights, biases: a matrix or more, and at most a vector
        names = [name for name in _absorbing(file.model) if name in tensors and _is_weight(tensors[name]) == kind]
        names = list(dict.fromkeys(names))
        for place in np.unique(np.linspace(0, len(names) - 1, min(SPOILED, len(names))).astype(int)):
            values = _values(file, tensors[names[place]])
            if values is not None and values.any():
                chosen[names[place]] = values
    return chosen


def outputs_behind(model: ModelProto, constants: Collection[str]) -> dict[str, tuple[str, ...]]:
    """The graph outputs that depend on each of some constants."""
    readers: dict[str, list[NodeProto]] = {}
    for node in model.graph.node if constants else ():
        for name in _read(node):
            readers.setdefault(name, []).append(node)
    found = {}
    for constant in constants:
        seen, waiting = {constant}, [constant]
        while waiting:
            made = {name for node in readers.get(waiting.pop(), ()) for name in node.output} - seen
            seen |= made
            waiting += made
        found[constant] = tuple(value.name for value in model.graph.output if value.name in seen)
    return found


def _read(node: NodeProto) -> set[str]:
    """The names that an operator reads, and that the graphs in it read."""
    names = set(node.input)
    for attribute in node.attribute:
        for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            names.update(value.name for value in graph.output)
            for inner in graph.node:
                names |= _read(inner)
    return names


def _absorbing(model: ModelProto) -> Iterator[str]:
    """The constants of the operators into which something was folded, in the order of the graph."""
    for node in model.graph.node:
        if any(entry.key == ABSORBED for entry in node.metadata_props):
            yield from node.input[1:]


def _is_weight(tensor: TensorProto) -> bool:
    return sum(int(length) > 1 for length in tensor.dims) > 1


def _values(file: OnnxFile, tensor: TensorProto) -> NDArray[Any] | None:
    """The values of a floating-point tensor of moderate size; None for others."""
    stored, payload = STORED.get(tensor.data_type), file.payload(tensor)
    size = math.prod(tensor.dims)
    if stored is None or size * stored.itemsize > SPOILED_BYTES:
        return None
    if payload is None:
        return None if tensor.external_data else numpy_helper.to_array(tensor)
    if not isinstance(payload, Span) or payload.field == PACKED_VARINTS or payload.nbytes != size * stored.itemsize:
        return None
    return (
        np.frombuffer(payload.read(), stored)
        .reshape(tuple(tensor.dims))
        .astype(helper.tensor_dtype_to_np_dtype(tensor.data_type))
    )
