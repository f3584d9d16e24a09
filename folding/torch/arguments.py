"""Arguments of a node of a graph, by the names of the operator's schema, with its defaults."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from folding.torch.skeleton import UntranslatedError

if TYPE_CHECKING:
    from torch.fx import Node as Fx


def arguments(node: Fx) -> dict[str, Any]:
    """All arguments of the operator that a node calls."""
    target: Any = node.target
    found: dict[str, Any] = {}
    for place, declared in enumerate(target._schema.arguments):
        if place < len(node.args) and not declared.kwarg_only:
            found[declared.name] = node.args[place]
        else:
            found[declared.name] = node.kwargs.get(declared.name, declared.default_value)
    return found


def require(*conditions: object) -> None:
    """Raise UntranslatedError unless all conditions hold."""
    if not all(conditions):
        raise UntranslatedError


def listed(given: Any, rank: int) -> list[int]:
    """A list of integers for every axis: one number counts for all.

    Raises:
        UntranslatedError: one is open.
    """
    values = list(given) if isinstance(given, (list, tuple)) else [given]
    values = values * rank if len(values) == 1 else values
    require(len(values) == rank, all(isinstance(value, int) for value in values))
    return values
