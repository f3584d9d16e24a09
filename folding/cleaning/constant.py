"""Constants that operators make of constants become initializers.

1. An operator of `OPERATORS` is evaluated if all its inputs are stored constants: initializers or Constants that no
   caller may override. What comes after it is looked at next, so that whole chains go. Shape and Size only need the
   lengths of their input.
2. Quantization stays: evaluating DequantizeLinear would write the weights out four times as large.
3. The file may grow by `Work.growth` bytes in all. An operator that repeats values (`EXPANDING`) is evaluated only if
   its result is no larger than a list of sizes or than what goes with it.
4. Weights are not loaded: a result is computed in memory only up to `EVALUATED` bytes, of which `HELD` in all. Reshape
   and its like move no value, so they take weights of any size.
5. A Constant becomes an initializer without being read.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from folding.analysis import constants, evaluation
from folding.analysis.stored import nbytes_of
from folding.cleaning.work import settled, shape_of
from folding.editing import rewiring
from folding.graph.dtypes import FLOAT_TYPES
from folding.graph.index import FIRST_IR_WITH_DEFAULTS
from folding.graph.node import SHAPE_READERS
from folding.graph.sites import NORMALIZATION
from folding.graph.weights import Weight
from folding.refusal import require

if TYPE_CHECKING:
    from folding.analysis.evaluation import Array
    from folding.cleaning.work import Work
    from folding.graph.index import Scope
    from folding.graph.node import Node

EXPANDING = frozenset({"ConstantOfShape", "Expand", "EyeLike", "OneHot", "Pad", "Range", "Tile"})
VIEWS = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze"})
# Normalizations of constants are folded, and what equals its input is a no-op.
OPERATORS = (evaluation.OPERATORS | evaluation.MORE) - constants.QUANTIZATION - {NORMALIZATION, "Identity"}

SMALL = 1 << 10  # bytes: a list of sizes, or one value per channel of a small layer
EVALUATED = 1 << 22  # bytes of one result; a table of positions has less
HELD = 1 << 25  # bytes of all results that are in memory until the file is written
UNKNOWN = 1 << 12  # bytes of the inputs of an operator, up to which the size of its result may be unknown


def evaluate(node: Node, work: Work) -> bool:
    """Replace an operator by the constants that it makes, cases 1 to 4."""
    scope = node.scope
    if not _has_constant_inputs(node) or not all(may_be_stored(scope, name) for name in node.outputs if name):
        return False
    _require_bounded(node)
    found = constants.computed(node)
    require(all(map(_is_number, found)), "not-float", f"{node.label!r} makes no numbers")
    added = sum(_nbytes(values) for values in found) - sum(_freed(scope, node, name) for name in {*node.inputs})
    limit = SMALL if node.op in EXPANDING else max(SMALL, work.growth)
    held = sum(_held(values) for values in found)
    if added > min(limit, max(0, work.growth)) or work.held + held > HELD:
        return False
    readers = [edge.node for name in node.outputs if name for edge in rewiring.edges(scope, name)]
    rewiring.become_constants(node, found)
    work.held += held
    work.growth -= max(0, added)
    work.added += added
    work.look_at(readers)
    return True


def store(node: Node, work: Work) -> bool:
    """Make an initializer of a Constant, case 5."""
    scope, readers = node.scope, [edge.node for edge in rewiring.edges(node.scope, node.output)]
    if len(node.proto.attribute) != 1 or not may_be_stored(scope, node.output) or scope.is_function:
        return False
    if not rewiring.to_initializer(node):
        if not constants.is_stored(scope, node.output):
            return False
        rewiring.become_constants(node, constants.computed(node))
    work.look_at(readers)
    return True


def _has_constant_inputs(node: Node) -> bool:
    if node.op in SHAPE_READERS and node.has(0) and settled(shape_of(node.scope, node.inputs[0])) is not None:
        return True
    given = [name for name in node.inputs if name]
    return bool(given) and all(constants.is_stored(node.scope, name) for name in given)


def may_be_stored(scope: Scope, name: str) -> bool:
    """Whether a name may be that of an initializer: not an output of a body, which some runtimes refuse."""
    if name in scope.pinned or name in scope.annotated or name in scope.shadowing:
        return False
    is_new = scope.graph.model.ir_version >= FIRST_IR_WITH_DEFAULTS
    if scope.is_function or name not in scope.outputs:
        return scope.is_function or scope.parent is None or is_new
    return scope.parent is None and is_new


def _require_bounded(node: Node) -> None:
    """Require that neither the inputs nor the results take more memory than one constant may.

    Raises:
        Refused: "too-large".
    """
    if node.op in SHAPE_READERS:
        return
    dtype = node.dtype(0)
    is_view = node.op in VIEWS and dtype in FLOAT_TYPES
    read = sum(_stored_bytes(node.scope, name) for name in node.inputs if name)
    require(is_view or read <= 2 * EVALUATED, "too-large", f"{node.label!r} reads constants too large to evaluate")
    for shape in [settled(shape_of(node.scope, name)) for name in node.outputs if name]:
        if shape is None:
            known = is_view or (read <= UNKNOWN and node.op not in EXPANDING)
            require(known, "too-large", f"the size of what {node.label!r} makes is unknown")
        else:
            fits = is_view or (dtype is not None and math.prod(shape) * dtype.itemsize <= EVALUATED)
            require(fits, "too-large", f"{node.label!r} makes a constant too large to evaluate")


def _stored_bytes(scope: Scope, name: str) -> int:
    """The size of a constant; that of a Constant that has not become an initializer is read."""
    known = nbytes_of(scope, name)
    return constants.recipe(scope, name).nbytes if known is None else known


def _is_number(found: Weight | Array) -> bool:
    return found.dtype in FLOAT_TYPES or found.dtype.kind in "iub"


def _nbytes(found: Weight | Array) -> int:
    return found.nbytes if isinstance(found, Weight) else found.size * found.dtype.itemsize


def _held(found: Weight | Array) -> int:
    """The bytes that a result takes in memory; one that lies in the file takes none."""
    base = found.base if isinstance(found, Weight) else found
    return base.nbytes if isinstance(base, np.ndarray) else 0


def _freed(scope: Scope, node: Node, name: str) -> int:
    """The bytes that leave the file with the only reader of a constant."""
    if not name or node.op in SHAPE_READERS or scope.owner(name) is not scope:
        return 0
    is_read = scope.is_seen(name) or name in scope.annotated or any(edge.node is not node for edge in scope.uses[name])
    return 0 if is_read else _stored_bytes(scope, name)
