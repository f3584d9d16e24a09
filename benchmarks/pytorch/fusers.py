"""PyTorch's own fusers, each as a function from a module to what runs the result; `verdict` judges that."""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import folding

Normalization = nn.modules.batchnorm._BatchNorm
CONVOLUTION = nn.modules.conv._ConvNd
LAYERS = (CONVOLUTION, nn.Linear)
WRONG = 1e-4  # of the largest output, in float32; the errors of right results are below 1e-6
Run = Callable[[torch.Tensor], torch.Tensor]


class Fused(NamedTuple):
    """What runs the result, and how many normalizations are left in it; None where they are counted when it runs."""

    run: Run
    left: int | None = None


class Calls(TorchDispatchMode):
    """Counts the normalizations that run, however they are called."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += "batch_norm" in str(function)
        return function(*args, **(kwargs or {}))


def bnfold(module: nn.Module, x: torch.Tensor) -> Fused:
    """`folding.fold_module`."""
    return Fused(folding.fold_module(module, x))


def fuse_eval(module: nn.Module, _: torch.Tensor) -> Fused:
    """`torch.nn.utils.fusion.fuse_conv_bn_eval` and `fuse_linear_bn_eval`, called on every pair."""
    from torch.nn.utils import fusion  # noqa: PLC0415

    fused = copy.deepcopy(module)
    for layer, normalization in pairs(module):
        one, other = fused.get_submodule(layer), module.get_submodule(normalization)
        transposed = isinstance(one, nn.modules.conv._ConvTransposeNd)
        if isinstance(one, CONVOLUTION):
            setattr(fused, layer, fusion.fuse_conv_bn_eval(one, other, transpose=transposed))  # type: ignore[type-var]
        else:
            setattr(fused, layer, fusion.fuse_linear_bn_eval(one, other))  # type: ignore[type-var]
        setattr(fused, normalization, nn.Identity())
    return Fused(fused)


def fx_fuse(module: nn.Module, _: torch.Tensor) -> Fused:
    """`torch.fx.experimental.optimization.fuse`: fuse_conv_bn_eval for what a symbolic trace finds."""
    from torch.fx.experimental.optimization import fuse  # noqa: PLC0415

    return Fused(fuse(module))


def fuse_modules(module: nn.Module, _: torch.Tensor) -> Fused:
    """`torch.ao.quantization.fuse_modules`, for every pair."""
    named = pairs(module)
    return Fused(torch.ao.quantization.fuse_modules(module, named) if named else module)


def pairs(module: nn.Module) -> list[list[str]]:
    """The names that a user gives: of every layer and the normalization that reads its result, each pair once."""
    found = []
    for node in torch.fx.symbolic_trace(module).graph.nodes:
        read = node.args[0] if node.op == "call_module" else None
        if isinstance(read, torch.fx.Node) and read.op == "call_module":
            pair = [str(read.target), str(node.target)]
            layer, normalization = map(module.get_submodule, pair)
            if isinstance(layer, LAYERS) and isinstance(normalization, Normalization) and pair not in found:
                found.append(pair)
    return found


def fuse_fx(module: nn.Module, _: torch.Tensor) -> Fused:
    """`torch.ao.quantization.quantize_fx.fuse_fx`."""
    from torch.ao.quantization.quantize_fx import fuse_fx as fuse  # noqa: PLC0415

    return Fused(fuse(copy.deepcopy(module)))


def pt2e(module: nn.Module, x: torch.Tensor) -> Fused:
    """`prepare_pt2e` of torchao, with a quantizer that quantizes nothing: what it does to normalizations before."""
    from torchao.quantization.pt2e.quantize_pt2e import prepare_pt2e  # noqa: PLC0415
    from torchao.quantization.pt2e.quantizer import ComposableQuantizer  # noqa: PLC0415

    return Fused(prepare_pt2e(torch.export.export(module, (x,)).module(), ComposableQuantizer([])))


def constant_fold(module: nn.Module, x: torch.Tensor) -> Fused:
    """`torch.export` and its pass that folds constants, `torch._export.passes.constant_folding`."""
    from torch._export.passes.constant_folding import constant_fold as fold  # noqa: PLC0415

    graph = torch.export.export(module, (x,)).module()
    fold(graph)
    return Fused(graph)


def onnx(module: nn.Module, x: torch.Tensor) -> Fused:
    """`torch.onnx.export(dynamo=True)`, whose optimizer fuses; the file runs in ONNX Runtime."""
    import onnxruntime as ort  # noqa: PLC0415
    from onnx import load  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "module.onnx")
        torch.onnx.export(module, (x,), path, dynamo=True, verbose=False)
        left = sum(node.op_type == "BatchNormalization" for node in load(path).graph.node)
        session = ort.InferenceSession(path)
    (given,) = session.get_inputs()
    return Fused(lambda one: torch.as_tensor(session.run(None, {given.name: one.numpy()})[0]), left)


def freezing(module: nn.Module, x: torch.Tensor) -> Fused:
    """Inductor's freezing: what it makes of the graph before it generates code.

    It writes a normalization that it leaves as arithmetic, with one subtraction of the mean.
    """
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

    return Fused(run, max(0, sum(map(_subtractions, graphs)) - _own_subtractions(module, x)))


def _subtractions(graph: torch.fx.GraphModule) -> int:
    return sum("aten.sub" in str(node.target) for node in graph.graph.nodes)


def _own_subtractions(module: nn.Module, x: torch.Tensor) -> int:
    """How many the module has where its normalizations do nothing."""
    bare = copy.deepcopy(module)
    for name, part in list(bare.named_modules()):
        if isinstance(part, Normalization):
            bare.set_submodule(name, nn.Identity())
    try:
        return _subtractions(torch.export.export(bare, (x,)).module())  # type: ignore[arg-type]  a graph
    except Exception:  # noqa: BLE001  a pattern that reads its normalization's parameters
        return 0


FUSERS: dict[str, Callable[[nn.Module, torch.Tensor], Fused]] = {
    "bnfold `fold_module`": bnfold,
    "`fuse_conv_bn_eval`, `fuse_linear_bn_eval`": fuse_eval,
    "`fx...optimization.fuse`": fx_fuse,
    "`fuse_modules`": fuse_modules,
    "`fuse_fx`": fuse_fx,
    "torchao `prepare_pt2e`": pt2e,
    "`torch.export`, `constant_fold`": constant_fold,
    "inductor freezing": freezing,
    "`torch.onnx.export`": onnx,
}
FOLDED, IN_PART, NOT_FOLDED, IS_WRONG, ERROR = "folded", "in part", "not folded", "WRONG", "error"


def verdict(fuser: Callable[[nn.Module, torch.Tensor], Fused], module: nn.Module, x: torch.Tensor) -> str:
    """What a fuser makes of a module: folded, in part, not folded, WRONG and by how much, or what it raises."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        before, expected = _counted(module, x)
        try:
            fused = fuser(module, x)
            left, found = _counted(fused.run, x)
        except Exception as error:  # noqa: BLE001  any tool may fail in its own way
            return f"{ERROR}: {type(error).__name__}"
    left = left if fused.left is None else fused.left
    if found.shape != expected.shape:
        return f"{IS_WRONG}: another shape"
    error = float((found - expected).abs().max() / expected.abs().max())
    if not error <= WRONG:
        return f"{IS_WRONG} by {error:.0%}"
    return FOLDED if not left else NOT_FOLDED if left >= before else IN_PART


def _counted(run: Run, x: torch.Tensor) -> tuple[int, torch.Tensor]:
    """The normalizations that run, and the result."""
    with Calls() as calls:
        found = run(x)
    return calls.count, found
