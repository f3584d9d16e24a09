"""Why something does not fold: Refused, with a stable code of CODES and a sentence."""

from __future__ import annotations

from typing import NamedTuple


class Code(NamedTuple):
    """A stable reason for refusal: what it means, and what a user can do ("" when nothing)."""

    meaning: str
    hint: str


CODES: dict[str, Code] = {
    "barrier": Code("an operator on the way neither absorbs nor passes a scale and shift", ""),
    "idiom": Code("runtimes recognize these operators by their exact form and compute them as one", ""),
    "no-gain": Code("the fold would leave as many nodes as it removes", ""),
    "axis": Code("the map varies along an axis along which the operator cannot take it", ""),
    "broadcast": Code("the value is broadcast, so the map would change its shape", ""),
    "zero-padding": Code(
        "a shift does not pass zero padding", "put the padding before the normalization, as an operator of its own"
    ),
    "not-data-input": Code("the value is used as a weight or parameter, not as data", ""),
    "two-steps": Code("the result is neither a pure scale nor a pure shift, so one node cannot hold it", ""),
    "clamp": Code(
        "a clamp (Relu, Clip) would need a bound for every channel, as Max or Min",
        'use clamp="always" if the runtime computes Max and Min as fast',
    ),
    "shift-left": Code("a shift has no place in the operator", ""),
    "scale-left": Code("a scale cannot pass only one input of a sum", ""),
    "cancellation": Code(
        "the shift is so large against the values that a fold would lose more than half of their digits",
        "subtract the mean before the model, or keep this operator",
    ),
    "sign": Code("a negative scale turns the operator around", ""),
    "epsilon": Code("a scale would change what a normalization's epsilon is added to", ""),
    "weight-not-constant": Code("a weight is computed at run time", "run constant folding on the model first"),
    "overridable": Code(
        "an initializer is also a graph input, so a caller may override it",
        "use freeze_initializers=True if nobody does",
    ),
    "too-large": Code(
        "a constant is too large to be evaluated while planning",
        "run constant folding on the model first, if operators compute it",
    ),
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
    "unknown-type": Code(
        "the type of a constant that the fold would add is unknown", "export the model with its types"
    ),
    "constant-input": Code("the value is a constant", "run constant folding on the model first"),
    "training-mode": Code(
        "it was exported in training mode", "call eval() before exporting, or use freeze_training=True"
    ),
    "extra-outputs": Code("its running statistics or mask are used as outputs", "export in inference mode"),
    "parameters": Code("its parameters have lengths or types the operator does not allow", "check the exporter"),
    "non-finite": Code("its parameters are not finite, or var + epsilon is not positive", "check the training run"),
    "overflow": Code("a folded weight would not be finite in its type", "keep the model in a wider type"),
    "underflow": Code("a folded weight would lose its precision in its type", "keep the model in a wider type"),
    "old-opset": Code("the operator set is too old to express the result", "convert the model to opset 7 or later"),
    "unknown-opset": Code("the operator set is newer than the installed onnx package", "upgrade onnx"),
    "custom-domain": Code("the operator is not the standard one", "export it as the standard operator"),
    "in-function": Code(
        "it lies in a model-local function of another operator set than the model",
        "convert the model and its functions to one operator set",
    ),
    "attribute-reference": Code(
        "an attribute is a parameter of the function, each call may give another value",
        "inline the functions of the model first",
    ),
    "taken-back": Code(
        "verification found a wrong result with this fold, so it was taken back",
        "please report it, with the model if you can: it is a fault of bnfold or of the runtime",
    ),
    "kept-by-option": Code("an option keeps a node that would have to change", "drop the `keep` or `only` pattern"),
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
