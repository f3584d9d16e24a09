"""The command ``from-torch``: a factory of a PyTorch module in, a folded ONNX file out."""

# ruff: noqa: PLC0415  PyTorch takes seconds to import, and no other command needs it

from __future__ import annotations

from typing import TYPE_CHECKING

from folding.command.options import add_options, chosen_options
from folding.errors import OptionError, how_to_install
from folding.options import option_fields
from folding.process.signals import end_cleanly_when_asked

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from folding.command.parser import Parser
    from folding.report.model import Report

EXPORTERS = ("dynamo", "torchscript")


def add_from_torch(
    commands: argparse._SubParsersAction[Parser],
    add_presentation: Callable[[argparse.ArgumentParser], None],
    run: Callable[[argparse.Namespace], int],
) -> None:
    """Add the command; `run` does `converted` and publishes its report."""
    about = "Export a PyTorch module, fold it, compare the result with PyTorch itself, and write it."
    parser = commands.add_parser("from-torch", help="export a PyTorch module and fold it", description=about)
    where = "what makes the module: package.module:name of a function, a class or a module"
    parser.add_argument("model", metavar="FACTORY", help=where)
    parser.add_argument("-o", "--output", metavar="OUT", help="where to write the folded model")
    parser.add_argument("--dry-run", action="store_true", help="report what would be done and write no model")
    group = parser.add_argument_group("how to export (--inputs are the example inputs, too, by the names of arguments)")
    group.add_argument("--weights", metavar="FILE", help="weights to load: .safetensors, or .pt with weights only")
    group.add_argument("--eval", action="store_true", help="switch the module to inference mode first: module.eval()")
    shape = "the shape of an example input, in the order of the arguments: 1x3x224x224 (repeatable)"
    group.add_argument("--example", action="append", default=[], metavar="SIZES", help=shape)
    described = "PyTorch's exporter (default: dynamo)"
    group.add_argument("--exporter", choices=EXPORTERS, default=EXPORTERS[0], help=described)
    axes = "leave an axis of an input open: x:0=batch (repeatable)"
    group.add_argument("--dynamic", action="append", default=[], metavar="INPUT:AXIS=NAME", help=axes)
    add_presentation(parser)
    add_options(parser.add_argument_group("how to fold and judge"), option_fields())
    parser.set_defaults(run=run, usage=parser.error)


def converted(arguments: argparse.Namespace, progress: Callable[[str, int, int], None]) -> Report:
    """Do what the command says and return the report.

    Raises:
        OptionError: PyTorch is not installed, or an argument does not fit.
        As `folding.from_torch` for the rest.
    """
    options = chosen_options(arguments)
    try:
        import torch  # noqa: F401
    except ModuleNotFoundError:
        raise OptionError(f"from-torch needs PyTorch; {how_to_install('torch')}") from None
    from folding.torch import loading
    from folding.torch.convert import from_torch

    end_cleanly_when_asked()
    module, own = loading.built(arguments.model)
    if arguments.weights is not None:
        loading.load_weights(module, arguments.weights)
    if arguments.eval:
        module.eval()
    return from_torch(
        module,
        loading.inputs_of(options.inputs, arguments.example, own),
        None if arguments.dry_run else arguments.output,
        options,
        dynamic_shapes=loading.dynamic(arguments.dynamic),
        exporter=arguments.exporter,
        progress=progress,
    )
