"""Fields that onnx does not know, of every wire type, come out as they went in, at every level."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

import folding
from folding import ModelError, Options
from folding.onnxfile.wire import UnusualError, WireError, fields
from tests.support.models import Model
from tests.support.rows.row import out, start

NUMBER = 7005  # of no field of onnx.proto


def key(wire_type: int, number: int = NUMBER) -> bytes:
    value = number << 3 | wire_type
    return bytes([value & 0x7F | 0x80, value >> 7 & 0x7F | 0x80, value >> 14])


GROUP = key(3) + b"\x08\x05" + key(3) + b"\x12\x02ab" + key(4) + b"\x1d1234" + key(4)
UNKNOWN = {
    "varint": key(0) + b"\x96\x01",
    "fixed64": key(1) + b"12345678",
    "bytes": key(2) + b"\x03abc",
    "group": GROUP,
    "fixed32": key(5) + b"1234",
}


@pytest.mark.parametrize("channels", [6, 600], ids=["inline", "spans"])
@pytest.mark.parametrize("name", UNKNOWN)
def test_they_survive_a_fold(name, channels, tmp_path):
    m = Model(dtype=np.float32)
    out(m, m.bn(m.conv(start(m), channels, pads=[1, 1, 1, 1]), name="bn"))
    model = m.build()
    conv = next(node for node in model.graph.node if node.op_type == "Conv")
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == conv.input[1])
    levels = [model, model.graph, conv, conv.attribute[0], weight, model.graph.input[0], model.opset_import[0]]
    for message in levels:
        message.MergeFromString(UNKNOWN[name])
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    assert folding.fold(tmp_path / "model.onnx", tmp_path / "folded.onnx").verification.status == "verified"
    after = (tmp_path / "folded.onnx").read_bytes()
    assert after.count(UNKNOWN[name]) == len(levels)
    assert [node.op_type for node in onnx.ModelProto.FromString(after).graph.node].count("BatchNormalization") == 0
    in_memory = folding.fold_model(model, Options(verify=False))[0].SerializeToString()
    assert in_memory.count(UNKNOWN[name]) == len(levels)


def test_a_group_is_one_field():
    data = b"\x08\x01" + GROUP + b"\x10\x02"
    assert [number for number, *_ in fields(data, 0, len(data))] == [1, 0, 2]
    assert [data[begin:stop] for number, begin, _, stop in fields(data, 0, len(data)) if number == 0] == [GROUP]


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (GROUP[:-3], WireError),  # it does not end
        (key(3) + b"\x12\x7fab" + key(4), WireError),  # a field of it ends behind all
        (key(3) + b"\x08", WireError),
        (key(3) + key(4, NUMBER + 1), UnusualError),  # another group ends
        (key(4), UnusualError),
        (key(3) + b"\x0e" + key(4), UnusualError),
        (key(6), UnusualError),
    ],
)
def test_what_is_no_group_is_refused(data, error, tmp_path):
    with pytest.raises(error):
        list(fields(data, 0, len(data)))
    m = Model(dtype=np.float32)
    out(m, m.bn(m.conv(start(m), 6), name="bn"))
    (tmp_path / "model.onnx").write_bytes(m.build().SerializeToString() + data)
    with pytest.raises(ModelError, match=r"model\.onnx"):
        folding.fold(tmp_path / "model.onnx", tmp_path / "folded.onnx")
    assert not (tmp_path / "folded.onnx").exists()
