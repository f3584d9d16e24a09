"""What is known of a runtime: the form of the data files, and their reading. `docs/targets.md` describes each field."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from folding.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

FOLDER = Path(__file__).with_name("data")
NAMES: tuple[str, ...] = tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))
DOMAIN_MARK = "::"  # between the domain and the name of an operator that is not a standard one


@dataclass(frozen=True)
class Span:
    """One range of operator sets in which a target takes the same types of an operator.

    `types` are by the name of the type constraint in ONNX's schema, that of the main data first; a constraint that is
    absent is not limited. `is_expanded` says that the target has no such operator there and runs ONNX's definition of
    it by smaller ones.
    """

    opsets: tuple[int, int]
    types: Mapping[str, frozenset[str]] = field(default_factory=dict)
    is_expanded: bool = False

    @property
    def main(self) -> frozenset[str]:
        """The types of the main data; empty if they are not limited."""
        return next(iter(self.types.values()), frozenset())


@dataclass(frozen=True)
class Operator:
    """What a target knows of one operator.

    `opsets` is the first and the last operator set in which the target takes it, of the operator's own domain. `types`
    are those of its main data, as ONNX names them; empty where it takes any that ONNX allows. `restrictions` are the
    ids of checks in `folding/readiness/restrictions.py`, and `note` the sentence of the source. `spans` has the same in
    detail, in order, with the other type constraints.
    """

    opsets: tuple[int, int]
    types: frozenset[str] = frozenset()
    restrictions: tuple[str, ...] = ()
    note: str = ""
    spans: tuple[Span, ...] = ()

    def span(self, opset: int) -> Span | None:
        """The range that an operator set is in, None if the target does not take the operator there."""
        return next((span for span in self.spans if span.opsets[0] <= opset <= span.opsets[1]), None)


@dataclass(frozen=True)
class Target:
    """A runtime, as its sources describe it.

    Attributes:
        name: of the data file, and of the option.
        title: for people.
        version: of the runtime that the data are of.
        source: the address of the document, or the package that was asked.
        date: of the source, or when the package was asked.
        opset: the lowest and the highest standard operator set that it parses.
        ir: the lowest and the highest IR version.
        newer_ir: whether it loads files of a newer IR version too, with a warning at most.
        installed: whether it is the runtime that verification has: then the file itself is run with it, too.
        operators: by name, "Conv"; "com.microsoft::FusedMatMul" outside the standard domain.
        idioms: by the name of an idiom: "operator" (write the standard operator), "form" (leave it written out, the
            runtime fuses that) or "none" (it runs unfused either way).
        recognized: the written-out forms of an idiom that it fuses by itself, as `graph/matching.py` writes patterns.
        clamp: "never" or "always": whether a Relu or Clip with a bound per channel pays.
        functions: whether it takes model-local functions.
        align: to how many bytes external data should be aligned.
        narrow: types that it wants in another type.
        casts: types that it takes, too, because it computes them in another one by itself.
        types: those that it knows at all; empty if each operator says it.
        fallback: the target that runs what this one does not, in the same session; "" if there is none.
    """

    name: str
    title: str
    version: str
    source: str
    date: str
    opset: tuple[int, int]
    ir: tuple[int, int]
    operators: Mapping[str, Operator]
    idioms: Mapping[str, str]
    clamp: str
    functions: bool
    align: int
    narrow: Mapping[str, str] = field(default_factory=dict)
    casts: Mapping[str, str] = field(default_factory=dict)
    types: frozenset[str] = frozenset()
    fallback: str = ""
    newer_ir: bool = False
    installed: bool = False
    recognized: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def takes(self, op: str, opset: int, dtype: str | None = None) -> bool:
        """Whether the target runs an operator of an operator set, with this type ("float") of its main data."""
        known = self.operators.get(op)
        span = None if known is None else known.span(opset)
        return span is not None and (dtype is None or self.has_type(span.main, dtype))

    def has_type(self, types: Collection[str], dtype: str) -> bool:
        """Whether a type is one of those that it takes, by itself or in the type that the target makes of it."""
        other = self.narrow.get(dtype) or self.casts.get(dtype)
        return not types or dtype in types or (other is not None and other in types)


def load(name: str) -> Target:
    """Read the data of a target.

    Raises:
        OptionError: there is no such target; the error names all of them.
    """
    if name not in NAMES:
        raise OptionError(f"there is no target {name!r}{_meant(name)}; targets are {', '.join(NAMES)}")
    return _read(name)


def _meant(name: str) -> str:
    from difflib import get_close_matches  # noqa: PLC0415  only a mistake needs it

    close = get_close_matches(name.lower(), NAMES, n=2)
    return f" (did you mean {' or '.join(close)}?)" if close else ""


@cache
def _read(name: str) -> Target:
    import tomllib  # noqa: PLC0415  a command without a target pays nothing for it

    return parse(name, tomllib.loads((FOLDER / f"{name}.toml").read_text("utf-8")))


def parse(name: str, data: Mapping[str, Any]) -> Target:
    """The target that the contents of a data file describe."""
    restrictions, operators = data.get("restrictions", {}), data["operators"] | data.get("added", {})
    return Target(
        name=name,
        title=data["title"],
        version=data["version"],
        source=data["source"],
        date=data["date"],
        opset=_pair(data["opset"]),
        ir=_pair(data["ir"]),
        operators={op: _operator(known, tuple(restrictions.get(op, ()))) for op, known in operators.items()},
        idioms=data["idioms"],
        clamp=data["clamp"],
        functions=data["functions"],
        align=data["align"],
        narrow=data.get("narrow", {}),
        casts=data.get("casts", {}),
        types=frozenset(data.get("types", "").split()),
        fallback=data.get("fallback", ""),
        newer_ir=data.get("newer_ir", False),
        installed=data.get("installed", False),
        recognized={idiom: tuple(forms) for idiom, forms in data.get("recognized", {}).items()},
    )


def _operator(known: Mapping[str, Any] | list[Mapping[str, Any]], restrictions: tuple[str, ...]) -> Operator:
    """One operator: a table, or a list of them, the oldest operator set first."""
    tables = known if isinstance(known, list) else [known]
    spans = tuple(_span(table) for table in tables)
    return Operator(
        opsets=(spans[0].opsets[0], spans[-1].opsets[1]),
        types=frozenset().union(*(span.main for span in spans)),
        restrictions=restrictions,
        note=next((table["note"] for table in tables if "note" in table), ""),
        spans=spans,
    )


def _span(table: Mapping[str, Any]) -> Span:
    """The first of its type constraints is the one of the main data."""
    types = {name: frozenset(listed.split()) for name, listed in table.get("types", {}).items()}
    return Span(_pair(table["opsets"]), types, table.get("expanded", False))


def _pair(numbers: Iterable[int]) -> tuple[int, int]:
    first, last = numbers
    return first, last
