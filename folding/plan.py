"""What a fold will do, as plain data: Edit, Move, Plan; and why one will not: Refused and its codes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from folding.affine import Affine
    from folding.graph import Node
    from folding.weights import Weight

Direction = Literal["backward", "forward"]


class Code(NamedTuple):
    """A stable reason for refusal: what it means, and what a user can do ("" when nothing)."""

    meaning: str
    hint: str


CODES: dict[str, Code] = {
    "barrier": Code("an operator on the way neither absorbs nor passes a scale and shift", ""),
    "no-gain": Code("the fold would leave as many nodes as it removes", ""),
    "axis": Code("the map varies along an axis the operator's weights do not have", ""),
    "broadcast": Code("the value is broadcast, so the map would change its shape", ""),
    "zero-padding": Code(
        "a shift does not pass zero padding", "give the convolution explicit padding before the normalization"
    ),
    "not-data-input": Code("the value is used as a weight or parameter, not as data", ""),
    "two-steps": Code("the result is neither a pure scale nor a pure shift, so one node cannot hold it", ""),
    "shift-left": Code("a shift has no place in the operator", ""),
    "scale-left": Code("a scale cannot pass only one input of a sum", ""),
    "weight-not-constant": Code("a weight is computed at run time", "run constant folding on the model first"),
    "overridable": Code(
        "an initializer is also a graph input, so a caller may override it",
        "use --freeze-initializers if nobody does",
    ),
    "too-large": Code("a constant is too large to be evaluated while planning", ""),
    "not-float": Code("the operator does not compute in a floating-point type bnfold folds", ""),
    "narrower-type": Code(
        "the map would move to a type that cannot hold every value of its own",
        "convert the model to one type first",
    ),
    "graph-input": Code("the value is an input of the graph, there is no operator to fold into", ""),
    "graph-output": Code("the value in between is an output of the graph and must stay", ""),
    "unused": Code("nothing reads the result", "remove dead nodes first"),
    "other-consumer": Code("another operator reads the value before the map", ""),
    "captured": Code("a nested graph reads the value", ""),
    "outer-scope": Code("the value comes from an enclosing graph", ""),
    "annotated": Code("a quantization annotation describes the value", "fold before quantizing"),
    "quantized": Code("integers were rounded for the values as they are", "fold before quantizing"),
    "quantized-axis": Code(
        "the map varies along an axis along which the scale of a quantized weight does not",
        "quantize weights per output channel, or fold before quantizing",
    ),
    "quantized-sign": Code(
        "the scale is negative and an integer of the quantized weight has no counterpart of the other sign",
        "quantize weights to a symmetric range, or fold before quantizing",
    ),
    "reconvergent": Code("two ways of the move meet in one operator", ""),
    "too-far": Code("the move would visit too many operators", ""),
    "unknown-shape": Code(
        "a shape that decides the fold is unknown",
        "export the model with fixed input shapes",
    ),
    "training-mode": Code("it was exported in training mode", "call eval() before exporting, or use --freeze-training"),
    "extra-outputs": Code("its running statistics or mask are used as outputs", "export in inference mode"),
    "parameters": Code("its parameters have lengths or types the operator does not allow", "check the exporter"),
    "non-finite": Code("its parameters are not finite, or var + epsilon is not positive", "check the training run"),
    "overflow": Code("a folded weight would not be finite in its type", "keep the model in a wider type"),
    "underflow": Code("a folded weight would lose its precision in its type", "keep the model in a wider type"),
    "old-opset": Code("the operator set is too old to express the result", "convert the model to opset 7 or later"),
    "unknown-opset": Code("the operator set is newer than the installed onnx package", "upgrade onnx"),
    "custom-domain": Code("the operator is not the standard one", ""),
    "in-function": Code("it lies in a model-local function", "inline the functions first (onnx.inliner)"),
    "kept-by-option": Code("an option keeps a node that would have to change", "drop the --keep or --only pattern"),
}


class Refused(Exception):  # noqa: N818  a refusal is an answer, not an error
    """Why something does not fold: a code of `CODES`, a sentence, and the label of the node that refused."""

    def __init__(self, code: str, reason: str, at: str = "") -> None:
        super().__init__(reason)
        self.code, self.reason, self.at = code, reason, at

    @property
    def hint(self) -> str:
        """What the user can do about it, "" when nothing."""
        return CODES[self.code].hint


def require(condition: object, code: str, reason: str, at: str = "") -> None:
    """Refuse with this code and sentence unless the condition holds."""
    if not condition:
        raise Refused(code, reason, at)


@dataclass(frozen=True)
class Edit:
    """What changes at one node so that it absorbs an affine.

    `constants` maps an input index to its new constant; `attributes` are set. `become` turns the node
    into the given affine of its one data input. `leftover` must still be applied to its first output.
    `passed` says that the node does not absorb: the move passes it, and one of its inputs is a constant.
    """

    node: Node
    constants: Mapping[int, Weight] = field(default_factory=dict)
    attributes: Mapping[str, float | int] = field(default_factory=dict)
    become: Affine | None = None
    leftover: Affine | None = None
    passed: bool = False


@dataclass(frozen=True)
class Move:
    """The parts of a move: edits of the absorbing nodes, nodes passed, and affine nodes that disappear."""

    edits: tuple[Edit, ...] = ()
    path: tuple[Node, ...] = ()
    removed: tuple[Node, ...] = ()

    def __add__(self, other: Move) -> Move:
        """Both moves together."""
        return Move(self.edits + other.edits, self.path + other.path, self.removed + other.removed)

    @property
    def added(self) -> int:
        """How many nodes it adds: a leftover is one node, or two where it has a scale and a shift."""
        parts = [edit.leftover for edit in self.edits if edit.leftover is not None]
        return sum((not part.is_linear) + (not part.is_shift) for part in parts)


@dataclass(frozen=True)
class Plan:
    """One fold, ready to be committed: the site's node is among `move.removed`."""

    site: Node
    affine: Affine
    direction: Direction
    move: Move
