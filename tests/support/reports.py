"""Reports to render and to hand out, built by hand: no model is read or run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from folding.report.model import Leftover, Offer, Outcome, OutputError, Refusal, Report, Verification

HOSTILE = (
    "</title></style><script>alert(1)</script>\x1b[31m\x1b]0;t\x07\x9b2J|`a|b`*_[x](http://evil) \\| & \u202e\n# h\"'"
)

GOOD = OutputError("logits", 3.1e-6, 1.2e-6, 8.8e-7, 2.4e-5, ok=True)
BAD = OutputError("boxes", 0.31, 0.12, 8.8e-7, 2.4e-5, ok=False)
NAN = OutputError("nans", float("nan"), float("inf"), 0.0, 2.4e-5, ok=False)

VERIFIED = Verification("verified", "", 3, "generated: input float32 1x3x224x224", (GOOD,), 2.1)
FAILED = Verification("failed", 'output "boxes" differs by 0.31', 3, "generated", (GOOD, NAN, BAD), 2.1)
NOT_VERIFIED = Verification("not verified", "no kernel for Custom")

SHARED = Refusal("other-consumer", "another operator reads the value", "cat", "")
PADDED = Refusal("zero-padding", "a shift does not pass zero padding", "conv9", "pad explicitly")
TRAINING = Refusal("training-mode", "it was exported in training mode", "", "call eval()")


def bn(node: str = "bn1", status: Any = "folded", **more: Any) -> Outcome:
    figures: dict[str, Any] = {"channels": 3, "scales": (0.25, 0.5, 2.0), "scale_min": 0.25, "scale_max": 2.0}
    where = {"direction": "backward", "absorbed_by": ("conv1",)} if status == "folded" else {}
    return Outcome(node, more.pop("operator", "BatchNormalization"), status, **(figures | where | more))


def kept(node: str = "bn2", backward: Refusal | None = SHARED, forward: Refusal | None = PADDED) -> Outcome:
    return bn(node, "kept", backward=backward, forward=forward)


def report(*outcomes: Outcome, verification: Verification = VERIFIED, **more: Any) -> Report:
    chosen = [o.status != "kept" for o in outcomes if o.operator == "BatchNormalization"]
    facts: dict[str, Any] = {
        "version": "1.2.3",
        "source": "in.onnx",
        "target": "out.onnx",
        "bn_before": len(chosen),
        "bn_after": chosen.count(False),
        "nodes_before": 12,
        "nodes_after": 9,
        "bytes_before": 97_812_345,
        "bytes_after": 97_602_345,
        "changed": any(o.status != "kept" for o in outcomes),
        "seconds": 0.5,
    }
    return Report(outcomes=outcomes, verification=verification, **(facts | more))


BARRIER = Refusal("barrier", "Asinh passes nothing", "asinh", "")
LEFT = Leftover("matmul.add", "Add", "matmul", BARRIER, BARRIER)
VARIED = report(
    bn("a/bn1", absorbed_by=("a/conv1",)),
    bn("bn_moved", path=("relu", "reshape"), direction="forward", absorbed_by=("q", "k", "v")),
    bn("bn_split", "split", direction="backward", absorbed_by=("matmul",), left=(LEFT,)),
    bn("bn_merged", "merged", direction="forward", absorbed_by=("bn_next",)),
    bn("bn_removed", "removed"),
    kept("bn_shared"),
    kept("bn_training", TRAINING, TRAINING),
    kept("bn_untold", None, None),
    bn("mul1", operator="Mul", absorbed_by=("conv7",)),
    bn("add1", "kept", operator="Add", backward=SHARED, forward=PADDED),
    bn(
        "mul2",
        "split",
        operator="Mul",
        direction="backward",
        absorbed_by=("conv8",),
        left=(replace(LEFT, node="mul2"),),
    ),
    notes=("Two nodes are read by nobody.",),
)

_HOSTILE_REFUSAL = Refusal("barrier", HOSTILE, HOSTILE, HOSTILE)
HOSTILE_REPORT = report(
    bn(HOSTILE, path=(HOSTILE,), absorbed_by=(HOSTILE, HOSTILE)),
    kept(HOSTILE, _HOSTILE_REFUSAL, replace(_HOSTILE_REFUSAL, reason=HOSTILE + "2")),
    bn(HOSTILE, "kept", operator=HOSTILE, backward=_HOSTILE_REFUSAL),
    bn(HOSTILE, "split", left=(Leftover(HOSTILE, HOSTILE, HOSTILE, _HOSTILE_REFUSAL, _HOSTILE_REFUSAL),)),
    verification=Verification("failed", HOSTILE, 1, HOSTILE, (replace(BAD, name=HOSTILE),)),
    source=HOSTILE,
    target=HOSTILE,
    version=HOSTILE,
    notes=(HOSTILE,),
)

FREEZE, CLAMP = Offer("--freeze-initializers", 2), Offer("--clamp always", 1)
EMPTY = report(verification=Verification("not verified", "nothing was changed"))
EVERY = {
    "varied": VARIED,
    "hostile": HOSTILE_REPORT,
    "empty": EMPTY,
    "failed": report(bn(), verification=FAILED),
    "not verified": report(bn(), verification=NOT_VERIFIED),
    "dry run": report(bn(), kept(), verification=NOT_VERIFIED, target=None),
    "offers": report(kept("bn1"), kept("bn2"), kept("bn3"), offers=(FREEZE, CLAMP)),
    "odd scales": report(
        bn("dead", scales=(0.0, 0.0, 1.0)),
        bn("all dead", scales=(0.0,), channels=1),
        bn("tiny", scales=(1e-300, 1e300)),
        bn("broken", scales=(float("nan"), float("inf"))),
        bn("untold", scales=(), channels=0),
    ),
    "many": report(*(bn(f"/stage/block{i}/bn", absorbed_by=(f"/stage/block{i}/conv",)) for i in range(1000))),
}
