"""What a query of Prometheus names: its series and their labels, as a parser of PromQL reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from promql_parser import AggregateExpr, BinaryExpr, MatrixSelector, VectorSelector, parse, walk

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

INTERVAL = "$__rate_interval"  # which Grafana fills in


def complaints(query: str, known: Mapping[str, frozenset[str]]) -> list[str]:
    """What a query names and no server has. `known` has the labels of each series.

    Raises:
        ValueError: it is no PromQL.
    """
    parts = _parts(query)
    selectors = list(_selectors(parts))
    found = [f"no series {one.name}" for one in selectors if one.name not in known]
    for one in selectors:
        labels = known.get(one.name or "", frozenset())
        found += [f"no label {it.name} of {one.name}" for it in one.matchers.matchers if it.name not in labels]
    labels = frozenset().union(*(known.get(one.name or "", frozenset()) for one in selectors))
    return found + [f"no label {name} to group by" for name in _groups(parts) if name not in labels]


def series_of(query: str) -> set[str]:
    """The series of a query."""
    return {one.name or "" for one in _selectors(_parts(query))}


def _parts(query: str) -> list[Any]:
    found: list[Any] = []
    walk(parse(query.replace(INTERVAL, "5m")), found.append)
    return found


def _selectors(parts: list[Any]) -> Iterator[VectorSelector]:
    for part in parts:
        if isinstance(part, VectorSelector):
            yield part
        elif isinstance(part, MatrixSelector):
            yield part.vector_selector


def _groups(parts: list[Any]) -> Iterator[str]:
    """The labels that results keep, are matched by, or take from the other side."""
    for part in parts:
        modifier = getattr(part, "modifier", None)
        if modifier is not None and isinstance(part, AggregateExpr):
            yield from modifier.labels
        elif modifier is not None and isinstance(part, BinaryExpr):
            yield from modifier.matching.labels if modifier.matching else ()
            yield from modifier.group_labels.labels if modifier.group_labels else ()
