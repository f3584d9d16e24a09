"""The README's example does what it says."""

from __future__ import annotations

import re

import numpy as np
import onnx
from mypy import api as mypy

from tests.support import ROOT
from tests.support.models import Model
from tests.support.rows.row import out, start

EXAMPLES = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def test_the_example_in_python_runs(tmp_path, monkeypatch, capsys):
    m = Model(dtype=np.float32)
    out(m, m.bn(out(m, m.bn(m.conv(start(m), 6), name="folds"))))
    onnx.save(m.build(), tmp_path / "model.onnx")
    monkeypatch.chdir(tmp_path)
    (example,) = EXAMPLES
    names: dict[str, object] = {}
    exec(example, names)  # noqa: S102  it is our own README
    assert capsys.readouterr().out.splitlines() == [
        "2 -> 1 verified",
        "site barrier Asinh neither absorbs nor passes a scale and shift ",
    ]
    assert names["verdict"].status == "verified"
    assert [n.op_type for n in names["folded"].graph.node] == ["Asinh", "Conv", "Asinh", "BatchNormalization", "Asinh"]


def test_the_example_in_python_has_the_right_types(tmp_path):
    """As a user's own type checker sees it, with the package that is installed."""
    (example,) = EXAMPLES
    (tmp_path / "example.py").write_text(example)
    cache = f"--cache-dir={tmp_path / 'cache'}"
    said, errors, code = mypy.run(["--strict", "--config-file=", cache, str(tmp_path / "example.py")])
    assert (said, errors, code) == ("Success: no issues found in 1 source file\n", "", 0)
