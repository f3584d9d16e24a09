"""The process that works at the models of a fleet, one after the other: a line of JSON in, a line of JSON out.

A model that kills it harms no other one: the pool says so, and starts the next process.
"""

# ruff: noqa: PLC0415  each process imports what its first model needs

from __future__ import annotations

import json
import os
import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from folding.command import record
from folding.command.endings import exit_code, sentence
from folding.command.gates import with_size
from folding.errors import FoldingError
from folding.options import Options
from folding.process.bounds import die_with
from folding.process.signals import Terminated, end_cleanly_when_asked
from folding.report.errors import ReportedError
from folding.report.gates import Gates

if TYPE_CHECKING:
    from folding.command.remote import Service
    from folding.report.model import Report

    Json = dict[str, Any]

STDOUT, STDERR = 1, 2


def main() -> int:
    """Answer until there is no more to do; the argument is the process that started this one."""
    end_cleanly_when_asked()
    die_with(int(sys.argv[1]))
    channel = os.fdopen(os.dup(STDOUT), "w", encoding="utf-8")
    os.dup2(STDERR, STDOUT)  # what a library prints is no answer
    try:
        for line in sys.stdin:
            channel.write(json.dumps(answered(json.loads(line))) + "\n")
            channel.flush()
    except Terminated as stop:
        return stop.code
    return 0


def answered(task: Json) -> Json:
    """Do a task of `fleet.task_of`; return its outcome as plain data."""
    source, target = task["source"], task["written"]
    try:
        return _done(task)
    except ReportedError as error:
        answer = {"code": exit_code(error), "error": sentence(error, source, target)}
        return answer | {"report": error.report.as_dict()}
    except (FoldingError, OSError) as error:
        return {"code": exit_code(error), "error": sentence(error, source, target)}


def _done(task: Json) -> Json:
    options = Options(**task["options"])
    if task["record"] is not None:
        return _recorded(task, options)
    library = _library(task)
    source = task["source"]
    report = library.inspect(source, options) if task["inspect"] else library.fold(source, None, options)
    gates = Gates(fail_if_grown=task["sized"])
    return {"report": with_size(report, gates, library, options).as_dict()}


def _recorded(task: Json, options: Options) -> Json:
    """Fold the model, unless that is done; then write down that it is."""
    source, target, written, place = task["source"], task["target"], task["written"], task["record"]
    content = record.Content(source)
    known = record.address(content.sha256, options, task["version"])
    if (before := record.recorded(place, known, written, options)) is not None:
        return before | {"done_before": True}
    (Path(target).parent if options.triton is None else Path(target)).mkdir(parents=True, exist_ok=True)
    with record.data_alone(task["records"], source, content):
        report: Report = _library(task).fold(source, target, options)
    plain, after = report.as_dict(), record.delivered(written, options)
    if not content.has_changed():  # else the result may be of either; the next run folds it again
        record.write_record(place, known, content.sha256, after, plain)
    return {"report": plain, "sha256": content.sha256, "sha256_after": after}


def _library(task: Json) -> Any:
    """What folds: this machine, or the service that was named."""
    if task["server"] is None:
        return import_module("folding.api")
    return _service(task["server"], task["key"])


@cache
def _service(server: str, key: str | None) -> Service:
    from folding.command.remote import Service

    return Service(server, key, stays=True)


if __name__ == "__main__":
    sys.exit(main())
