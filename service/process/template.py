"""Template: the process that the process of every fold is forked from: `python -m service.process.template MODULE`.

To start an interpreter and import onnx and ONNX Runtime takes longer than most folds. The template does it once, and
each fold has a copy: its pages are those of the template until one of them writes. It has one thread, no variables of
the server, and no other files than the socket on its standard input. It never sees a model, and a copy is used once, so
nothing of one fold is in another.

For each message on the socket, a JSON object and files (see `service.process.forkserver`), it forks a keeper, which
enters the namespaces that were made for the fold, if any, forks the process of the fold, waits for its end, and writes
its exit status. It stays outside of the fold's process namespace, so no fold can see it.

`MODULE` has `load()`, which imports what folds need, and `main(folder, walls)`, which is one fold.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import signal
import socket
import sys
import tempfile
import traceback
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from folding.process.bounds import die_with
from service.process.walls import drop_capabilities

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

MESSAGE_BYTES = 1 << 16
FILES = 5  # of a message: standard input, output and error, where the status goes, and the namespaces
NAMESPACES = 0x7E020000  # CLONE_NEW... of linux/sched.h: user, mount, process, network, IPC, host name, cgroup
FIRST_TO_GO = b"1000"  # where the machine runs out of memory; nobody may undo it in a sandbox


def main(module: ModuleType, server: int) -> None:
    """Fork until the server ends."""
    die_with(server)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal, for the server
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the status of a keeper is of no interest
    calls = socket.socket(fileno=os.dup(0))
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123  files are the point here
        os.dup2(nothing.fileno(), 0)
    module.load()
    gc.collect()
    gc.freeze()  # or the first collection of a fold would write to all pages
    while True:
        message, files, _, _ = socket.recv_fds(calls, MESSAGE_BYTES, FILES)
        if not message:
            return
        template, pid = os.getpid(), os.fork()
        if pid == 0:
            calls.close()
            _leave_with(partial(_keep, module, template, json.loads(message), files))
        for file in files:
            os.close(file)
        calls.send(str(pid).encode())


def _leave_with(work: Callable[[], object]) -> NoReturn:
    """Do the work of a process that was forked, and exit as an interpreter would after it."""
    status = 1
    try:
        work()
        status = 0
    except BaseException:  # noqa: BLE001  nothing of the process that it was forked from may run
        with suppress(BaseException):
            traceback.print_exc()
    finally:
        with suppress(BaseException):
            sys.stdout.flush()
        os._exit(status)


def _keep(module: ModuleType, template: int, request: dict[str, Any], files: list[int]) -> None:
    """Be the keeper of one fold."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with suppress(OSError), open("/proc/self/oom_score_adj", "wb", buffering=0) as place:  # noqa: PTH123
        place.write(FIRST_TO_GO)
    status, *namespaces = files[3:]
    for number, file in enumerate(files[:3]):
        os.dup2(file, number)
        os.close(file)
    if namespaces:
        enter(namespaces[0])
    die_with(template)  # only now: who gets other rights loses it
    keeper, worker = os.getpid(), os.fork()
    if worker == 0:
        os.close(status)
        _leave_with(partial(_fold, module, 0 if namespaces else keeper, request))
    with open(os.devnull, "r+b", buffering=0) as nothing:  # noqa: PTH123  the pipes end with the fold
        for number in range(3):
            os.dup2(nothing.fileno(), number)
    code = os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1])
    os.write(status, str(code).encode())


def enter(process: int) -> None:
    """Enter all namespaces of a process, given as a file; what is forked next is in its process namespace, too."""
    library = ctypes.CDLL(None, use_errno=True)
    if library.setns(process, NAMESPACES) != 0:
        raise OSError(ctypes.get_errno(), "the namespaces of the fold cannot be entered")
    os.close(process)
    drop_capabilities()


def _fold(module: ModuleType, keeper: int, request: dict[str, Any]) -> None:
    """Be the process of one fold."""
    die_with(keeper)
    before = os.environ["PYTHONPATH"].split(os.pathsep)
    os.environ.clear()
    os.environ.update(request["environment"])
    if now := os.environ.get("PYTHONPATH"):
        sys.path[:] = [now, *(path for path in sys.path if path not in before)]
    tempfile.tempdir = None
    place = Path(request["place"])
    os.chdir(place)
    module.main(place, request["walls"])


if __name__ == "__main__":
    main(importlib.import_module(sys.argv[1]), int(sys.argv[2]))
