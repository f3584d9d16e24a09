"""Models with weights of known values, computed payloads, and what a folder holds afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import ModelProto, helper, numpy_helper

from folding.onnxfile import OnnxFile, Span
from folding.onnxfile.skeleton import INLINE_BYTES
from tests.support.hostile import files as hostile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COUNT = 3 * INLINE_BYTES // 4  # floats of a weight that is left in the file


class Doubled:
    """A computed payload: the doubled values of a weight, in blocks of 4 KiB."""

    BLOCK = 4096

    def __init__(self, values: np.ndarray, fail: BaseException | None = None) -> None:
        self.values, self.fail = values, fail
        self.nbytes = values.nbytes

    def blocks(self) -> Iterator[tuple[int, int]]:
        for start in range(0, self.nbytes, self.BLOCK):
            yield start, min(start + self.BLOCK, self.nbytes)

    def evaluate(self, start: int, stop: int) -> memoryview:
        if self.fail is not None and start:
            raise self.fail
        return memoryview(2 * self.values[start // 4 : stop // 4])


def values(seed: int, count: int = COUNT) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(count).astype(np.float32)


def model(**arrays: np.ndarray) -> ModelProto:
    """y = x + a + b ... of the arrays."""
    made = hostile.small()
    del made.graph.node[:], made.graph.initializer[:]
    last = "x"
    for name, array in arrays.items():
        made.graph.initializer.append(numpy_helper.from_array(array, name))
        made.graph.node.append(helper.make_node("Add", [last, name], [f"{name}_sum"]))
        last = f"{name}_sum"
    made.graph.node.append(helper.make_node("Identity", [last], ["y"]))
    return made


def saved(made: ModelProto, path: Path, *, external: bool = False) -> Path:
    if external:
        onnx.save(made, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    else:
        path.write_bytes(made.SerializeToString())
    return path


def arrays(path: Path) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}


def double(file: OnnxFile, name: str, fail: BaseException | None = None) -> None:
    tensor = next(tensor for tensor in file.model.graph.initializer if tensor.name == name)
    span = file.payload(tensor)
    assert isinstance(span, Span)
    tensor.raw_data = file.attach(Doubled(np.frombuffer(span.read(), np.float32), fail))


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def entries(path: Path) -> dict[str, dict[str, str]]:
    made = onnx.load(path, load_external_data=False)
    return {t.name: {e.key: e.value for e in t.external_data} for t in made.graph.initializer if t.external_data}
