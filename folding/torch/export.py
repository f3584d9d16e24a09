"""Export a module to an ONNX file, with its normalizations kept apart, so that folding sees them.

Both exporters fold Conv + BatchNormalization on their own, without saying so: the one of torch.export in its optimizer
(`onnxscript`'s rules fuse_batchnorm), TorchScript where it exports for inference (`TrainingMode.EVAL`).
"""

from __future__ import annotations

import contextlib
import io
import logging
import re
import warnings
from collections import Counter
from typing import TYPE_CHECKING, Any

import torch

from folding.errors import ExportError, FoldingError, OptionError
from folding.torch.failures import as_export_error

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from folding.torch.examples import Example
    from folding.torch.failures import Exporter
    from folding.torch.modules import Names

EXPORTERS = ("dynamo", "torchscript")
NORMALIZATION = "BatchNormalization"
HELD = "bnfold.held"  # a domain that the exporter's optimizer does not know: it leaves such operators alone
WARNINGS_SHOWN = 3
LOG_SWITCH = "_jit_set_onnx_log_enabled"
LOG_STATE = "_jit_is_onnx_log_enabled"


def export(
    module: torch.nn.Module, example: Example, path: Path, exporter: Exporter, shapes: Any, names: Names
) -> list[str]:
    """Write the module to `path`; return what the exporter warned of and a user should know, a sentence each.

    Raises:
        ExportError: the exporter fails, with the reason and a way out.
        OptionError: there is no such exporter.
    """
    if exporter not in EXPORTERS:
        raise OptionError(f"exporter is {exporter!r}; choose one of {', '.join(EXPORTERS)}")
    with quietly() as warned:
        try:
            if exporter == "dynamo":
                _dynamo(module, example, path, shapes, names)
            else:
                _torchscript(module, example, path, shapes)
        except FoldingError:
            raise
        except Exception as error:  # the exporters raise what they like
            raise as_export_error(error, exporter) from error
    return _notes(warned)


def _dynamo(module: torch.nn.Module, example: Example, path: Path, shapes: Any, names: Names) -> None:
    program = torch.onnx.export(
        module,
        example.args,
        kwargs=dict(example.kwargs),
        dynamo=True,
        optimize=False,
        verbose=False,
        dynamic_shapes=shapes,
    )
    assert program is not None  # noqa: S101  without a path to write to, the exporter returns it
    _optimize(program)
    _name(program.model, names)
    program.save(path)


def _optimize(program: Any) -> None:
    """What the exporter does by default, except to its normalizations."""
    held = [node for node in program.model.graph.all_nodes() if node.op_type == NORMALIZATION and not node.domain]
    program.model.opset_imports[HELD] = 1
    for node in held:
        node.domain = HELD
    program.optimize()
    for node in program.model.graph.all_nodes():
        if node.domain == HELD:
            node.domain = ""
    program.model.opset_imports.pop(HELD, None)


def _name(model: Any, names: Names) -> None:
    """Name the operators after their modules, "layer1.0.bn1/BatchNormalization": the exporter only numbers them."""
    taken: Counter[str] = Counter()
    for node in model.graph.all_nodes():
        at = names.recorded(node.metadata_props)
        wish = f"{at}/{node.op_type}" if at else node.op_type
        node.name = wish if not taken[wish] else f"{wish}_{taken[wish]}"
        taken[wish] += 1


def _torchscript(module: torch.nn.Module, example: Example, path: Path, shapes: Any) -> None:
    torch.onnx.export(
        _flat(module, example),
        tuple(example.tensors),
        str(path),
        dynamo=False,
        input_names=list(example.names),
        dynamic_axes=axes(shapes, example.names),
        training=torch.onnx.TrainingMode.PRESERVE,
        do_constant_folding=False,
    )


def _flat(module: torch.nn.Module, example: Example) -> torch.nn.Module:
    """The module as one that takes its tensors one by one: TorchScript knows no named arguments, and flattens others.

    It has the same parts under the same names; only how it is called differs.
    """

    def forward(_: torch.nn.Module, *tensors: torch.Tensor) -> Any:
        call = example.with_tensors(list(tensors))
        return module.forward(*call.args, **call.kwargs)

    kind: Any = type(type(module).__name__, (torch.nn.Module,), {"forward": forward})
    flat: torch.nn.Module = kind.__new__(kind)
    flat.__dict__ = {name: value for name, value in vars(module).items() if name != "forward"}
    return flat


