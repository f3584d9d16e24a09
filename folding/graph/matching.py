"""Patterns of operators, written as expressions, and their matching against a graph, from the result backward.

A pattern is an expression of operators: ``Mul(x, Sigmoid(x))``. A small letter stands for any value, for the same one
wherever it is repeated, and for no constant; `m` and `n` for any value or constant; `b`, `c` and `d` for any scalar
constant; a number for a scalar constant of that value. Operands of Add, Max, Min and Mul may come in either order.
Inputs and attributes that a pattern does not name are not compared. Casts between floating-point types are stepped
over.

Words that stand for several spellings: ``Times(a, n)`` is a times the number n (Mul, or Div by 1/n; for `c` Div by
`d`), ``Product(a, b, n)`` a times b times n in any order, ``Square(a)`` Pow or Mul, ``Root(a)`` the square root,
``Rsqrt(a)`` one over it.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import ml_dtypes

from folding.graph.dtypes import BFLOAT16, FLOAT_TYPES
from folding.refusal import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np

    from folding.graph.index import Scope
    from folding.graph.node import Node

ANYTHING, ANY_SCALAR = frozenset({"m", "n"}), frozenset({"b", "c", "d"})
INVERSE = {"c": "d"}  # the letter of a divisor, by that of the factor that it stands for
COMMUTING = frozenset({"Add", "Max", "Min", "Mul"})
TOLERANCE = 1e-3  # relative; sqrt(2) in float16 is off by 1e-4
COARSE = float(ml_dtypes.finfo(BFLOAT16).eps) / 2  # type: ignore[no-untyped-call]  # the same in bfloat16, by rounding
BOUNDS_AS_INPUTS = 11  # of Clip
CASTS = 4  # in a row; exporters write at most two


@dataclass(frozen=True)
class Pattern:
    """An operator, or a word of the module's docstring, and its first inputs."""

    name: str
    inputs: tuple[Pattern | str | float, ...]


@dataclass(frozen=True)
class Match:
    """The operators of one occurrence, the last of the expression first, and what its letters and numbers stand for.

    `values` are the names of values by letter, `scalars` those of constants of one element, by letter or number.
    """

    nodes: tuple[Node, ...] = ()
    values: tuple[tuple[str, str], ...] = ()
    scalars: tuple[tuple[str | float, str], ...] = ()

    def with_node(self, node: Node) -> Match:
        """The same match with one operator more; an operator that the expression repeats is one."""
        return self if node in self.nodes else Match((*self.nodes, node), self.values, self.scalars)

    def with_scalar(self, term: str | float, name: str) -> Match:
        """The same match with one constant more."""
        return Match(self.nodes, self.values, (*self.scalars, (term, name)))

    def value(self, letter: str) -> str | None:
        """The name of the value that a letter stands for, None if it is not determined yet."""
        return next((name for known, name in self.values if known == letter), None)


@cache
def parse(text: str) -> Pattern:
    """Read a pattern."""
    pattern = _term(ast.parse(text, mode="eval").body)
    assert isinstance(pattern, Pattern), text  # noqa: S101  the tables are ours
    return pattern


def _term(expression: ast.expr) -> Pattern | str | float:
    if isinstance(expression, ast.Call) and isinstance(expression.func, ast.Name):
        return Pattern(expression.func.id, tuple(_term(argument) for argument in expression.args))
    if isinstance(expression, ast.Name):
        return expression.id
    return float(ast.literal_eval(expression))


def matches(scope: Scope, pattern: Pattern, name: str) -> Match | None:
    """The first match of a pattern whose result is the value `name`, None if there is none."""
    return next(_operator(scope, pattern, name, Match()), None)


def _inputs(scope: Scope, terms: tuple[Pattern | str | float, ...], names: list[str], found: Match) -> Iterator[Match]:
    if not terms:
        yield found
    elif names and names[0]:
        for first in _value(scope, terms[0], names[0], found):
            yield from _inputs(scope, terms[1:], names[1:], first)


def _value(scope: Scope, term: Pattern | str | float, name: str, found: Match) -> Iterator[Match]:
    if isinstance(term, Pattern):
        yield from _operator(scope, term, name, found)
    elif isinstance(term, float):
        value = scalar(scope, name)
        tolerance = COARSE if scope.dtype(name) == BFLOAT16 else TOLERANCE
        if value is not None and abs(value - term) <= tolerance * abs(term):
            yield found.with_scalar(term, name)
    elif term in ANY_SCALAR:
        if scalar(scope, name) is not None:
            yield found.with_scalar(term, name)
    elif known := found.value(term):
        if known == name or _is_cast_alike(scope, known, name):
            yield found
    elif term in ANYTHING or not scope.values.is_constant(scope, name):
        yield Match(found.nodes, (*found.values, (term, name)), found.scalars)


