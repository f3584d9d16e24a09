"""The command ``bnfold``: fold, inspect, verify, explain, and the service's. Imports are inside, so help is instant.

The exit codes are in `endings`. A report that was asked for is written in every case in which there is one.
"""

# ruff: noqa: PLC0415  a command imports what it needs when it runs, or every --help would wait for onnx

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from folding.command.endings import BAD_INPUT, DIFFERENT, DONE, GATED, cause, exit_code, sentence
from folding.command.gates import add_gates, chosen_gates, for_ci, with_size
from folding.command.handover import SERVICE_COMMANDS, run_service
from folding.command.lint import add_lint, require_target, write_lint
from folding.command.models import add_jobs, add_models, is_fleet
from folding.command.options import add_options, chosen_options, spelled_out
from folding.command.parser import Parser
from folding.command.progress import Bars
from folding.command.remote import Service, add_server
from folding.command.terminal import colour, complain, show, width
from folding.command.torch import add_from_torch, converted
from folding.errors import FoldingError, OptionError
from folding.fleet.file import CI_SUFFIXES, REPORT_SUFFIXES, report_path, write_report
from folding.options import option_fields
from folding.process.quit import INTERRUPTED
from folding.process.signals import Terminated, end_cleanly_when_asked
from folding.report.errors import ReportedError
from folding.report.model import json_ready
from folding.report.text import render_text, render_verification
from folding.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from folding.report.model import Report, Verification

VERIFICATION_OPTIONS = ("verify", "inputs", "verify_timeout")
DELIVERY_OPTIONS = ("card", "digest", "triton")

DESCRIPTION = "Fold BatchNormalization and other per-channel affine maps into the weights of an ONNX model."
EPILOG = """\
examples:
  bnfold inspect model.onnx                     what can be folded, and what stands in the way of the rest
  bnfold fold model.onnx -o folded.onnx         fold, compare the results, write
  bnfold fold model.onnx -o folded.onnx --report report.html --keep 'head.*'
  bnfold fold model.onnx -o ready.onnx --target tensorrt-11
  bnfold fold models/ --output-dir folded/ --jobs 4 --report fleet.html
  bnfold verify model.onnx folded.onnx          run both side by side
  bnfold explain zero-padding                   what a code of a report means, with examples
  bnfold fold model.onnx -o folded.onnx --server http://127.0.0.1:8000

exit codes:
  0 done    2 bad input or usage    3 the folded model differs    4 nothing to fold, with --require-change
  5 with --server: the service cannot be reached, or has no room or time now
  6 the runtime of --target refuses a part, or leaves it to the CPU (--allow-fallback writes the file all the same)
  7 a gate was not passed: --max-left, --fail-on, --fail-if-grown (the file is written all the same)
  130 interrupted    `verify` also ends with 2 where it could not compare
  of several models the worst, in this order: 130, 3, 6, 2, 5, 7, 4, 0
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; usage errors leave through `SystemExit` with code 2."""
    # NumPy's BLAS would start a thread per core at import, a tenth of a second of CPU time, and is never called.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a name may hold what the terminal's encoding lacks
    given = spelled_out(sys.argv[1:] if argv is None else argv)
    if given[:1] == ["help"]:
        given = [*given[1:2], "--help"]
    if given and given[0] in SERVICE_COMMANDS:
        return run_service(given)
    arguments = build_parser().parsed(given)
    try:
        _require_apart(arguments)
        code: int = arguments.run(arguments)
    except KeyboardInterrupt as stop:
        word, code = ("terminated", stop.code) if isinstance(stop, Terminated) else ("interrupted", INTERRUPTED)
        return complain(f"{word}; {vars(arguments).get('written') or 'nothing'} was written", code)
    except (FoldingError, OSError) as error:
        named = vars(arguments)
        return complain(sentence(error, named.get("model", ""), named.get("output")), exit_code(error))
    return code


def _require_apart(arguments: argparse.Namespace) -> None:
    """Refuse a report that would be written over a model or another report."""
    given = vars(arguments)
    named = [given[name] for name in ("model", "output") if given.get(name)]
    models = [*named, *(f"{name}.data" for name in named)]
    taken = {os.path.realpath(name) for name in models}
    for path in given.get("report", ()):
        if (place := os.path.realpath(path)) in taken:
            raise OptionError(f"report: {path} is a model or another report; give the report a name of its own")
        taken.add(place)


