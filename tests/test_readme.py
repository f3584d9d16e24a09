"""The README's example does what it says."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx

from tests.support.models import Model
from tests.support.rows.row import out, start

README = Path(__file__).resolve().parent.parent / "README.md"


def test_the_example_in_python_runs(tmp_path, monkeypatch, capsys):
    m = Model(dtype=np.float32)
    out(m, m.bn(out(m, m.bn(m.conv(start(m), 6), name="folds"))))
    onnx.save(m.build(), tmp_path / "model.onnx")
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    names: dict[str, object] = {}
    exec(example, names)  # noqa: S102  it is our own README
    assert capsys.readouterr().out.splitlines() == [
        "2 -> 1 verified",
        "site barrier Asinh neither absorbs nor passes a scale and shift ",
    ]
    assert names["verdict"].status == "verified"
    assert [n.op_type for n in names["folded"].graph.node] == ["Asinh", "Conv", "Asinh", "BatchNormalization", "Asinh"]
