"""A plugin of pytest: a service to ask, and a folder with models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest

from tests.support.models import Model
from tests.support.rows.row import out, start
from tests.support.service.fake import Fake, serving

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[list[Fake], str]]:
    current = [Fake(Path())]
    with serving(current) as url:
        yield current, url


@pytest.fixture
def fake(running, tmp_path) -> Fake:
    folder = tmp_path / "service"
    folder.mkdir()
    running[0][0] = Fake(folder)
    return running[0][0]


@pytest.fixture
def url(running, fake) -> str:
    return running[1]


@pytest.fixture
def here(tmp_path) -> Path:
    """The folder of the user: a model, one with external data, and one in which nothing folds."""
    folder = tmp_path / "here"
    folder.mkdir()
    onnx.save(convolutions(), folder / "model.onnx")
    onnx.save(convolutions(), folder / "large.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    m = Model(dtype=np.float32)
    m.op("Relu", start(m, 1, 3))
    onnx.save(m.build(), folder / "none.onnx")
    return folder


def convolutions() -> onnx.ModelProto:
    m = Model(dtype=np.float32)
    x = m.conv(start(m, 1, 8, 6, 6), 64)
    x = out(m, m.bn(m.conv(x, 64), name="bn"))
    return m.build(x)