def build_parser() -> Parser:
    """The whole command line; the options of a fold come from `Options`, so none can be missing here."""
    form = argparse.RawDescriptionHelpFormatter
    parser = Parser("bnfold", description=DESCRIPTION, epilog=EPILOG, formatter_class=form)
    parser.add_argument("-V", "--version", action=_Version, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(title="commands", dest="command", required=True, metavar="COMMAND")
    _add_fold(commands)
    _add_inspect(commands)
    add_from_torch(commands, _add_presentation, _from_torch)
    _add_verify(commands)
    _add_explain(commands)
    commands.add_parser("help", help="show the help of a command", add_help=False)
    for name, what in SERVICE_COMMANDS.items():
        commands.add_parser(name, help=what, add_help=False)
    return parser


class _Version(argparse.Action):
    """Print the version."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(f"bnfold {VERSION}")
        parser.exit()


def _add_fold(commands: argparse._SubParsersAction[Parser]) -> None:
    about = "Fold a model, compare the result with the original, and write it."
    fold = commands.add_parser("fold", help="fold a model and write the result", description=about)
    add_models(fold, "the ONNX model to fold; several, or a folder with models, need --output-dir")
    fold.add_argument("-o", "--output", metavar="OUT", help="where to write the folded model; may be IN itself")
    where = "where to write the folded models, by their names or their paths in the folder; what is done stays done"
    fold.add_argument("--output-dir", metavar="DIR", help=where)
    fold.add_argument("--dry-run", action="store_true", help="report what would be done and write no model")
    add_jobs(fold)
    _add_presentation(fold)
    add_gates(fold)
    add_server(fold)
    add_options(fold.add_argument_group("how to fold and judge"), option_fields())
    fold.set_defaults(run=_fold, usage=fold.error)


def _add_inspect(commands: argparse._SubParsersAction[Parser]) -> None:
    about = "Say what can be folded, and why the rest cannot; nothing is run and no model is written."
    inspect = commands.add_parser("inspect", help="say what can be folded and what cannot", description=about)
    add_models(inspect, "the ONNX model to look at; several, or a folder with models, make a table")
    add_jobs(inspect)
    _add_presentation(inspect)
    add_lint(inspect)
    add_gates(inspect)
    add_server(inspect)
    chosen = (name for name in option_fields() if name not in VERIFICATION_OPTIONS + DELIVERY_OPTIONS)
    add_options(inspect.add_argument_group("how to fold"), chosen)
    inspect.set_defaults(run=_inspect, usage=inspect.error)


def _add_verify(commands: argparse._SubParsersAction[Parser]) -> None:
    about = "Run two models on the same inputs and judge every output against the first model's rounding noise."
    verify = commands.add_parser("verify", help="compare two models by running them", description=about)
    verify.add_argument("before", metavar="A", help="the original model")
    verify.add_argument("after", metavar="B", help="the model to judge")
    verify.add_argument("--json", action="store_true", help="print the verdict as JSON")
    add_options(verify, ("inputs", "verify_timeout", "max_error"))
    verify.set_defaults(run=_verify)


def _add_explain(commands: argparse._SubParsersAction[Parser]) -> None:
    about = "Say what a code of a report means, with an example that stays and one that folds."
    explain = commands.add_parser("explain", help="say what a code of a report means", description=about)
    explain.add_argument("code", metavar="CODE", nargs="?", help="the code, e.g. zero-padding (default: list them all)")
    explain.set_defaults(run=_explain)


def _add_presentation(parser: argparse.ArgumentParser) -> None:
    suffixes = "|".join(REPORT_SUFFIXES)
    parser.add_argument(
        "--report",
        metavar=f"FILE{suffixes}",
        type=_report_path,
        action="append",
        default=[],
        help="also write the report to a file; the suffix says in which form (repeatable)",
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("-q", "--quiet", action="store_true", help="print errors and warnings only")


def _report_path(text: str) -> Path:
    try:
        return report_path(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _fold(arguments: argparse.Namespace) -> int:
    if is_fleet(arguments):
        return int(import_module("folding.command.fleet").fold_fleet(arguments))
    if arguments.output is None and not arguments.dry_run:
        arguments.usage("give -o OUT to write the folded model, or --dry-run to see what would be done")
    options, library = chosen_options(arguments), _library(arguments)
    target = None if arguments.dry_run else arguments.output

    def work() -> Report:
        with Bars(enabled=_shows_bars(arguments)) as bars:  # gone before the report appears
            report: Report = library.fold(arguments.model, target, options, progress=bars)
        return with_size(report, chosen_gates(arguments), library, options)

    return _with_record(work, arguments)


def _from_torch(arguments: argparse.Namespace) -> int:
    if arguments.output is None and not arguments.dry_run:
        arguments.usage("give -o OUT to write the folded model, or --dry-run to see what would be done")

    def work() -> Report:
        with Bars(enabled=_shows_bars(arguments)) as bars:
            return converted(arguments, bars)

    return _with_record(work, arguments)


def _inspect(arguments: argparse.Namespace) -> int:
    require_target(arguments)
    if is_fleet(arguments):
        return int(import_module("folding.command.fleet").inspect_fleet(arguments))
    options, library = chosen_options(arguments), _library(arguments)
    gates = chosen_gates(arguments)
    return _with_record(
        lambda: with_size(library.inspect(arguments.model, options), gates, library, options), arguments
    )


def _library(arguments: argparse.Namespace) -> Any:
    """What folds: this machine, or the service that was named."""
    if arguments.server is not None:
        end_cleanly_when_asked()
        return Service(arguments.server, arguments.key)
    if arguments.key is not None:
        raise OptionError("--key belongs to --server; without it no service is asked")
    library = import_module("folding.api")
    end_cleanly_when_asked()  # not before: there is nothing to clean up while modules are imported
    return library


def _with_record(work: Callable[[], Report], arguments: argparse.Namespace) -> int:
    """Do the work and publish its report, also where the work ended in an error that carries one."""
    try:
        report = work()
    except ReportedError as error:
        _publish(error.report, arguments, error)
        raise
    arguments.written = report.target
    return _publish(report, arguments)


def _publish(report: Report, arguments: argparse.Namespace, error: Exception | None = None) -> int:
    code, report = DONE, report.with_flags()
    broken = () if error else chosen_gates(arguments).broken(report)
    if vars(arguments).get("lint") is not None:
        write_lint(report, arguments)
    for path in arguments.report:
        try:
            write_report(for_ci(report, broken, error) if path.name.endswith(CI_SUFFIXES) else report, path)
        except OSError as failed:
            code = complain(f"the report was not written: {path}: {cause(failed)}", BAD_INPUT)
    wanted = report.changed and report.target is not None and vars(arguments).get("verify", True)
    unproven = wanted and report.verification.status == "not verified"
    if arguments.json:
        show(report.to_json())
    elif not arguments.quiet:
        show(render_text(report, width=width(), colour=colour()))
    if unproven and (arguments.json or arguments.quiet):
        complain(f"warning: {arguments.model}: not verified: {report.verification.reason}", DONE)
    for gate in broken:
        complain(f"{arguments.model}: {gate.sentence}", GATED)
    return code or (GATED if broken else DONE)


def _verify(arguments: argparse.Namespace) -> int:
    options = chosen_options(arguments)
    from folding.verification.parent import verify

    end_cleanly_when_asked()
    with Bars(enabled=sys.stderr.isatty() and not arguments.json) as bars:
        verification = verify(
            arguments.before,
            arguments.after,
            inputs=options.inputs,
            timeout=options.verify_timeout,
            max_error=options.max_error,
            progress=partial(bars, "verifying"),
        ).with_flags()
    if arguments.json:
        show(json.dumps(json_ready(asdict(verification)), indent=2) + "\n")
    else:
        show(render_verification(verification, width=width(), colour=colour()))
    return _verdict_code(verification)


def _explain(arguments: argparse.Namespace) -> int:
    from folding.command.explain import explained, listed

    show(listed() if arguments.code is None else explained(arguments.code))
    return DONE


def _verdict_code(verification: Verification) -> int:
    """A comparison that could not be made is neither proof nor failure: it is the input that did not allow it."""
    return {"verified": DONE, "failed": DIFFERENT, "not verified": BAD_INPUT}[verification.status]


def _shows_bars(arguments: argparse.Namespace) -> bool:
    return sys.stderr.isatty() and not arguments.quiet and not arguments.json
