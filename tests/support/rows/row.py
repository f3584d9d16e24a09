"""What a row of the rule tables says: a model with one affine named SITE, and what becomes of that affine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from folding import Outcome
    from tests.support.models import Model


@dataclass(frozen=True)
class Folded:
    """The site disappears into operators of these types, and the model ends with so many operators."""

    into: tuple[str, ...]
    status: str = "folded"
    direction: str = ""
    left: int | None = None


@dataclass(frozen=True)
class Kept:
    """The site stays, with these codes for the two directions."""

    backward: str
    forward: str


def into(*operators: str, status: str = "folded", direction: str = "", left: int | None = None) -> Folded:
    return Folded(operators, status, direction, left)


def barrier(m: Model, value: str) -> str:
    """A nonlinear operator that no map moves through, and that hides no difference: it never saturates."""
    return m.op("Asinh" if m.opset >= 9 else "Elu", value)


def out(m: Model, value: str) -> str:
    """A nonlinear end."""
    return barrier(m, value)


def start(m: Model, *shape: int, **kind: Any) -> str:
    """A nonlinear beginning."""
    return barrier(m, m.x(*(shape or (2, 4, 5, 6)), **kind))


def gemm(m: Model, x: str, c: tuple[int, ...] | None = (5,), **attributes: Any) -> str:
    inner = m.at(x).shape[0 if attributes.get("transA") else 1]
    w = m.constant((5, inner) if attributes.get("transB") else (inner, 5))
    return m.op("Gemm", x, w, *([] if c is None else [m.constant(c)]), **attributes)


def forward_gemm(m: Model, c: tuple[int, ...] | None = (5,), **attributes: Any) -> None:
    out(m, gemm(m, m.bn(start(m, 3, 4)), c, **attributes))


def fixed_batch(m: Model, name: str) -> str:
    """A dynamic batch: shapes are (N, ...) from here on."""
    return m.x(
        *((2, 4, 5, 6) if name == "image" else (2, 3, 4)), declare=["N", *((4, 5, 6) if name == "image" else (3, 4))]
    )


def since(opset: int, build: Callable[[Model], Any]) -> Callable[[Model], Any]:
    """The same model in the first operator set that has its operators, at least."""

    def built(m: Model) -> Any:
        m.opset = max(m.opset, opset)
        return build(m)

    return built


Row = tuple[str, "Callable[[Model], Any]", Folded | Kept]


def judge(outcome: Outcome, expected: Folded | Kept, operators: dict[str, str]) -> None:
    if isinstance(expected, Kept):
        assert outcome.backward is not None, outcome
        assert outcome.forward is not None, outcome
        assert (outcome.status, outcome.backward.code, outcome.forward.code) == (
            "kept",
            expected.backward,
            expected.forward,
        )
        return
    assert outcome.status == expected.status, outcome
    assert sorted(operators[label] for label in outcome.absorbed_by) == sorted(expected.into)
    assert len(outcome.operators) == len(outcome.path) + len(outcome.absorbed_by)
    assert sorted(outcome.operators[len(outcome.path) :]) == sorted(expected.into)
    assert expected.direction in ("", outcome.direction)
