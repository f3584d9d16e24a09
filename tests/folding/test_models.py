"""Real models: trained ones taken from packages, and the structures of well-known networks in the onnx package."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import onnx
import pytest

from folding import Options, fold
from folding.onnxfile import read
from folding.refusal import CODES
from tests.fetch_models import FOLDER, fetch

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"

# file, BatchNormalizations before and after, decomposed affines that at least go, largest tolerated node count
TRAINED = [
    ("ch_ppocr_mobile_v2.0_cls_infer.onnx", 35, 0, 18, 284),
    ("ch_PP-OCRv4_det_infer.onnx", 3, 0, 92, 394),
    ("ch_PP-OCRv4_rec_infer.onnx", 6, 0, 96, 558),
    ("nmp.onnx", 0, 0, 10, 240),
]
STRUCTURES = [
    ("light_resnet50.onnx", 53, 0, 0, 125),
    ("light_inception_v2.onnx", 69, 0, 138, 170),
    ("light_shufflenet.onnx", 49, 0, 0, 160),
    ("light_densenet121.onnx", 121, 0, 242, 370),
    ("light_vgg19.onnx", 0, 0, 0, 82),
]
BLIND = "light_inception_v2.onnx"  # its weights are so small that nothing comes through


@pytest.fixture(scope="session", autouse=True)
def trained() -> None:
    fetch()


@pytest.mark.parametrize(("name", "before", "after", "others", "nodes"), TRAINED + STRUCTURES)
def test_real_models(name, before, after, others, nodes, tmp_path):
    source = next(folder / name for folder in (FOLDER, LIGHT) if (folder / name).exists())
    target = tmp_path / name
    report = fold(source, target)
    if name == BLIND:
        assert "do not depend on the samples" in report.verification.reason
    else:
        assert report.verification.status == "verified", report.verification
    assert (report.bn_before, report.bn_after) == (before, after)
    left = Counter(node.op_type for node in onnx.load(target).graph.node)
    assert left["BatchNormalization"] == after
    assert report.nodes_after == left.total() <= nodes
    gone = [o for o in report.outcomes if o.operator != "BatchNormalization" and o.status != "kept"]
    assert len(gone) >= others
    explained = [o for o in report.outcomes if o.status == "kept"]
    assert all(o.backward and o.forward and {o.backward.code, o.forward.code} <= set(CODES) for o in explained)
    assert sum(o.operator == "BatchNormalization" for o in explained) == after
    onnx.checker.check_model(target)


@pytest.mark.parametrize("name", [row[0] for row in TRAINED])
def test_folding_twice_changes_nothing_and_untouched_tensors_stay(name, tmp_path):
    once, twice = tmp_path / "once.onnx", tmp_path / "twice.onnx"
    fold(FOLDER / name, once, Options(verify=False))
    report = fold(once, twice, Options(verify=False))
    assert not report.changed
    assert twice.read_bytes() == once.read_bytes()
    before, after = (
        {t.name: t.SerializeToString() for t in onnx.load(path).graph.initializer} for path in (FOLDER / name, once)
    )
    absorbed = {label for o in fold(FOLDER / name, None).outcomes for label in o.absorbed_by}
    graph = onnx.load(FOLDER / name).graph
    touched = {i for node in graph.node if (node.name or node.output[0]) in absorbed for i in node.input}
    for tensor in set(before) & set(after) - touched:
        assert after[tensor] == before[tensor], tensor


def test_round_trip_through_the_file_reader_is_the_identity(tmp_path):
    for name, *_ in TRAINED:
        with read(FOLDER / name) as file:
            assert file.model.graph.name == onnx.load(FOLDER / name).graph.name
