"""A process of a fold that does what hostile models make of some: it hangs, eats memory, crashes, floods, lies.

A model that begins with one of the names in `FAULTS`, or whose own name begins with `ENDLESS` or `WRONG`, meets its
fault; any other is folded as always. Faults happen where models are read: after the process is confined.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import folding.api
from folding.report.errors import VerificationError
from service.process import worker
from tests.support.reports import FAILED
from tests.support.waiting import FOREVER, until

HANGS = "hangs"  # the file by which a process says that it does
honest, inspected = folding.api.fold, folding.api.inspect


def hang() -> None:
    """Say that it begins, and never end."""
    Path("../out", HANGS).touch()
    time.sleep(FOREVER)


def burn() -> None:
    while True:
        pass


def bomb() -> None:
    held = []
    while True:
        held.append(bytearray(1 << 26))


def abort() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def leave() -> None:
    os._exit(7)


def fill() -> None:
    with Path("../out/large").open("wb") as file:
        while True:
            file.write(bytes(1 << 20))


def flood() -> None:
    os.write(2, b"x" * (1 << 22) + b"what(): std::bad_alloc")
    os.kill(os.getpid(), signal.SIGABRT)


def orphan() -> None:
    """Leave a process behind that has a session of its own, and write down which."""
    left = subprocess.Popen(["sleep", str(FOREVER)])
    Path("../out/left").write_text(str(left.pid))
    hang()


def lie() -> None:
    Path("../out/answer.json").write_text('{"result": "../in/secret"}')
    os._exit(0)


def link() -> None:
    """Answer with somebody else's file."""
    Path("../out/result").symlink_to("/etc/passwd")
    Path("../out/answer.json").write_text('{"result": "result", "media": "application/octet-stream"}')
    os._exit(0)


def dir_() -> None:
    """Answer with a folder."""
    Path("../out/answer.json").mkdir()
    os._exit(0)


def media() -> None:
    """Answer with a header of its own."""
    Path("../out/answer.json").write_text('{"result": "result", "media": "text/html\\r\\nX: y"}')
    os._exit(0)


def nest() -> None:
    """Leave folders deeper than Python follows."""
    os.chdir("../tmp")
    for _ in range(3000):
        Path("d").mkdir()
        os.chdir("d")
    os._exit(7)


def escape() -> None:
    """End, and leave a process behind that has a session of its own and holds the pipes; write down which."""
    left = subprocess.Popen(["sleep", str(FOREVER)], start_new_session=True)
    Path("../out/left").write_text(str(left.pid))
    os._exit(7)


def exec_() -> None:
    """Run what comes after the name, as a model would that has taken over its process; the result is what it finds."""
    names: dict[str, Any] = {"found": {}}
    exec(next(Path().iterdir()).read_bytes().removeprefix(b"EXEC"), names)  # noqa: S102  it attacks in our name
    Path("../out/result").write_text(json.dumps(names["found"]))
    Path("../out/answer.json").write_text('{"result": "result", "media": "application/octet-stream"}')
    os._exit(0)


WAYS = (hang, burn, bomb, abort, leave, fill, flood, orphan, lie, link, dir_, media, nest, escape, exec_)
FAULTS = {way.__name__.upper().strip("_").encode(): way for way in WAYS}
ENDLESS, WRONG = "endless", "wrong"  # how the name of a proper model begins that never ends, or comes out wrong
SLOW = b"SLOW"  # seconds, a line, then a model: folded after so long
HELD = b"HELD"  # a path, a line, then a model: folded when there is a file


def fold(source: str, *args: Any, **kwargs: Any) -> Any:
    data = Path(source).read_bytes()
    if source.startswith(ENDLESS):
        hang()
    if source.startswith(WRONG):
        report = honest(source, *args, **kwargs)
        raise VerificationError(f"{source}: the folded model differs", replace(report, verification=FAILED))
    for name, fault in FAULTS.items():
        if data.startswith(name):
            fault()
    wait_as_asked(source, data)
    return honest(source, *args, **kwargs)


def wait_as_asked(source: str, data: bytes) -> None:
    """What a model says in a line before it, which is not there afterwards."""
    if not data.startswith((SLOW, HELD)):
        return
    first, model = data.split(b"\n", 1)
    if data.startswith(SLOW):
        time.sleep(float(first.removeprefix(SLOW)))
    else:
        until(Path(first.removeprefix(HELD).decode()).exists, FOREVER)
    Path(f"../tmp/{source}").write_bytes(model)
    os.chdir("../tmp")


def inspect(source: str, *args: Any, **kwargs: Any) -> Any:
    if Path(source).read_bytes() == b"LINK":
        for name in ("report.json", "report.html"):
            Path("../out", name).symlink_to("/etc/passwd")
        Path("../out/answer.json").write_text('{"report": true}')
        os._exit(0)
    return inspected(source, *args, **kwargs)


def load() -> None:
    worker.load()
    folding.api.fold, folding.api.inspect = fold, inspect


main = worker.main