def _operator(scope: Scope, pattern: Pattern, name: str, found: Match) -> Iterator[Match]:
    if pattern.name in WORDS:
        for spelling in WORDS[pattern.name](*pattern.inputs):
            yield from _operator(scope, spelling, name, found)
        return
    node = scope.producers.get(name)
    for _ in range(CASTS):
        if node is None or not _keeps_floats(node):
            break
        found, node = found.with_node(node), scope.producers.get(node.inputs[0])
    if node is None or node.op != pattern.name:
        return
    found = found.with_node(node)
    if node.op == "Clip" and node.version < BOUNDS_AS_INPUTS:
        bounds = tuple(float(node.attribute(bound)) for bound in ("min", "max"))
        if bounds == pattern.inputs[1:]:
            yield from _inputs(scope, pattern.inputs[:1], node.inputs, found)
        return
    yield from _inputs(scope, pattern.inputs, node.inputs, found)
    if node.op in COMMUTING:
        yield from _inputs(scope, pattern.inputs, node.inputs[::-1], found)


def _is_cast_alike(scope: Scope, one: str, other: str) -> bool:
    """Whether two values are casts of one value to one type: TorchScript casts it for each reader."""
    first, second = scope.producers.get(one), scope.producers.get(other)
    if first is None or second is None or not first.op == second.op == "Cast":
        return False
    return first.inputs == second.inputs and _same_type(scope.dtype(one), scope.dtype(other))


def _keeps_floats(node: Node) -> bool:
    return node.op == "Cast" and {node.dtype(0), node.scope.dtype(node.output)} <= FLOAT_TYPES


def scalar(scope: Scope, name: str) -> float | None:
    """The value of a constant of one element, None for everything else; a large constant is not evaluated."""
    if not scope.values.is_constant(scope, name):
        return None
    shape = scope.values.shape(scope, name)
    if shape is not None and any(length != 1 for length in shape):
        return None
    try:
        values = scope.values.array(scope, name)
    except Refused:
        return None
    return float(values.reshape(-1)[0]) if values.size == 1 else None


# --- words -----------------------------------------------------------------------------------------------------------

_Term = Pattern | str | float


def _times(a: _Term, n: _Term) -> Iterator[Pattern]:
    yield Pattern("Mul", (a, n))
    yield Pattern("Div", (a, _inverse(n)))


def _inverse(n: _Term) -> _Term:
    if isinstance(n, Pattern):
        return n
    return 1 / n if isinstance(n, float) else INVERSE.get(n, n)


def _product(a: _Term, b: _Term, n: _Term) -> Iterator[Pattern]:
    yield Pattern("Times", (Pattern("Mul", (a, b)), n))
    yield Pattern("Mul", (Pattern("Times", (a, n)), b))
    yield Pattern("Mul", (a, Pattern("Times", (b, n))))


def _square(a: _Term) -> Iterator[Pattern]:
    yield Pattern("Pow", (a, 2.0))
    yield Pattern("Mul", (a, a))


def _cube(a: _Term) -> Iterator[Pattern]:
    yield Pattern("Pow", (a, 3.0))
    yield Pattern("Mul", (a, Pattern("Square", (a,))))


def _root(a: _Term) -> Iterator[Pattern]:
    yield Pattern("Sqrt", (a,))
    yield Pattern("Pow", (a, 0.5))


def _rsqrt(a: _Term) -> Iterator[Pattern]:
    yield Pattern("Reciprocal", (Pattern("Root", (a,)),))
    yield Pattern("Div", (1.0, Pattern("Root", (a,))))
    yield Pattern("Pow", (a, -0.5))


WORDS: dict[str, Callable[..., Iterator[Pattern]]] = {
    "Times": _times,
    "Product": _product,
    "Square": _square,
    "Cube": _cube,
    "Root": _root,
    "Rsqrt": _rsqrt,
}


def _same_type(one: np.dtype[Any] | None, other: np.dtype[Any] | None) -> bool:
    """Whether both types are known and the same; NumPy takes None for float64."""
    return one is not None and other is not None and one == other
