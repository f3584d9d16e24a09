"""What to type next: the command or the few lines of Python that load a ready file into the runtime it is for.

TensorRT plans for a range of lengths. What stays open gets one: the first axis 1 to 32 with 8 as the best (trtexec's
own examples do so), any other axis as `RANGES` says; a name that several axes have gets one range. Since TensorRT 11
every network is strongly typed; in 10 it is so on request (TensorRT, "Migrating from 10.x to 11.x").
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from folding.algebra.shape import Dimension, Shape

    Input = tuple[str, str, Shape]  # name, ONNX name of the element type, dimensions

PLAIN = re.compile(r"[\w./\[\]-]+")  # names that trtexec takes without quotes


@dataclass(frozen=True)
class Range:
    """The lengths that a plan is made for: the shortest, the best, the longest."""

    shortest: int
    best: int
    longest: int

    def written(self) -> str:
        """As a comment has it."""
        return f"{self.shortest}, {self.best}, {self.longest}"


FIRST_AXIS = Range(1, 8, 32)
IMAGE = Range(224, 640, 1280)
IMAGE_RANK, FIRST_OF_IMAGE = 4, 2  # samples, channels, height, width
# Of axes behind the first, by what their names say; by any other name, an image of rank 4 has heights and widths, and
# what is left is taken for a sequence
RANGES = (
    (re.compile(r"height|width|^[hw]$", re.IGNORECASE), IMAGE),
    (re.compile(r"channel|^c$", re.IGNORECASE), Range(1, 3, 4)),
)
SEQUENCE = Range(1, 128, 512)


def recipe(target: str, path: str, inputs: Sequence[Input]) -> tuple[str, ...]:
    """The lines for a target: `trtexec` and Python for TensorRT, Python or JavaScript for the others.

    `path` is that of the ready file, `inputs` are its inputs as they are declared in it. Unknown targets get the lines
    of ONNX Runtime on a CPU.
    """
    family = next((name for name in FAMILIES if target.startswith(name)), "onnxruntime")
    return FAMILIES[family](target, path, inputs)


def _ranges(inputs: Sequence[Input]) -> dict[tuple[str, int], Range]:
    """A range for each open axis, by input and axis; the same for axes of one name."""
    named: dict[str, Range] = {}
    found = {}
    for name, _, dims in inputs:
        for axis, dim in enumerate(dims):
            if not isinstance(dim, int):
                chosen = _range(name, axis, dim, len(dims))
                found[name, axis] = named.setdefault(dim, chosen) if dim is not None else chosen
    return found


def _range(name: str, axis: int, dim: Dimension, rank: int) -> Range:
    label = str(dim) if dim is not None else f"{name}_{axis}"
    if axis == 0:
        return FIRST_AXIS
    usual = IMAGE if rank == IMAGE_RANK and axis >= FIRST_OF_IMAGE else SEQUENCE
    return next((lengths for pattern, lengths in RANGES if pattern.search(label)), usual)


def _lengths(item: Input, ranges: Mapping[tuple[str, int], Range], which: str) -> list[int]:
    name, _, dims = item
    return [dim if isinstance(dim, int) else getattr(ranges[name, axis], which) for axis, dim in enumerate(dims)]


def _note(inputs: Sequence[Input], ranges: Mapping[tuple[str, int], Range]) -> list[str]:
    """What ranges were chosen for, as comments."""
    chosen: dict[str, Range] = {}
    for name, _, dims in inputs:
        for axis, dim in enumerate(dims):
            if (name, axis) in ranges:
                chosen.setdefault(dim if isinstance(dim, str) else f"axis {axis} of {name}", ranges[name, axis])
    return [f"# {what}: {lengths.written()} (min, opt, max); change them to yours" for what, lengths in chosen.items()]


# --- TensorRT ------------------------------------------------------------------------------------------------


def _tensorrt(target: str, path: str, inputs: Sequence[Input]) -> tuple[str, ...]:
    ranges = _ranges(inputs)
    open_inputs = _open(inputs, ranges)
    strongly = target == "tensorrt-10"
    words = [
        "trtexec",
        f"--onnx={path}",
        f"--saveEngine={_stem(path)}.plan",
        *(["--stronglyTyped"] if strongly else []),
    ]
    shapes = profile(inputs, _quoted)
    words += [f"--{which}Shapes={shapes[which]}" for which in shapes]
    return (
        *_note(inputs, ranges),
        shlex.join(words),
        "",
        *_tensorrt_python(path, open_inputs, ranges, strongly=strongly),
    )


def _open(inputs: Sequence[Input], ranges: Mapping[tuple[str, int], Range]) -> list[Input]:
    return [item for item in inputs if any((item[0], axis) in ranges for axis in range(len(item[2])))]


def profile(inputs: Sequence[Input], name: Callable[[str], str] = str) -> dict[str, str]:
    """The shortest ("min"), best ("opt") and longest ("max") lengths of all inputs with open axes: ``x:1x3,y:1x7``.

    Empty if no input has an open axis. `name` is how a name is written.
    """
    ranges = _ranges(inputs)
    return {
        which: ",".join(f"{name(item[0])}:{'x'.join(map(str, _lengths(item, ranges, lengths)))}" for item in given)
        for which, lengths in (("min", "shortest"), ("opt", "best"), ("max", "longest"))
        if (given := _open(inputs, ranges))
    }


def _quoted(name: str) -> str:
    """An input's name as trtexec reads it: quoted if it has a colon, a comma or the like."""
    return name if PLAIN.fullmatch(name) else f"'{name}'"


