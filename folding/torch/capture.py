"""Capture a module as a graph of ATen operators through torch.export, without in-place operators."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from folding.errors import ExportError
from folding.torch.export import quietly
from folding.torch.failures import as_export_error

if TYPE_CHECKING:
    from folding.torch.examples import Example

AUTO = torch.export.Dim.AUTO  # open where the module allows it


@dataclass(frozen=True)
class Captured:
    """The graph of a module: `module` runs it, `persistent` are the names in its state, `original` is what it is of."""

    module: torch.fx.GraphModule
    persistent: frozenset[str]
    original: torch.nn.Module

    @property
    def nodes(self) -> list[torch.fx.Node]:
        """The nodes in order."""
        return list(self.module.graph.nodes)

    def tensor(self, name: str) -> Any:
        """The parameter, buffer, constant or inner graph of a name."""
        found: Any = self.module
        for part in name.split("."):
            found = getattr(found, part)
        return found


def capture(module: torch.nn.Module, example: Example, shapes: Any) -> Captured:
    """The graph of a module on its example inputs; axes without `shapes` are open where the module allows it.

    `shapes` are those of `torch.export.export`; a name opens an axis, as in `torch.onnx.export`.

    Raises:
        ExportError: torch.export fails, or the module changes its buffers when it runs.
    """
    with quietly():
        try:
            return _captured(module, example, _opened(shapes))
        except ExportError:
            raise
        except Exception as error:
            raise as_export_error(error, None) from error


def _opened(shapes: Any) -> Any:
    """The same with an open axis for each name."""
    if isinstance(shapes, dict):
        return {key: _opened(value) for key, value in shapes.items()}
    if isinstance(shapes, (list, tuple)):
        return type(shapes)(map(_opened, shapes))
    return torch.export.Dim.DYNAMIC if isinstance(shapes, str) else shapes


def _captured(module: torch.nn.Module, example: Example, shapes: Any) -> Captured:
    """The graph; where no shapes are given and open axes do not work, with the shapes of the example."""
    if shapes is not None:
        return _exported(module, example, shapes)
    try:
        return _exported(module, example, example.open_axes(AUTO))
    except ExportError:
        raise
    except Exception:  # noqa: BLE001  a constraint, one that PyTorch cannot solve, or an input that is no tensor
        return _exported(module, example, None)


def _exported(module: torch.nn.Module, example: Example, shapes: Any) -> Captured:
    call = example.map(lambda tensor: tensor.detach().clone())  # an export that fails leaves marks on tensors
    program = torch.export.export(module, call.args, dict(call.kwargs), dynamic_shapes=shapes)
    if _writes(program.graph_module):  # traced anew without in-place operators, which takes most of the time
        program = program.run_decompositions({})
        _require_unchanged(program)
    return Captured(program.module(), frozenset(program.state_dict), module)


def _writes(graph: torch.fx.GraphModule) -> bool:
    """Whether an operator changes a tensor in place, in the graph or in one inside it."""
    graphs = [one for one in graph.modules() if isinstance(one, torch.fx.GraphModule)]
    schemas = (getattr(node.target, "_schema", None) for one in graphs for node in one.graph.nodes)
    return any(schema is not None and schema.is_mutable for schema in schemas)


def _require_unchanged(program: Any) -> None:
    changed = sorted(program.graph_signature.buffers_to_mutate.values())
    if changed:
        raise ExportError(
            f"the module changes its buffers when it runs ({', '.join(changed)}): what it computes depends on what it "
            "computed before, and nothing is folded"
        )
