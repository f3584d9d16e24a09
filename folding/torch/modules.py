"""Modules: which of them train, and which one an exported operator comes from."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from dataclasses import replace
from fnmatch import fnmatchcase
from glob import escape
from typing import TYPE_CHECKING, Any

import torch

from folding.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from folding.options import Options

NAMES_SHOWN = 10
SCOPES = "pkg.torch.onnx.name_scopes"  # what the dynamo exporter writes into metadata: ['', 'layer1', 'layer1.0', ...]
REPEATED = re.compile(r"@\d+$")  # of a module that is called again: bn@1


def require_inference(module: torch.nn.Module) -> None:
    """Refuse a module in training mode: it would be exported with the statistics of a batch, and with Dropout.

    Raises:
        OptionError: with the names of what behaves otherwise in training.
    """
    if not isinstance(module, torch.nn.Module):
        raise OptionError(f"module is of type {type(module).__name__}; give a torch.nn.Module")
    training = [(name or "the module itself", part) for name, part in module.named_modules() if part.training]
    if not training:
        return
    different = [f"{name} ({type(part).__name__})" for name, part in training if _differs(part)]
    names = different or [f"{name} ({type(part).__name__})" for name, part in training]
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    raise OptionError(
        f"the module is in training mode: {', '.join(names[:NAMES_SHOWN])}{more}; call module.eval() first"
    )


def _differs(part: torch.nn.Module) -> bool:
    """Whether a layer of PyTorch computes something else in training."""
    kinds = (
        torch.nn.modules.batchnorm._NormBase,  # BatchNorm and InstanceNorm of all ranks
        torch.nn.modules.dropout._DropoutNd,
        torch.nn.RReLU,
    )
    return isinstance(part, kinds)


class Names:
    """The names of a module's parts, and the part that each operator of its export comes from."""

    def __init__(self, module: torch.nn.Module) -> None:
        self._known = {name for name, _ in module.named_modules(remove_duplicate=False)}
        # By a module and the last part of a name: the modules of that name in its children
        self._within: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
        for name in self._known:
            parts = name.split(".")
            self._within[".".join(parts[:-2]), parts[-1]] += [name] if len(parts) > 1 else []

    def of(self, node: Any) -> str:
        """The module of an operator: "" where that is the whole, or unknown."""
        recorded = {entry.key: entry.value for entry in node.metadata_props}
        return self.recorded(recorded) if SCOPES in recorded else self.walked(node.name.split("/")[1:-1])

    def recorded(self, metadata: Mapping[str, str]) -> str:
        """The innermost of the scopes, listed outermost first, that is a module; "" where none is recorded."""
        scopes = _listed(metadata.get(SCOPES, ""))
        return next((name for name in map(_first_call, reversed(scopes)) if name in self._known), "")

    def captured(self, node: Any) -> str:
        """The innermost module of a node of torch.export's graph."""
        scopes = [str(name) for name, _ in (node.meta.get("nn_module_stack") or {}).values()]
        return next((name for name in map(_first_call, reversed(scopes)) if name in self._known), "")

    def walked(self, scopes: list[str]) -> str:
        """The module at the end of a way of TorchScript's scopes, which hold names of attributes: layer1, layer1.0, bn.

        A child of a Sequential is named with its parent's own name, so only the last part counts there. A container
        whose children are called one by one, and not as a whole, is no scope: a child is looked for in it if there is
        none of that name outside.
        """
        at = ""
        for scope in scopes:
            parts = scope, scope.rpartition(".")[2], re.sub(r"_\d+$", "", scope)  # the last: called again
            children = [f"{at}.{part}" if at else part for part in parts]
            within = [names[0] for part in parts if len(names := self._within.get((at, part), [])) == 1]
            at = next((name for name in [*children, *within] if name in self._known), at)
        return at

    def labels(self, model: Any) -> dict[str, str]:
        """The module of every operator of a model, by the operator's label."""
        return {node.name or next(iter(node.output), ""): self.of(node) for node in nodes(model.graph)}


def _first_call(scope: str) -> str:
    return ".".join(REPEATED.sub("", part) for part in scope.split("."))


def _listed(recorded: str) -> list[str]:
    """The list that a metadata entry holds; none if it cannot be read."""
    try:
        found = ast.literal_eval(recorded)
    except (ValueError, SyntaxError):
        return []
    return [str(name) for name in found] if isinstance(found, (list, tuple)) else []


def nodes(graph: Any) -> Iterator[Any]:
    """The operators of a graph and of the graphs in it."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs):
                yield from nodes(inner)


def selecting(options: Options, modules: Mapping[str, str]) -> Options:
    """The options with patterns of modules (`keep=["layer1.*"]`) as patterns of their operators, by label."""

    def labels(pattern: str) -> list[str]:
        found = [escape(label) for label, name in modules.items() if name and fnmatchcase(name, pattern)]
        return found if found and not any(fnmatchcase(label, pattern) for label in modules) else [*found, pattern]

    def chosen(patterns: Iterable[str]) -> tuple[str, ...]:
        return tuple(label for pattern in patterns for label in labels(pattern))

    return replace(options, keep=chosen(options.keep), only=chosen(options.only), keep_fp32=chosen(options.keep_fp32))
