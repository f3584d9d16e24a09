"""Example inputs of a module: positional and named arguments, names of their tensors, and more samples like them."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils import _pytree as pytree  # the same module that torch.export flattens with; it has no public name

from folding.errors import OptionError
from folding.verification import samples

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

GENERATED = 2  # samples besides the example: a normal and a uniform one, as for ONNX files
SEED = samples.SEED


@dataclass(frozen=True)
class Example:
    """The arguments of one call, and a name for each tensor in them, in the order in which PyTorch flattens them."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    names: tuple[str, ...]
    bound: Mapping[str, Any] = field(default_factory=dict)  # by the names of parameters

    @classmethod
    def of(cls, module: torch.nn.Module, inputs: object) -> Example:
        """The call that `inputs` stand for: a tensor, a tuple of arguments, or a mapping of named arguments.

        Raises:
            OptionError: the module's `forward` does not take them.
        """
        args, kwargs = _arguments(inputs)
        try:
            bound = inspect.signature(module.forward).bind(*args, **kwargs).arguments
        except TypeError as error:
            raise OptionError(f"example_inputs do not fit {type(module).__name__}.forward: {error}") from None
        return cls(args, kwargs, tuple(_names(module, bound)), bound)

    @property
    def tensors(self) -> list[torch.Tensor]:
        """The tensors among the arguments, in order."""
        return [leaf for leaf in pytree.tree_leaves((self.args, self.kwargs)) if isinstance(leaf, torch.Tensor)]

    def map(self, change: Any) -> Example:
        """The same call with every tensor changed."""
        args, kwargs = pytree.tree_map_only(torch.Tensor, change, (self.args, dict(self.kwargs)))
        return Example(args, kwargs, self.names)

    def with_tensors(self, tensors: list[torch.Tensor]) -> Example:
        """The same call with other tensors, in order."""
        given = iter(tensors)
        return self.map(lambda _: next(given))

    def open_axes(self, mark: Any) -> Any:
        """The dynamic shapes with this mark on every axis of every tensor, as torch.export wants them."""

        def marked(leaf: object) -> Any:
            return dict.fromkeys(range(leaf.ndim), mark) if isinstance(leaf, torch.Tensor) else None

        return {name: pytree.tree_map(marked, given) for name, given in self.bound.items()}

    def feeds(self) -> dict[str, np.ndarray[Any, Any]]:
        """The tensors as arrays, by name."""
        return dict(zip(self.names, map(array, self.tensors), strict=True))

    def run(self, module: torch.nn.Module) -> list[torch.Tensor]:
        """The tensors that the module returns for this call, in order; nothing is recorded for gradients."""
        with torch.no_grad():
            returned = module(*self.args, **self.kwargs)
        return [leaf.detach() for leaf in pytree.tree_leaves(returned) if isinstance(leaf, torch.Tensor)]

    def more(self) -> Iterator[Example]:
        """Further calls with tensors of the same shapes: normal and uniform values, integers of the same range."""
        for number in range(GENERATED):
            generator = np.random.default_rng((SEED, number))
            yield self.map(lambda like, number=number, rng=generator: _drawn(like, number, rng))

    def read(self, path: str) -> Iterator[Example]:
        """The calls that an .npz file holds, with one array for each tensor.

        Raises:
            OptionError: its arrays do not fit.
        """
        dtypes = [np.dtype(array(tensor[:0] if tensor.ndim else tensor).dtype) for tensor in self.tensors]
        dynamic = [tuple(None for _ in tensor.shape) for tensor in self.tensors]
        specs = map(samples.Spec, self.names, dtypes, dynamic)
        for feeds in samples.batches(Path(path), specs, Path(path).name):
            yield self.with_tensors([tensor_like(feeds[n], t) for n, t in zip(self.names, self.tensors, strict=True)])


def _arguments(inputs: object) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(inputs, dict):
        return (), inputs
    if isinstance(inputs, (tuple, list)):
        return tuple(inputs), {}
    if isinstance(inputs, torch.Tensor):
        return (inputs,), {}
    kind = type(inputs).__name__
    raise OptionError(f"example_inputs is of type {kind}; give a tensor, a tuple of arguments or a dict of named ones")


def _names(module: torch.nn.Module, bound: Mapping[str, Any]) -> Iterator[str]:
    """A name for each tensor: that of its parameter, with its place where the argument holds several values."""
    variadic = {p.name for p in inspect.signature(module.forward).parameters.values() if p.kind is p.VAR_KEYWORD}
    for name, value in bound.items():
        for path, leaf in pytree.tree_flatten_with_path(value)[0]:
            if isinstance(leaf, torch.Tensor):
                keys = [str(getattr(key, "key", getattr(key, "idx", getattr(key, "name", key)))) for key in path]
                yield "_".join(keys if name in variadic else [name, *keys])


def _drawn(like: torch.Tensor, number: int, rng: np.random.Generator) -> torch.Tensor:
    """A tensor of the same shape and type with other values."""
    shape = tuple(like.shape)
    if like.is_floating_point():
        return torch.as_tensor(rng.random(shape) if number else rng.standard_normal(shape)).to(like)
    if like.dtype == torch.bool or like.is_complex() or not like.numel():
        return like  # a mask means something
    low, high = int(like.min()), int(like.max())
    return torch.as_tensor(rng.integers(low, high + 1, shape)).to(like)


def array(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    """A tensor as an array; bfloat16 as `ml_dtypes` has it."""
    still = tensor.detach().cpu()
    if still.dtype != torch.bfloat16:
        return np.asarray(still.resolve_conj().resolve_neg().numpy())
    return np.asarray(still.contiguous().view(torch.int16).numpy()).view(samples.NAMED_FLOATS["bfloat16"])


def tensor_like(values: np.ndarray[Any, Any], like: torch.Tensor) -> torch.Tensor:
    """An array as a tensor of the type and on the device of another one."""
    if values.dtype.name in samples.NAMED_FLOATS:
        values = values.astype(np.float32)
    return torch.as_tensor(np.ascontiguousarray(values)).to(like)
