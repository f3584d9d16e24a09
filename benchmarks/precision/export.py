"""One network in a process of its own: ``python -m benchmarks.precision.export NAME FOLDER``.

Writes model.onnx, samples.npz for converters that take some, and tests.npz: other inputs, with what PyTorch returns for
them in float64.
"""

from __future__ import annotations

import copy
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.precision.networks import made, sampled

OPSET = 17
BATCH = 4  # of samples and of tests
SAMPLES, TESTS = 1, 2  # seeds


def names(count: int) -> list[str]:
    """The names of the inputs."""
    return [f"input{number}" for number in range(count)]


def main(name: str, folder: str) -> None:
    """Export one network."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    place = Path(folder)
    network = made(name)
    inputs, tests = sampled(name, BATCH, SAMPLES), sampled(name, BATCH, TESTS)
    wide = [value.double() if value.is_floating_point() else value for value in tests]
    with torch.no_grad():
        found: Any = copy.deepcopy(network).double()(*wide)
    results = (found,) if isinstance(found, torch.Tensor) else tuple(found)
    labels = names(len(inputs))
    _save(place / "samples.npz", labels, inputs)
    _save(place / "tests.npz", [*labels, *(f"output{n}" for n in range(len(results)))], (*tests, *results))
    # As it is: in inference mode this exporter folds each BatchNormalization that follows a convolution itself.
    torch.onnx.export(
        torch.jit.script(network) if hasattr(network, "is_scripted") else network, inputs, str(place / "model.onnx"),
        dynamo=False, opset_version=OPSET, training=torch.onnx.TrainingMode.PRESERVE, input_names=labels,
        output_names=[f"output{n}" for n in range(len(results))],
    )  # fmt: skip


def _save(path: Path, labels: list[str], values: tuple[torch.Tensor, ...]) -> None:
    np.savez(path, **dict(zip(labels, (value.numpy() for value in values), strict=True)))


if __name__ == "__main__":
    main(*sys.argv[1:])
