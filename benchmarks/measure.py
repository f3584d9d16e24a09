"""One measurement: a fresh process of one tool on one model, under the same conditions every time."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped, unused-ignore]

from benchmarks import fusions
from benchmarks.models import MODEL_NAME
from folding import onnxfile
from folding.editing.functions import count
from folding.errors import FoldingError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.tools import Tool

LAUNCHER = Path(__file__).with_name("launch.py")
KIB = 1024
WARMING_BLOCK = 1 << 22  # 4 MiB: large enough to read a file as fast as it is copied
MESSAGE_LENGTH = 160  # characters of a tool's error message in the table, at most
PARSED_WHOLE = 1 << 29  # 512 MiB: larger files are counted by bnfold's parser, which skips weights


class _Figures(TypedDict):
    """What `launch.py` prints."""

    wall: float
    cpu: float
    peak_kib: int
    code: int
    expired: bool


@dataclass(frozen=True)
class Run:
    """What one process used; `failure` is a sentence that says why it made no output, "" if it did."""

    model: str
    tool: str
    number: int  # of the round, from 1
    wall: float = 0.0  # seconds
    cpu: float = 0.0  # seconds, user and system, child processes included
    peak: int = 0  # peak resident bytes, of the largest process
    normalizations: int | None = None  # BatchNormalizations left in the output
    nbytes: int = 0  # of the output, external data included
    operators: int | None = (
        None  # of ONNX Runtime's own optimized graph of the output, see `fusions`; None if too large
    )
    failure: str = ""


@dataclass(frozen=True)
class Bench:
    """The runs of one model: the model's files, a folder for outputs, and a limit in seconds."""

    model: str
    files: Sequence[Path]
    folder: Path
    timeout: float

    def run(self, name: str, tool: Tool, number: int) -> Run:
        """Run `tool` once. Its output is counted and deleted, so that it does not slow down the next run."""
        if tool.version is None:
            return Run(self.model, name, number, failure=f"{tool.package} is not installed")
        output = self.folder / "output"
        shutil.rmtree(output, ignore_errors=True)
        output.mkdir()
        try:
            self._settle()
            figures = self._launch(tool.command(self.files, output))
            failure = self._failure(figures)
            run = Run(
                self.model, name, number, figures["wall"], figures["cpu"], figures["peak_kib"] * KIB, failure=failure
            )
            return run if failure else _counted(run, output)
        except (DecodeError, FoldingError, OSError) as error:
            return Run(self.model, name, number, failure=f"no usable output: {self._presentable(str(error))}")
        finally:
            shutil.rmtree(output, ignore_errors=True)
            self._log.unlink(missing_ok=True)

    def _settle(self) -> None:
        """Write dirty pages of earlier runs to the disk, then read the source into the page cache, for every run."""
        os.sync()
        for file in self.files:
            with file.open("rb", buffering=0) as source:
                while source.read(WARMING_BLOCK):
                    pass

    def _launch(self, command: list[str]) -> _Figures:
        launch = [sys.executable, "-I", "-S", str(LAUNCHER), str(self._log), str(self.timeout), *command]
        done = subprocess.run(launch, capture_output=True, text=True, check=False, cwd=self.folder)
        if done.returncode:
            raise OSError(f"{command[0]} could not be started: {done.stderr.strip().splitlines()[-1]}")
        figures: _Figures = json.loads(done.stdout)
        return figures

    @property
    def _log(self) -> Path:
        return self.folder / "log.txt"

    def _failure(self, figures: _Figures) -> str:
        if figures["expired"]:
            return f"stopped after {self.timeout:g} s"
        if figures["code"] < 0:
            return f"ended by signal {-figures['code']}"
        if figures["code"]:
            return f"exit code {figures['code']}: {self._last_line()}"
        return ""

    def _last_line(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines() or ["no message"]
        return self._presentable(lines[-1])

    def _presentable(self, text: str) -> str:
        """A message without the folders of this machine, short enough for a table."""
        for folder in (str(self.folder), sys.prefix, str(Path.home())):
            text = text.replace(folder, "...")
        return text[:MESSAGE_LENGTH]


def _counted(run: Run, output: Path) -> Run:
    nbytes = sum(file.stat().st_size for file in output.iterdir())
    run = replace(run, normalizations=normalizations(output / MODEL_NAME), nbytes=nbytes)
    small = nbytes <= PARSED_WHOLE
    return replace(run, operators=fusions.total(fusions.optimized(output / MODEL_NAME))) if small else run


def normalizations(path: Path) -> int:
    """The number of standard BatchNormalization nodes in a model, with those in subgraphs and functions."""
    if path.stat().st_size <= PARSED_WHOLE:
        return count(onnx.load(path, load_external_data=False)).normalizations
    with onnxfile.read(path) as file:
        return count(file.model).normalizations
