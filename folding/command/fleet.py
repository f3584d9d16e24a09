"""Several models: ``bnfold fold models/ --output-dir out/`` and ``bnfold inspect *.onnx``."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from folding.command.endings import BAD_INPUT, DONE, GATED, cause, worst
from folding.command.gates import chosen_gates
from folding.command.models import chosen_models, require_apart
from folding.command.options import chosen_options
from folding.command.pool import Pool
from folding.command.progress import Bars
from folding.command.record import alone, place_of, records_of, sweep
from folding.command.remote import Service
from folding.command.terminal import complain, show, width
from folding.errors import OptionError
from folding.fleet.file import write_report
from folding.fleet.model import Entry, FleetReport
from folding.fleet.text import render_text
from folding.process.quit import INTERRUPTED
from folding.process.signals import Terminated, end_cleanly_when_asked
from folding.report.model import Report
from folding.version import VERSION

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from folding.command.models import Chosen
    from folding.options import Options

    Json = dict[str, Any]


def fold_fleet(arguments: argparse.Namespace) -> int:
    """Fold every model into the output folder, or plan that; return the exit code."""
    if arguments.output is not None:
        arguments.usage("-o names one file; give --output-dir DIR for several models")
    if arguments.output_dir is None and not arguments.dry_run:
        arguments.usage("give --output-dir DIR to write the folded models, or --dry-run to see what would be done")
    output = None if arguments.dry_run else arguments.output_dir
    options = chosen_options(arguments)
    models = chosen_models(arguments.models, output, options)
    if output is None:
        return _run(arguments, models, None)
    if Path(output).exists() and not Path(output).is_dir():
        raise OptionError(f"{output} is a file; give the name of a folder")
    records = records_of(output, options)
    with alone(records, output):
        sweep(records, output, [model.target for model in models if model.target is not None])
        return _run(arguments, models, output)


def inspect_fleet(arguments: argparse.Namespace) -> int:
    """Inspect every model; return the exit code."""
    if arguments.lint is not None:
        arguments.usage("--lint writes about one model; inspect them one by one")
    return _run(arguments, chosen_models(arguments.models, None), None)


def task_of(model: Chosen, arguments: argparse.Namespace, options: Options, output: str | None) -> Json:
    """What a process is to do with a model, as plain data."""
    return {
        "source": model.source,
        "target": model.target if model.triton is None else output,
        "written": model.written,
        "records": None if output is None else records_of(output, options),
        "record": None if output is None else place_of(records_of(output, options), model.name),
        "inspect": arguments.command == "inspect",
        "sized": arguments.fail_if_grown,
        "options": asdict(options if model.triton is None else replace(options, triton=model.triton)),
        "version": VERSION,
        "server": arguments.server,
        "key": arguments.key,
    }


def _run(arguments: argparse.Namespace, models: Sequence[Chosen], output: str | None) -> int:
    started, options = time.perf_counter(), chosen_options(arguments)
    require_apart(arguments.report, models)
    _require_service(arguments)
    end_cleanly_when_asked()
    tasks = [task_of(model, arguments, options, output) for model in models]
    answers: dict[int, Json] = {}
    stopped = None
    try:
        _work(tasks, answers, arguments)
    except KeyboardInterrupt as stop:
        stopped = stop.code if isinstance(stop, Terminated) else INTERRUPTED
    arguments.written = output if answers else None
    missing = {"code": stopped, "error": "interrupted before it was done"}
    gates = chosen_gates(arguments)
    entries = [_entry(model, answers.get(number, missing)) for number, model in enumerate(models)]
    entries = [entry.judged(gates, GATED) for entry in entries]
    code = worst(entry.code for entry in entries)
    code = _publish(FleetReport(VERSION, code, tuple(entries), time.perf_counter() - started), arguments)
    if stopped is None:
        return code
    again = "the same command goes on with the others" if output is not None else "nothing was written"
    return complain(f"interrupted; {len(answers):,} of {len(models):,} models are done, {again}", stopped)


def _work(tasks: Sequence[Json], answers: dict[int, Json], arguments: argparse.Namespace) -> None:
    """Let the pool do the tasks, and keep every answer at once, whatever ends this."""
    is_shown = sys.stderr.isatty() and not arguments.quiet and not arguments.json
    with Bars(enabled=is_shown) as bars, Pool(tasks, arguments.jobs) as pool:
        bars("models", 0, len(tasks))
        for number, answer in pool.answers():
            answers[number] = answer
            bars("models", len(answers), len(tasks))


def _entry(model: Chosen, answer: Json) -> Entry:
    report = answer.get("report")
    if report is not None:
        report |= {
            "source": model.source,
            "target": report["target"] and model.written,
        }  # a record may have older paths
    return Entry(
        model.source,
        model.written,
        answer.get("code", DONE),
        answer.get("error", ""),
        is_done_before=answer.get("done_before", False),
        sha256=answer.get("sha256"),
        sha256_after=answer.get("sha256_after"),
        report=None if report is None else Report.from_dict(report).with_flags(),
    )


def _publish(fleet: FleetReport, arguments: argparse.Namespace) -> int:
    """Show the report and write it where that was asked for; return the exit code."""
    codes = [fleet.code]
    for path in arguments.report:
        try:
            write_report(fleet, path)
        except OSError as error:
            codes.append(complain(f"the report was not written: {path}: {cause(error)}", BAD_INPUT))
    if arguments.json:
        show(fleet.to_json())
    elif not arguments.quiet:
        show(render_text(fleet, max(width(), os.get_terminal_size().columns if sys.stdout.isatty() else 0)))
    for entry in fleet.entries:
        _complain(entry, arguments)
    return worst(codes)


def _complain(entry: Entry, arguments: argparse.Namespace) -> None:
    """Say on stderr what is wrong with a model; what an interruption left is said once, for all."""
    if entry.error and entry.code != INTERRUPTED:
        complain(entry.error if entry.source in entry.error else f"{entry.source}: {entry.error}", entry.code)
    for broken in entry.gates:
        complain(f"{entry.source}: {broken.sentence}", entry.code)
    if (reason := _unproven(entry)) and (arguments.json or arguments.quiet) and vars(arguments).get("verify", True):
        complain(f"warning: {entry.source}: not verified: {reason}", DONE)


def _unproven(entry: Entry) -> str:
    """Why a file that was written could not be verified; "" where it was, or none was written."""
    report = entry.report
    if report is None or entry.error or not report.changed or report.target is None:
        return ""
    return report.verification.reason if report.verification.status == "not verified" else ""


def _require_service(arguments: argparse.Namespace) -> None:
    """Refuse an address or a key that cannot be one before any model is sent."""
    if arguments.server is not None:
        Service(arguments.server, arguments.key)
    elif arguments.key is not None:
        raise OptionError("--key belongs to --server; without it no service is asked")
