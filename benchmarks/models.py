"""The models to measure on, written to the disk with the memory of one block, whatever their size."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from onnx import GraphProto, ModelProto, TensorProto, helper

from benchmarks.networks import IMAGE_CHANNELS, Architecture, Network, Stage, Weight, build

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO

    from numpy.typing import NDArray

MODEL_NAME, DATA_NAME = "model.onnx", "model.onnx.data"
OPSET, IR_VERSION = 17, 8  # old enough for every tool compared
SEED = 20150211  # of the random values that all weights are taken from
NOISE_ELEMENTS = 1 << 22  # 16 MiB; longer weights repeat the values, but not within an output channel
ALIGNMENT = 1 << 16  # of the external weights, the same as in torch.onnx.export

GRAPH_FIELD = ModelProto.DESCRIPTOR.fields_by_name["graph"].number
INITIALIZER_FIELD = GraphProto.DESCRIPTOR.fields_by_name["initializer"].number
RAW_DATA_FIELD = TensorProto.DESCRIPTOR.fields_by_name["raw_data"].number
LENGTH_DELIMITED = 2  # wire type of protobuf's strings, bytes and messages (protobuf.dev, "Encoding")


@dataclass(frozen=True)
class Model:
    """One model of the benchmark: `title` describes it; `big` ones run only with tools that can handle them."""

    title: str
    architecture: Architecture
    external: bool = False
    big: bool = False

    @cached_property
    def network(self) -> Network:
        """Nodes and weights, without values."""
        return build(self.architecture)

    @property
    def nbytes(self) -> int:
        """The bytes of all weights: about the size of the files."""
        return sum(weight.size for weight in self.network.weights) * np.dtype(np.float32).itemsize


RESNET56_STAGES = (Stage(20, 9), Stage(40, 9, 2), Stage(80, 9, 2))  # He et al. 2015, table 6, a quarter wider
RESNET50_STAGES = (Stage(64, 3), Stage(128, 4, 2), Stage(256, 6, 2), Stage(512, 3, 2))  # He et al. 2015, table 1
WIDE = 1024  # 38 MB for each 3x3 convolution
BLOCKS_TO_2_GIB = 25  # the most that fit into 2 GiB, protobuf's limit, with some room for tools

MODELS = {
    "small": Model("ResNet-56 for CIFAR", Architecture(image=32, stem=20, stages=RESNET56_STAGES)),
    "resnet50": Model(
        "ResNet-50",
        Architecture(image=224, stem=64, stages=RESNET50_STAGES, bottleneck=True, imagenet_stem=True, classes=1000),
    ),
    "1.9gb": Model(
        "wide ResNet, one file", Architecture(image=8, stem=WIDE, stages=(Stage(WIDE, BLOCKS_TO_2_GIB),)), big=True
    ),
    "3.9gb-external": Model(
        "wide ResNet, external data",
        Architecture(image=8, stem=WIDE, stages=(Stage(WIDE, 2 * BLOCKS_TO_2_GIB + 1),)),
        external=True,
        big=True,
    ),
}


def write(model: Model, folder: Path) -> list[Path]:
    """Write the model into `folder`, created if missing, unless it exists; return its files, the model first."""
    names = [MODEL_NAME, DATA_NAME] if model.external else [MODEL_NAME]
    files = [folder / name for name in names]
    if files[0].exists():
        return files
    folder.mkdir(parents=True, exist_ok=True)
    staged = folder / f"{MODEL_NAME}.part"  # the model file is renamed last: if it exists, all files are complete
    with staged.open("wb") as output:
        if model.external:
            with files[1].open("wb") as data:
                output.write(_with_external_data(model, data))
        else:
            _write_single(model, output)
    staged.rename(files[0])
    return files


class _Noise:
    """Normal float32 values; a weight gets the same ones in every run."""

    def __init__(self) -> None:
        self.values = np.random.default_rng(SEED).standard_normal(NOISE_ELEMENTS, np.float32)

    def of(self, weight: Weight) -> Iterator[NDArray[np.float32]]:
        """The values of a weight, in blocks of at most `NOISE_ELEMENTS`."""
        start, left = zlib.crc32(weight.name.encode()) % NOISE_ELEMENTS, weight.size
        while left:
            block = self.values[start : start + left]
            yield np.float32(weight.mean) + np.float32(weight.deviation) * block
            start, left = 0, left - block.size


def _write_single(model: Model, output: BinaryIO) -> None:
    """Write model, graph and tensors field by field: protobuf accepts the fields of a message in any order."""
    heads = [_tensor(weight).SerializeToString() for weight in model.network.weights]
    raw = [_header(RAW_DATA_FIELD, 4 * weight.size) for weight in model.network.weights]  # 4 bytes a float32
    sizes = [len(h) + len(r) + 4 * w.size for h, r, w in zip(heads, raw, model.network.weights, strict=True)]
    tensors = [_header(INITIALIZER_FIELD, size) for size in sizes]
    graph = _graph(model).SerializeToString()
    output.write(_model().SerializeToString())
    output.write(_header(GRAPH_FIELD, len(graph) + sum(sizes) + sum(map(len, tensors))) + graph)
    noise = _Noise()
    for weight, *parts in zip(model.network.weights, tensors, heads, raw, strict=True):
        output.write(b"".join(parts))
        for block in noise.of(weight):
            output.write(block.data)


def _with_external_data(model: Model, data: BinaryIO) -> bytes:
    """The bytes of the model; its weights are written into `data`."""
    graph, noise = _graph(model), _Noise()
    for weight in model.network.weights:
        data.seek(math.ceil(data.tell() / ALIGNMENT) * ALIGNMENT)
        tensor = _tensor(weight)
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", DATA_NAME), ("offset", data.tell()), ("length", 4 * weight.size)):
            tensor.external_data.add(key=key, value=str(value))
        graph.initializer.append(tensor)
        for block in noise.of(weight):
            data.write(block.data)
    result = _model()
    result.graph.CopyFrom(graph)
    return bytes(result.SerializeToString())


def _model() -> ModelProto:
    opsets = [helper.make_opsetid("", OPSET)]
    return ModelProto(ir_version=IR_VERSION, producer_name="bnfold benchmarks", opset_import=opsets)


def _graph(model: Model) -> GraphProto:
    image, nodes = model.architecture.image, model.network.nodes
    shape = (1, IMAGE_CHANNELS, image, image)
    given = helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)
    made = helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, (1, model.architecture.classes))
    return helper.make_graph(nodes, "network", [given], [made])


def _tensor(weight: Weight) -> TensorProto:
    return TensorProto(name=weight.name, dims=weight.shape, data_type=TensorProto.FLOAT)


def _header(field: int, length: int) -> bytes:
    """The tag and the length that come before a length-delimited field."""
    return _varint(field << 3 | LENGTH_DELIMITED) + _varint(length)


def _varint(value: int) -> bytes:
    """Base 128, the lowest seven bits first; the eighth bit says that more bytes follow (protobuf.dev, "Encoding")."""
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + _varint(rest) if rest else bytes([low])
