"""PyTorch's own fusers, each as a function from a module to the result and the normalizations that are left in it."""

from __future__ import annotations

import copy
import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

import folding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Fuser = Callable[[nn.Module, torch.Tensor], tuple[Callable[[torch.Tensor], torch.Tensor], int]]

Normalization = nn.modules.batchnorm._BatchNorm
LINEAR = (nn.modules.conv._ConvNd, nn.Linear)
# What is left of a normalization where a compiler has written it out; the first is there once for each.
WRITTEN_OUT = (
    "aten.rsqrt",
    "aten.sqrt",
    "aten.reciprocal",
    "aten.sub",
    "aten.mul",
    "aten.batch_norm",
    "_native_batch_norm",
)


def count(module: nn.Module) -> int:
    """The normalizations of a module; of a graph those that it calls, as modules or as functions."""
    if not isinstance(module, torch.fx.GraphModule):
        return sum(isinstance(part, Normalization) for part in module.modules())
    nodes = list(module.graph.nodes)
    called = [module.get_submodule(node.target) for node in nodes if node.op == "call_module"]
    functions = sum(node.op == "call_function" and "batch_norm" in str(node.target) for node in nodes)
    return functions + sum(isinstance(part, Normalization) for one in called for part in one.modules())


def bnfold(module: nn.Module, x: torch.Tensor) -> tuple[Any, int]:
    """`folding.fold_module`."""
    folded = folding.fold_module(module, x)
    return folded, count(folded)  # type: ignore[arg-type]  a graph is a module


def fuse_conv_bn_eval(module: nn.Module, _: torch.Tensor) -> tuple[Any, int]:
    """`torch.nn.utils.fusion`, for every pair that a symbolic trace finds (`torch.fx.experimental.optimization`)."""
    from torch.fx.experimental.optimization import fuse  # noqa: PLC0415

    fused = fuse(module)
    return fused, count(fused)


def fuse_modules(module: nn.Module, _: torch.Tensor) -> tuple[Any, int]:
    """`torch.ao.quantization.fuse_modules`, for every layer that is followed by a normalization."""
    fused = copy.deepcopy(module)
    for pair in pairs(module):
        fused = torch.ao.quantization.fuse_modules(fused, [pair])
    return fused, count(fused)


def pairs(module: nn.Module) -> Iterator[list[str]]:
    """The names that a user gives: a layer and the normalization that is registered next."""
    before = ""
    for name, part in module.named_children():
        if isinstance(part, Normalization) and before:
            yield [before, name]
        before = name if isinstance(part, LINEAR) else ""


def fuse_fx(module: nn.Module, _: torch.Tensor) -> tuple[Any, int]:
    """`torch.ao.quantization.quantize_fx.fuse_fx`."""
    from torch.ao.quantization.quantize_fx import fuse_fx as fuse  # noqa: PLC0415

    fused = fuse(copy.deepcopy(module))
    return fused, count(fused)


def freezing(module: nn.Module, x: torch.Tensor) -> tuple[Any, int]:
    """Inductor's freezing: what it makes of the graph before it generates code."""
    from torch._inductor import config  # noqa: PLC0415
    from torch._inductor.compile_fx import compile_fx  # noqa: PLC0415

    graphs: list[torch.fx.GraphModule] = []

    def inner(graph: torch.fx.GraphModule, *_: Any, **__: Any) -> Any:
        graphs.append(graph)
        return lambda inputs: graph(*inputs)

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Any:
        return compile_fx(graph, inputs, inner_compile=inner)

    torch._dynamo.reset()
    with torch.no_grad(), config.patch(freezing=True):
        compiled = torch.compile(module, backend=backend)
        compiled(x)

        def run(given: torch.Tensor) -> torch.Tensor:
            with torch.no_grad(), config.patch(freezing=True):
                result: torch.Tensor = compiled(given)
            return result

    left = [str(node.target) for graph in graphs for node in graph.graph.nodes if node.op == "call_function"]
    own = sum(any(str(one) in name for one in WRITTEN_OUT) for name in left) > written_out(module, x)
    return run, int(own)


def written_out(module: nn.Module, x: torch.Tensor) -> int:
    """How many such operators the module has where its normalizations do nothing."""
    bare = copy.deepcopy(module)
    for name, part in list(bare.named_modules()):
        if isinstance(part, Normalization):
            bare.set_submodule(name, nn.Identity())
    try:
        graph = torch.export.export(bare, (x,)).graph
    except Exception:  # noqa: BLE001  a pattern that reads its normalization's parameters
        return 0
    return sum(any(one in str(node.target) for one in WRITTEN_OUT) for node in graph.nodes)


FUSERS: dict[str, Fuser] = {
    "bnfold": bnfold,
    "fuse_conv_bn_eval": fuse_conv_bn_eval,
    "fuse_modules": fuse_modules,
    "fuse_fx": fuse_fx,
    "inductor freezing": freezing,
}
WRONG = 1e-4  # of the largest output, in float32; the errors of right results are below 1e-6


def verdict(fuser: Fuser, module: nn.Module, x: torch.Tensor) -> str:
    """What a fuser makes of a module: folded, in part, not folded, WRONG and by how much, or what it raises."""
    before = count(module)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        expected = module(x)
        try:
            fused, left = fuser(module, x)
            found = fused(x)
        except Exception as error:  # noqa: BLE001  any tool may fail in its own way
            return f"error: {type(error).__name__}"
    if found.shape != expected.shape:
        return "WRONG: another shape"
    error = float((found - expected).abs().max() / expected.abs().max())
    if not error <= WRONG:
        return f"WRONG by {error:.0%}"
    return "folded" if not left else "not folded" if left >= before else "in part"
