"""The command as a process: what a signal, a collision of names or a model in training mode makes of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest

from tests.support import ROOT
from tests.support.models import Model
from tests.support.processes import listening
from tests.support.rows.row import out, start
from tests.support.waiting import FOREVER, PATIENCE, until

if TYPE_CHECKING:
    from pathlib import Path

TRIPS = 10**12  # of a Loop: who verifies the model is interrupted before it is done
COMMAND = [sys.executable, "-m", "folding"]


def body() -> onnx.GraphProto:
    """Of a Loop: nothing happens in it."""
    values = [
        onnx.helper.make_tensor_value_info(n, k, None) for n, k in (("i", 7), ("c", 9), ("s", 1), ("d", 9), ("t", 1))
    ]
    nodes = [onnx.helper.make_node("Identity", [before], [after]) for before, after in ("cd", "st")]
    return onnx.helper.make_graph(nodes, "body", values[:3], values[3:])


@pytest.fixture
def source(tmp_path: Path) -> Path:
    m = Model(dtype=np.float32)
    x = m.conv(start(m, 1, 64, 8, 8), 512)
    for _ in range(3):
        x = out(m, m.bn(m.conv(x, 512, pads=[1] * 4), name=f"bn{len(m.nodes)}"))
    out(m, m.op("Loop", m.constant(np.int64(TRIPS)), m.constant(np.True_), x, like=x, body=body()))
    onnx.save(m.build(), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 129), ("SIGINT", 130)])
def test_a_signal_leaves_nothing_behind(source, name, code):
    folder = source.parent
    command = listening("-m", "folding", "fold", source, "-o", folder / "folded.onnx", "--verify-timeout", FOREVER)
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    until(lambda: len(list(folder.iterdir())) > 1 or process.poll() is not None)  # the result is being staged
    process.send_signal(getattr(signal, name))
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == code, errors
    assert errors.decode().strip().splitlines() == [
        f"bnfold: {'interrupted' if name == 'SIGINT' else 'terminated'}; nothing was written"
    ]
    assert [path.name for path in folder.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize("module", ["textwrap", "numpy"])
@pytest.mark.parametrize("catches", [True, False])
def test_an_interrupt_while_modules_are_imported_ends_quietly(source, tmp_path, module, catches):
    """One of its own modules and one of the library's; native code may catch what an interrupt raises."""
    wait = "import time\nprint('importing', flush=True)\ntime.sleep(1000)\n"
    caught = f"try:\n    exec({wait!r})\nexcept BaseException:\n    raise ImportError from None\n"
    (tmp_path / f"{module}.py").write_text(caught if catches else wait)
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    command = listening("-m", "folding", "fold", source, "-o", tmp_path / "folded.onnx")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        assert process.stdout.readline() == b"importing\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (130, b"bnfold: interrupted; nothing was written\n")


COLLISIONS = [
    ("model.json", "out.onnx", ["model.json"]),
    ("model.json", "out.json", ["out.json"]),
    ("model.json", "out.onnx", ["report.json", "sub/../report.json"]),
]


@pytest.mark.parametrize(("model", "output", "reports"), COLLISIONS)
def test_a_report_never_replaces_a_model_or_another_report(source, model, output, reports):
    folder = source.parent
    (folder / "sub").mkdir()
    before = source.rename(folder / model).read_bytes()
    arguments = [part for report in reports for part in ("--report", folder / report)]
    command = [*COMMAND, "fold", folder / model, "-o", folder / output, *arguments]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 2
    assert b"a name of its own" in done.stderr
    assert (folder / model).read_bytes() == before
    assert sorted(path.name for path in folder.iterdir()) == [model, "sub"]
