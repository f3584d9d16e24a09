"""Layers: the parameters, buffers and modules of a folded module, under the names that they had."""

from __future__ import annotations

import copy
import pickle
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from torch.fx import Node as Fx

    from folding.torch.capture import Captured

CONVOLUTIONS: dict[tuple[bool, int], type[nn.Module]] = {
    (False, 1): nn.Conv1d,
    (False, 2): nn.Conv2d,
    (False, 3): nn.Conv3d,
    (True, 1): nn.ConvTranspose1d,
    (True, 2): nn.ConvTranspose2d,
    (True, 3): nn.ConvTranspose3d,
}
NORMALIZATIONS: dict[int, type[nn.Module]] = {
    2: nn.BatchNorm1d,
    3: nn.BatchNorm1d,
    4: nn.BatchNorm2d,
    5: nn.BatchNorm3d,
}  # by the rank of the input
Normalization = nn.modules.batchnorm._BatchNorm
OWNERS: tuple[type[nn.Module], ...] = (nn.modules.conv._ConvNd, nn.Linear, Normalization, nn.LayerNorm, nn.PReLU)
NOWHERE = torch.device("meta")  # where a layer is made that gets its weights at once: no random numbers are drawn


class Guards(nn.Module):  # type: ignore[misc, unused-ignore]
    """The checks of the inputs that torch.export makes; a symbolic trace (as FX quantization does) leaves them out."""

    _is_impure = True  # what PyTorch asks before it drops a call whose result nobody reads

    def __init__(self, checks: nn.Module) -> None:
        super().__init__()
        self.checks = checks

    def forward(self, *inputs: Any) -> None:
        """Raise an AssertionError, with what the graph was captured for, where the inputs do not fit."""
        if not any(isinstance(one, torch.fx.Proxy) for one in inputs):
            self.checks(*inputs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Guards:
        return Guards(self.checks)

    def __getstate__(self) -> dict[str, Any]:
        raise pickle.PicklingError(
            "a folded module checks its inputs with code that cannot be pickled; save its state_dict(), or the module "
            "with torch.export.save(torch.export.export(module, inputs), path)"
        )


class Layers:
    """The modules under construction; nothing shares storage with the original."""

    def __init__(self, graph: torch.fx.Graph, captured: Captured) -> None:
        self._graph, self._captured = graph, captured
        self._root = nn.Module()
        self._attributes: dict[str, Fx] = {}
        self._transient: set[str] = set()  # buffers and constants that the state does not have
        self._called: dict[str, list[tuple[str, nn.Module]]] = defaultdict(list)  # by the name that was wished for
        self._reserved = {name for name, _ in captured.original.named_modules()}
        self._reserved |= {name for name, _ in captured.original.named_parameters()}
        self._reserved |= {name for name, _ in captured.original.named_buffers()}

    def module(self) -> torch.fx.GraphModule:
        """All of it as one module that runs the graph."""
        kind = type(self._captured.original).__name__
        whole = torch.fx.GraphModule(self._root, self._graph, kind)
        whole.graph.eliminate_dead_code()
        result = torch.fx.GraphModule(whole, whole.graph, kind)  # with nothing but what the graph names
        for name in self._transient:
            self._keep_out_of_state(result, name)
        for name in ("_in_spec", "_out_spec"):
            if hasattr(self._captured.module, name):
                setattr(result, name, getattr(self._captured.module, name))
        return result.eval()

    # --- constants ----------------------------------------------------------------------------------------

    def attribute(self, name: str) -> Fx:
        """A parameter, buffer, constant or inner graph of the original, copied, under its own name.

        A weight of a layer lies beside it: the layer itself may have another one now.
        """
        if name not in self._attributes:
            found, owner = self._captured.tensor(name), self._original(name.rpartition(".")[0])
            place = self._free(name.replace(".", "_")) if isinstance(owner, OWNERS) else name
            if isinstance(found, nn.Parameter):
                self.place(place, nn.Parameter(found.detach().clone(), found.requires_grad))
            elif isinstance(found, torch.Tensor):
                self.place(place, found.detach().clone())
                self._transient |= {place} - self._captured.persistent
            else:
                self.place(place, copy.deepcopy(found))
            self._attributes[name] = self._graph.get_attr(place)
        return self._attributes[name]

    def buffer(self, wish: str, value: torch.Tensor) -> Fx:
        """A new constant; dots of its name become underscores, so that it lies beside the modules."""
        name = self._free(wish.replace(".", "_").replace("/", "_"))
        self.place(name, value.to(self._device()))
        return self._graph.get_attr(name)

    def place(self, name: str, value: Any) -> None:
        """Put a tensor or a module under a dotted name."""
        *scopes, last = name.split(".")
        at = self._root
        for scope in scopes:
            if not hasattr(at, scope):
                at.add_module(scope, nn.Module())
            at = getattr(at, scope)
        if isinstance(value, nn.Module):
            at.add_module(last, value)
        elif isinstance(value, nn.Parameter):
            at.register_parameter(last, value)
        else:
            at.register_buffer(last, value)

    @staticmethod
    def _keep_out_of_state(result: nn.Module, name: str) -> None:
        """Make a buffer one that is not saved, as it was; a GraphModule makes its own of all."""
        scope, _, last = name.rpartition(".")
        try:
            at = result.get_submodule(scope)
        except AttributeError:
            return  # nobody reads it
        if last in at._buffers:
            at._non_persistent_buffers_set.add(last)

    def _free(self, wish: str) -> str:
        name, number = wish, 1
        while name in self._reserved or not name:
            name, number = f"{wish}_{number}" if wish else f"constant_{number}", number + 1
        self._reserved.add(name)
        return name

    def _device(self) -> torch.device:
        tensors = (*self._captured.original.parameters(), *self._captured.original.buffers())
        return next((tensor.device for tensor in tensors), torch.device("cpu"))

    # --- layers -------------------------------------------------------------------------------------------

    def call(self, at: str, layer: nn.Module, read: Fx, weights: dict[str, torch.Tensor | None]) -> Fx:
        """A call of a layer with these weights, under the name of the module that it was, where that was a layer."""
        for name, value in weights.items():
            if value is None:
                setattr(layer, name, None)
            elif name in ("weight", "bias"):
                trains = self._trains(at)
                setattr(layer, name, nn.Parameter(value.to(self._device()).contiguous(), trains))
            else:
                layer.register_buffer(name, value.to(self._device()))
        wish = at if self._is_layer(at, layer) else ""
        for known, other in self._called[wish]:
            if wish and _same(other, layer):
                return self._graph.call_module(known, (read,))
        kind = type(layer).__name__.lower()
        if wish and not self._called[wish]:
            name = wish
        else:
            name = self._free(f"{wish}_1" if wish else f"{at}.{kind}" if at else kind)
        self._called[wish].append((name, layer))
        self.place(name, layer.eval())
        return self._graph.call_module(name, (read,))

    def _is_layer(self, at: str, layer: nn.Module) -> bool:
        """Whether the original's module of that name is a layer of the same kind."""
        original = self._original(at)
        return at != "" and any(isinstance(original, kind) and isinstance(layer, kind) for kind in OWNERS)

    def _original(self, at: str) -> nn.Module | None:
        try:
            return self._captured.original.get_submodule(at)
        except AttributeError:
            return None

    def _trains(self, at: str) -> bool:
        """Whether gradients are wanted of the weights of a module, as of those of the original."""
        original = self._original(at)
        found = next((one.requires_grad for one in original.parameters()), True) if original is not None else True
        return bool(found)

    def tracked(self, at: str) -> torch.Tensor:
        """How many batches a normalization has seen."""
        known = getattr(self._original(at), "num_batches_tracked", None)
        return torch.tensor(0) if known is None else known.detach().clone()


def _same(one: nn.Module, other: nn.Module) -> bool:
    """Whether two layers compute the same."""
    states = one.state_dict(), other.state_dict()
    alike = repr(one) == repr(other) and states[0].keys() == states[1].keys()
    return alike and all(torch.equal(value, states[1][name]) for name, value in states[0].items())
