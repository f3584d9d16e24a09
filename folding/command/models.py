"""Which models a command is about: the files that it names, and those in the folders that it names."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from folding.errors import OptionError
from folding.options import SERVED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from folding.options import Options

SUFFIX = ".onnx"  # of the models that are found in a folder; a file that is named may have any


@dataclass(frozen=True)
class Chosen:
    """One model of a fleet.

    Attributes:
        source: its path.
        name: the path that its result has below the output folder, with slashes.
        target: that path itself; None where nothing is written.
        triton: the name of its folder in a repository, where it gets one; `target` is that folder then.
    """

    source: str
    name: str
    target: str | None = None
    triton: str | None = None

    @property
    def written(self) -> str | None:
        """The path of the folded model."""
        if self.target is None or self.triton is None:
            return self.target
        return os.path.join(self.target, *SERVED)  # noqa: PTH118  as it was given


class Models(argparse.Action):
    """Keep the paths as `models`, and a single one as `model` as well."""

    def __call__(self, _: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, *__: Any) -> None:
        """Set both."""
        namespace.models, namespace.model = values, values[0] if len(values) == 1 else ""


def add_models(parser: argparse.ArgumentParser, what: str) -> None:
    """Add the paths of the models."""
    parser.add_argument("models", metavar="IN", nargs="+", action=Models, help=what)


def add_jobs(parser: argparse.ArgumentParser) -> None:
    """Add the flag that says how many models are worked at together."""
    what = "how many models are worked at together, each in a process of its own (default: 1)"
    parser.add_argument("--jobs", type=_jobs, default=1, metavar="N", help=what)


def _jobs(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of processes; give 1 or more")
    return int(text)


def is_fleet(arguments: argparse.Namespace) -> bool:
    """Whether a command is about several models, or about one as if it were several."""
    several = len(arguments.models) > 1 or Path(arguments.models[0]).is_dir()
    return several or vars(arguments).get("output_dir") is not None


def chosen_models(paths: Sequence[str], output: str | None, options: Options | None = None) -> list[Chosen]:
    """The models at these paths, each with its place below `output`: folders keep their structure.

    With `options.triton` each gets a folder of a repository. What is hidden (its name begins with a dot) is left out,
    and so is the output folder itself.

    Raises:
        OptionError: a folder has none; two would get one name; one would be written over itself or another one.
    """
    found: dict[str, Chosen] = {}
    for source, name in _found(paths, output):
        served = None if options is None or options.triton is None else options.repository_name(name)
        parts = name.split("/") if served is None else [served]
        target = None if output is None else os.path.join(output, *parts)  # noqa: PTH118  as it was given
        known = found.setdefault(source if target is None else target, Chosen(source, name, target, served))
        if not _is_same(known.source, source):
            how = "give the folder that holds both" if served is None else "put {model} into the name, or rename one"
            raise OptionError(f"{known.source} and {source} would both be written to {target}; {how}")
    models = list(found.values())
    _require_new({os.path.realpath(model.source): model for model in models}, models)
    return models


def require_apart(reports: Iterable[Path], models: Sequence[Chosen]) -> None:
    """Refuse a report that would be written over a model.

    Raises:
        OptionError: it names the report.
    """
    taken = {os.path.realpath(path) for model in models for path in (model.source, model.written) if path is not None}
    for report in reports:
        if os.path.realpath(report) in taken:
            raise OptionError(f"report: {report} is a model; give the report a name of its own")


def _found(paths: Sequence[str], output: str | None) -> Iterator[tuple[str, str]]:
    """The path of every model, and its name."""
    for path in paths:
        if not Path(path).is_dir():
            yield path, Path(path).name
            continue
        names = _below(Path(path), output)
        if not names:
            raise OptionError(f"{path}: there is no file *{SUFFIX} in this folder")
        yield from ((os.path.join(path, *name.split("/")), name) for name in names)  # noqa: PTH118


def _below(folder: Path, output: str | None) -> list[str]:
    """The names of the models in a folder and its folders, sorted."""
    left_out = None if output is None else os.path.realpath(output)
    names = []
    for place, folders, files in os.walk(folder):
        folders[:] = [
            one for one in folders if not one.startswith(".") and os.path.realpath(Path(place, one)) != left_out
        ]
        below = Path(place).relative_to(folder)
        names += [(below / file).as_posix() for file in files if file.endswith(SUFFIX) and not file.startswith(".")]
    return sorted(names)


def _is_same(one: str, other: str) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


def _require_new(sources: dict[str, Chosen], models: Iterable[Chosen]) -> None:
    for model in models:
        if model.written is not None and (hit := sources.get(os.path.realpath(model.written))) is not None:
            raise OptionError(f"{model.source} would be written over {hit.source}; choose another folder")
