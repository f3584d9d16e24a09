"""The compared tools, each as the command line that a user would run."""

from __future__ import annotations

import sys
import sysconfig
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.models import MODEL_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Command = Callable[[Sequence[Path], Path], list[str]]  # (the model and its data files, folder of the output)

APIS = Path(__file__).with_name("apis.py")


@dataclass(frozen=True)
class Tool:
    """One tool: its `command`, what a reader should know about it, and the package that must be installed.

    `on_big` says whether it runs on big models by default: other tools take minutes and many GB there.
    """

    command: Command
    about: str
    package: str = ""
    on_big: bool = False

    @property
    def version(self) -> str | None:
        """The installed version: "" if there is no package, None if it is not installed."""
        try:
            return version(self.package) if self.package else ""
        except PackageNotFoundError:
            return None


def _script(name: str) -> str:
    """The path of a command installed beside this interpreter."""
    return str(Path(sysconfig.get_path("scripts")) / name)


def _copy(files: Sequence[Path], folder: Path) -> list[str]:
    return ["cp", *map(str, files), str(folder)]


def bnfold(*options: str) -> Command:
    """`bnfold fold` with options."""

    def command(files: Sequence[Path], folder: Path) -> list[str]:
        return [_script("bnfold"), "fold", str(files[0]), "-o", str(folder / MODEL_NAME), *options]

    return command


def _installed(name: str) -> Command:
    return lambda files, folder: [_script(name), str(files[0]), str(folder / MODEL_NAME)]


def _api(name: str) -> Command:
    # -P keeps the folder of apis.py off the module path: its modules could hide a package
    return lambda files, folder: [sys.executable, "-P", str(APIS), name, str(files[0]), str(folder / MODEL_NAME)]


TOOLS = {
    "cp": Tool(_copy, "`cp` of the model and its external data", on_big=True),
    "load+save": Tool(_api("load_save"), "`onnx.load` and `onnx.save`, nothing in between", "onnx", on_big=True),
    "bnfold": Tool(bnfold("--no-verify"), "`bnfold fold --no-verify`", "bnfold", on_big=True),
    "bnfold+verify": Tool(bnfold(), "`bnfold fold`: runs both models and compares their outputs", "bnfold"),
    "onnxsim": Tool(_installed("onnxsim"), "`onnxsim IN OUT`", "onnxsim"),
    "onnxslim": Tool(_installed("onnxslim"), "`onnxslim IN OUT`", "onnxslim"),
    "onnxscript": Tool(_api("onnxscript"), "`onnxscript.optimizer.optimize`, default rules", "onnxscript"),
    "onnxruntime": Tool(
        _api("onnxruntime"), "the offline optimizer, `ORT_ENABLE_BASIC` (standard ONNX only)", "onnxruntime"
    ),
}