def axes(shapes: Any, names: tuple[str, ...]) -> dict[str, dict[int, str]]:
    """Dynamic shapes as TorchScript has them: a name for every open axis, by input.

    Raises:
        OptionError: they are nested, or of another number.
    """
    if shapes is None:
        return {}
    if isinstance(shapes, (tuple, list)):
        if len(shapes) != len(names):
            raise OptionError(f"dynamic_shapes has {len(shapes)} entries for the {len(names)} inputs {list(names)}")
        shapes = dict(zip(names, shapes, strict=True))
    if not isinstance(shapes, dict) or set(shapes) - set(names):
        raise OptionError(
            f'dynamic_shapes does not fit the inputs {list(names)}; give {{"{names[0]}": {{0: "batch"}}}}'
        )
    return {name: _open(name, given) for name, given in shapes.items() if given}


def _open(name: str, given: Any) -> dict[int, str]:
    """The name of every open axis of an input: a string as it is, that of a `Dim`, or one made of input and axis."""
    if not isinstance(given, dict):
        given = dict(enumerate(given))

    def called(axis: int, dimension: Any) -> str:
        own = dimension if isinstance(dimension, str) else getattr(dimension, "__name__", "")
        return own or f"{name}_{axis}"

    return {axis: called(axis, one) for axis, one in given.items() if _is_open(one)}


def _is_open(dimension: Any) -> bool:
    """Whether a dimension must stay open: a name or a `Dim`, except those that allow a fixed size."""
    return dimension is not None and not isinstance(dimension, int) and not re.search("STATIC|AUTO", str(dimension))


def require_open(model: Any, shapes: Any, names: tuple[str, ...]) -> None:
    """Refuse a file in which an axis is fixed that should be open: the exporter fixes those that the module needs so.

    Raises:
        ExportError: with the axis.
    """
    try:
        wanted = axes(shapes, names)
    except (OptionError, TypeError):
        return  # nested, as only dynamo takes them
    for value in model.graph.input:
        for axis in wanted.get(value.name, ()):
            if value.type.tensor_type.shape.dim[axis].HasField("dim_value"):
                size = value.type.tensor_type.shape.dim[axis].dim_value
                raise ExportError(
                    f"the module cannot be exported: it fixes an axis that dynamic_shapes leaves open: axis {axis} of "
                    f"{value.name!r} is always {size}; leave it out of dynamic_shapes, or change the module"
                )


@contextlib.contextmanager
def quietly() -> Iterator[list[warnings.WarningMessage]]:
    """Without the prints and log lines of PyTorch while it exports; warnings are recorded.

    TorchScript's exporter switches on a log of its own, in C++, which prints the whole graph of a module that it cannot
    export (PyTorch 2.13: it asks whether there is a function, instead of what that answers). An earlier export may have
    left it on.
    """
    before, switch = logging.root.manager.disable, getattr(torch._C, LOG_SWITCH, None)
    was_on = getattr(torch._C, LOG_STATE, bool)()
    with warnings.catch_warnings(record=True) as warned, contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("always")
        logging.disable(logging.WARNING)
        if switch is not None:
            switch(False)  # noqa: FBT003  it is a function of C++
            setattr(torch._C, LOG_SWITCH, lambda _: None)
        try:
            yield warned
        finally:
            if switch is not None:
                setattr(torch._C, LOG_SWITCH, switch)
                switch(was_on)
            logging.disable(before)


def _notes(warned: list[warnings.WarningMessage]) -> list[str]:
    """What a tracer warns of: where the file holds only the way that the example inputs took."""
    kinds = getattr(torch.jit, "TracerWarning", ())
    sentences = dict.fromkeys(
        f"the exporter warns: {' '.join(str(one.message).split())} ({one.filename.rpartition('/')[2]}:{one.lineno})"
        for one in warned
        if isinstance(one.message, kinds)
    )
    more = len(sentences) - WARNINGS_SHOWN
    return [*list(sentences)[:WARNINGS_SHOWN], *([f"and {more} more such warnings"] if more > 0 else [])]
