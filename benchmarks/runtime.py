"""``python -m benchmarks.runtime``: what ONNX Runtime makes of a model before and after a fold, and how long it runs.

Models: stacks of GELU and LayerNormalization as exporters write them out, the trained models of the tests, structures
of the onnx package, and the files named on the command line.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime

from benchmarks import fusions
from folding import Options, fold_model
from folding.targets.model import NAMES
from tests.support.models import Model
from tests.support.ready import idioms

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

RESULTS = Path(__file__).with_name("results")  # runtime.md, and runtime-TARGET.md
LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
TRAINED = Path(__file__).parents[1] / ".cache" / "models"
STRUCTURES = ("resnet50", "inception_v2", "shufflenet", "densenet121", "squeezenet")
ROUNDS = 30
CREATIONS = 8
SIZES = ((1, 3, 48, 192), (1, 3, 224, 224), (1, 3, 320, 320), (1, 1, 1, 1))  # of open dimensions, by axis
LAYERS, CHANNELS, SIZE, WIDTH, LENGTH = 8, 32, 56, 256, 128  # of the stacks
METHOD = """\
`python -m benchmarks.runtime{flag}` folds each model in memory. "operators" are those of ONNX Runtime's own
optimized graph at the extended level, before and after, without its Transposes; "fused" those of {fused}.
"time" is the median processor time of a run of the folded model divided by that of the original (default level,
one thread); "noise" the same for a second session of the original. The three sessions run in turns, {rounds}
times. "creation" is the same ratio for making a session out of the model's bytes, {creations} times in turns.
"""


@dataclass(frozen=True)
class Row:
    """One model's figures."""

    name: str
    operators: tuple[int, int]
    fused: tuple[int, int]
    cost: Sequence[str]
    ratio: float
    noise: float
    creation: float


def stacks() -> Iterator[tuple[str, onnx.ModelProto]]:
    """Networks of idioms in float32, with a normalization where one would be in a network."""
    m = Model(opset=13, dtype=np.float32)
    x = m.x(1, CHANNELS, SIZE, SIZE)
    for _ in range(LAYERS):
        x = idioms.gelu(m, m.bn(m.conv(x, CHANNELS, 3, pads=[1] * 4), name=""))
    yield "stack: Conv, BN, GELU", m.build()
    m = Model(opset=13, dtype=np.float32)
    x = m.x(1, LENGTH, WIDTH)
    for _ in range(LAYERS):
        x = m.op("Add", m.op("MatMul", idioms.layer_norm(m, x), m.constant((WIDTH, WIDTH))), m.constant((WIDTH,)))
        x = idioms.gelu(m, x)
    yield "stack: LayerNormalization, MatMul, bias, GELU", m.build()


def models(paths: Sequence[Path]) -> Iterator[tuple[str, onnx.ModelProto]]:
    """All models by name."""
    yield from stacks()
    files = [*sorted(TRAINED.glob("*.onnx")), *(LIGHT / f"light_{name}.onnx" for name in STRUCTURES), *paths]
    yield from ((path.stem, onnx.load(path)) for path in files)


def measure(name: str, model: onnx.ModelProto, rounds: int, target: str | None) -> Row:
    """Fold a model and compare what the runtime makes of it."""
    folded, _ = fold_model(model, Options(target=target, allow_fallback=True, verify=False))
    graphs = fusions.optimized(model), fusions.optimized(folded)
    fused = [sum(graph[op] for op in fusions.FUSED) for graph in graphs]
    seconds = timed([model, folded, model], feeds(model), rounds)
    return Row(
        name,
        (fusions.total(graphs[0]), fusions.total(graphs[1])),
        (fused[0], fused[1]),
        fusions.worse(*graphs),
        seconds[1] / seconds[0],
        seconds[2] / seconds[0],
        created(model, folded),
    )


def feeds(model: onnx.ModelProto) -> dict[str, Any]:
    """A random sample for the inputs of a model, with the first sizes of open dimensions that it accepts."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    for size in SIZES:
        sample = {}
        for value in session.get_inputs():
            shape = [d if isinstance(d, int) else size[axis] for axis, d in enumerate(value.shape)]
            sample[value.name] = random.standard_normal(shape).astype(np.float32)
        try:
            session.run(None, sample)
        except (onnxruntime.capi.onnxruntime_pybind11_state.Fail, RuntimeError):
            continue
        return sample
    raise ValueError(f"no sample of {list(SIZES)} fits")


def timed(candidates: Sequence[onnx.ModelProto], sample: dict[str, Any], rounds: int) -> list[float]:
    """The median processor seconds of a run of each model, in this one thread; the runs take turns."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    sessions = [
        onnxruntime.InferenceSession(m.SerializeToString(), options, providers=["CPUExecutionProvider"])
        for m in candidates
    ]
    taken: list[list[float]] = [[] for _ in sessions]
    for number in range(rounds + 1):  # the first is not counted
        for session, runs in zip(sessions, taken, strict=True):
            began = time.thread_time()
            session.run(None, sample)
            if number:
                runs.append(time.thread_time() - began)
    return [statistics.median(runs) for runs in taken]


def created(model: onnx.ModelProto, folded: onnx.ModelProto) -> float:
    """The median processor seconds in which a session of the folded model is made, divided by those of the original."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    taken: tuple[list[float], list[float]] = ([], [])
    given = model.SerializeToString(), folded.SerializeToString()
    for number in range(CREATIONS + 1):  # the first is not counted
        for data, times in zip(given, taken, strict=True):
            began = time.thread_time()
            onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
            if number:
                times.append(time.thread_time() - began)
    return statistics.median(taken[1]) / statistics.median(taken[0])


def write(rows: Sequence[Row], rounds: int, target: str | None) -> str:
    """The table."""
    flag = "" if target is None else f" --target {target}"
    head = [
        "# What ONNX Runtime makes of a folded model",
        METHOD.format(flag=flag, fused=", ".join(sorted(fusions.FUSED)), rounds=rounds, creations=CREATIONS),
    ]
    head.append(f"onnxruntime {onnxruntime.__version__}, onnx {onnx.__version__}.")
    lines = [
        "| model | operators | fused | time | noise | creation | worse |",
        "| --- | --- | --- | ---: | ---: | ---: | --- |",
    ]
    lines += [
        f"| {row.name} | {row.operators[0]} -> {row.operators[1]} | {row.fused[0]} -> {row.fused[1]} "
        f"| {row.ratio:.3f} | {row.noise:.3f} | {row.creation:.2f} | {', '.join(row.cost)} |"
        for row in rows
    ]
    return "\n\n".join(head) + "\n\n" + "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure all models; return 1 if the runtime's graph got worse for one."""
    parser = argparse.ArgumentParser("python -m benchmarks.runtime", description=__doc__, allow_abbrev=False)
    parser.add_argument("files", nargs="*", type=Path, help="more models")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="runs of each (default: %(default)s)")
    parser.add_argument("--target", choices=NAMES, help="make the models ready for this runtime, too")
    given = parser.parse_args(argv)
    rows = []
    for name, model in models(given.files):
        rows.append(measure(name, model, given.rounds, given.target))
        print(rows[-1], flush=True)
    name = "runtime" if given.target is None else f"runtime-{given.target}"
    (RESULTS / f"{name}.md").write_text(write(rows, given.rounds, given.target))
    return int(any(row.cost for row in rows))


if __name__ == "__main__":
    sys.exit(main())