def _stem(path: str) -> str:
    return path.removesuffix(".onnx")


def _tensorrt_python(
    path: str, inputs: Sequence[Input], ranges: Mapping[tuple[str, int], Range], *, strongly: bool
) -> list[str]:
    flags = "1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)" if strongly else "0"
    lines = [
        "import tensorrt as trt",
        "logger = trt.Logger()",
        "builder = trt.Builder(logger)",
        f"network = builder.create_network({flags})",
        "parser = trt.OnnxParser(network, logger)",
        f"assert parser.parse_from_file({path!r}), parser.get_error(0)",
        "config = builder.create_builder_config()",
    ]
    if inputs:
        lines.append("profile = builder.create_optimization_profile()")
        for item in inputs:
            shapes = ", ".join(str(tuple(_lengths(item, ranges, which))) for which in ("shortest", "best", "longest"))
            lines.append(f"profile.set_shape({item[0]!r}, {shapes})")
        lines.append("config.add_optimization_profile(profile)")
    return [*lines, f"open({_stem(path) + '.plan'!r}, 'wb').write(builder.build_serialized_network(network, config))"]


# --- ONNX Runtime, OpenVINO ----------------------------------------------------------------------------------

# By target: the execution providers in order; what the first one does not take falls to the next.
PROVIDERS = {
    "onnxruntime-cpu": ["CPUExecutionProvider"],
    "onnxruntime-cuda": ["CUDAExecutionProvider", "CPUExecutionProvider"],
    "directml": ["DmlExecutionProvider", "CPUExecutionProvider"],
}
NUMPY = {"float": "np.float32", "double": "np.float64", "string": "object"}  # where NumPy has another name than ONNX


def _feeds(inputs: Sequence[Input]) -> str:
    ranges = _ranges(inputs)
    arrays = [
        f"{item[0]!r}: np.zeros({tuple(_lengths(item, ranges, 'shortest'))}, {NUMPY.get(item[1], f'np.{item[1]}')})"
        for item in inputs
    ]
    return f"{{{', '.join(arrays)}}}"


def _onnxruntime(target: str, path: str, inputs: Sequence[Input]) -> tuple[str, ...]:
    return (
        "import numpy as np",
        "import onnxruntime as ort",
        f"session = ort.InferenceSession({path!r}, providers={PROVIDERS.get(target, PROVIDERS['onnxruntime-cpu'])!r})",
        f"results = session.run(None, {_feeds(inputs)})",
    )


def _openvino(_: str, path: str, inputs: Sequence[Input]) -> tuple[str, ...]:
    return (
        "import numpy as np",
        "import openvino as ov",
        f"model = ov.Core().compile_model({path!r}, 'AUTO')",
        f"results = model({_feeds(inputs)})",
    )


def _webgpu(_: str, path: str, inputs: Sequence[Input]) -> tuple[str, ...]:
    ranges = _ranges(inputs)
    lines = [
        "import * as ort from 'onnxruntime-web/webgpu';",
        f"const session = await ort.InferenceSession.create({path!r}, {{executionProviders: ['webgpu']}});",
    ]
    kinds = {"float": "float32", "double": "float64"}
    tensors = [
        f"{item[0]!r}: new ort.Tensor({kinds.get(item[1], item[1])!r}, data{number}, "
        f"{_lengths(item, ranges, 'shortest')})"
        for number, item in enumerate(inputs)
    ]
    return (*lines, f"const results = await session.run({{{', '.join(tensors)}}});")


FAMILIES: dict[str, Callable[[str, str, Sequence[Input]], tuple[str, ...]]] = {
    "tensorrt": _tensorrt,
    "onnxruntime": _onnxruntime,
    "directml": _onnxruntime,
    "openvino": _openvino,
    "webgpu": _webgpu,
}
