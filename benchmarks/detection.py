"""What verification sees on real models: weights and biases of folded models, spoiled a little, and whether it noticed.

`python -m benchmarks.detection [MODEL ...]` folds each model (by default those of `make models`, and any in a folder
that `--folder` names), multiplies one folded weight or bias by 1.001, 1.01 and 1.1, verifies the result against the
original, and writes `results/detection.md`.
"""

from __future__ import annotations

import argparse
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import numpy_helper

import folding
from tests.fetch_models import FOLDER

if TYPE_CHECKING:
    from collections.abc import Iterator

RESULT = Path(__file__).with_name("results") / "detection.md"
CHANGES = (0.001, 0.01, 0.1)
TRIALS = 6  # constants of a kind, evenly sampled over those that folds changed
HEAD = """\
# What verification sees

Written by `python -m benchmarks.detection`. Each model is folded; then one of its folded weights or biases (up to
{trials} of each, evenly sampled) is multiplied by 1.001, 1.01 or 1.1, and the result is verified against the original:
how many of the trials were called wrong. `fold` is the verdict on the fold itself, and `said` the sensitivity that it
reports: the smallest change that every sampled weight, and every sampled bias, would show. What the network itself
cancels shows nowhere (the one "bias" of basic_pitch_nmp is a factor before a min-max normalization).
onnxruntime {onnxruntime}.

| model | fold | said, weights | said, biases | weights, 0.1 % | 1 % | 10 % | biases, 0.1 % | 1 % | 10 % |
|---|---|--:|--:|--:|--:|--:|--:|--:|--:|
"""


def main() -> None:
    """Measure every model, and write the table; print it where models are named."""
    parser = argparse.ArgumentParser("python -m benchmarks.detection", description=__doc__)
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--folder", type=Path, help="another folder of models")
    given = parser.parse_args()
    folders = [FOLDER, *([given.folder] if given.folder else [])]
    found = {path.read_bytes(): path for folder in folders for path in sorted(folder.glob("*.onnx"))}  # each once
    models = given.models or list(found.values())
    head = HEAD.format(trials=TRIALS, onnxruntime=version("onnxruntime"))
    rows = []
    for model in models:
        rows.append(_row(model))
        print(rows[-1], flush=True)
    if not given.models:
        RESULT.write_text(head + "\n".join(rows) + "\n")


def _row(source: Path) -> str:
    with tempfile.TemporaryDirectory() as folder:
        target, spoiled = Path(folder, "folded.onnx"), Path(folder, "spoiled.onnx")
        report = folding.fold(source, target, folding.Options(freeze_initializers=True))
        verdict = report.verification
        model = onnx.load(target)
        said = [
            max((getattr(output, name, 0.0) for output in verdict.outputs), default=0.0)
            for name in ("sensitivity", "bias_sensitivity")
        ]
        cells = [source.stem, verdict.status, *(f"{value:.1%}" if value else "-" for value in said)]
        for kind in (True, False):
            names = list(_constants(model, weights=kind))
            for change in CHANGES:
                noticed = [_notices(source, model, name, change, spoiled) for name in names]
                cells.append(f"{sum(noticed)} of {len(noticed)}")
    return f"| {' | '.join(cells)} |"


def _constants(model: onnx.ModelProto, *, weights: bool) -> Iterator[str]:
    """Some of the constants of the operators into which something was folded, none of which is all zero."""
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    folded = [node for node in model.graph.node if any(p.key == "bnfold.absorbed" for p in node.metadata_props)]
    names = list(dict.fromkeys(name for node in folded for name in node.input[1:] if name in tensors))
    names = [name for name in names if (sum(n > 1 for n in tensors[name].dims) > 1) == weights]
    names = [name for name in names if numpy_helper.to_array(tensors[name]).any()]
    yield from (names[i] for i in np.unique(np.linspace(0, len(names) - 1, min(TRIALS, len(names))).astype(int)))


def _notices(source: Path, model: onnx.ModelProto, name: str, change: float, spoiled: Path) -> bool:
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    tensor = next(tensor for tensor in copy.graph.initializer if tensor.name == name)
    values = numpy_helper.to_array(tensor)
    tensor.CopyFrom(numpy_helper.from_array(np.asarray(values * values.dtype.type(1 + change)), name))
    onnx.save(copy, spoiled)
    return folding.verify(source, spoiled).status == "failed"


if __name__ == "__main__":
    main()
