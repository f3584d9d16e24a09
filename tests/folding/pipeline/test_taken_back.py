"""Where verification finds an error, the folds that caused it are taken back, and the rest is kept."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

import folding
from folding import Options, VerificationError
from folding.graph import sites
from folding.onnxfile import from_bytes
from folding.pipeline.takeback import attempts, before, halving
from tests.support.models import Model

CODE = "taken-back"


def model() -> onnx.ModelProto:
    """Two chains of Conv -> BatchNormalization with an output each; the names say the chain and the place in it."""
    m = Model(dtype=np.float32)
    x, ends = m.x(1, 3, 12, 12), []
    for chain in "ab":
        value = x
        for place in range(4):
            value = m.op("Asinh", m.bn(m.conv(value, 3), name=f"{chain}{place}"))
        ends.append(value)
    return m.build(*ends)


def clamped() -> onnx.ModelProto:
    """One normalization that only passes a clamp with a bound per channel, and one that needs none."""
    m = Model(dtype=np.float32)
    value = m.op("Asinh", m.bn(m.conv(m.x(1, 3, 12, 12), 3), name="plain"))
    value = m.conv(m.op("Relu", m.bn(value, name="clamped")), 3)
    m.op("Asinh", value)
    return m.build()


@pytest.fixture
def break_maps(monkeypatch):
    """Make the maps of normalizations with these names wrong."""
    right = sites._of_normalization

    def breaking(*names: str) -> None:
        def wrong(node):
            return right(node).linear_part() if node.label in names else right(node)

        monkeypatch.setattr(sites, "_of_normalization", wrong)

    return breaking


def codes(report: folding.Report) -> dict[str, set[str]]:
    """The codes of what stays, by node."""
    return {o.node: {o.backward.code, o.forward.code} for o in report.outcomes if o.status == "kept"}


@pytest.mark.parametrize("names", [["a2"], ["b0"], ["a0", "a3"], ["a1", "b1"]])
@pytest.mark.parametrize("in_memory", [False, True])
def test_just_the_wrong_folds_are_taken_back(names, in_memory, tmp_path, break_maps):
    break_maps(*names)
    source, target = tmp_path / "model.onnx", tmp_path / "folded.onnx"
    onnx.save(model(), source)
    if in_memory:
        _, report = folding.fold_model(model())
    else:
        stages = []
        report = folding.fold(source, target, progress=lambda *event: stages.append(event))
        assert all(0 <= done <= total for _, done, total in stages)
        assert [n.name for n in onnx.load(target).graph.node if n.op_type == "BatchNormalization"] == names
    assert codes(report) == {name: {CODE} for name in names}
    assert (report.bn_after, report.verification.status) == (len(names), "verified")
    assert f"{len(names)} taken back, because the result differed with them: {', '.join(names)}" in report.notes
    kept = [o for o in report.outcomes if o.status == "kept"]
    assert "the original gives" in kept[0].backward.reason


def test_what_was_taken_back_is_taken_back_again_and_then_nothing_remains(tmp_path, break_maps):
    break_maps("a2")
    onnx.save(model(), tmp_path / "model.onnx")
    folding.fold(tmp_path / "model.onnx", tmp_path / "model.onnx")
    once = (tmp_path / "model.onnx").read_bytes()
    with pytest.raises(VerificationError):
        folding.fold(tmp_path / "model.onnx", tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx").read_bytes() == once
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_strict_writes_nothing(tmp_path, break_maps):
    break_maps("a2")
    onnx.save(model(), tmp_path / "model.onnx")
    with pytest.raises(VerificationError) as caught:
        folding.fold(tmp_path / "model.onnx", tmp_path / "folded.onnx", Options(strict=True))
    assert caught.value.report.verification.status == "failed"
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_nothing_is_written_where_no_time_is_left_to_find_the_cause(tmp_path, break_maps, monkeypatch):
    break_maps("a2")
    onnx.save(model(), tmp_path / "model.onnx")
    verified = []

    def verify(*paths, **options):
        verified.append(options["timeout"])
        return folding.Verification("failed", "it is wrong", seconds=300.0)

    monkeypatch.setattr("folding.api.verify", verify)
    with pytest.raises(VerificationError):
        folding.fold(tmp_path / "model.onnx", tmp_path / "folded.onnx")
    assert verified == [300.0]


def test_clamps_go_first(break_maps):
    break_maps("clamped")
    _, report = folding.fold_model(clamped(), Options(clamp="always"))
    assert codes(report) == {"clamped": {CODE}}
    assert report.verification.status == "verified"


def found(size: int, wrong: set[str], *groups: list[str]) -> tuple[set[str], int]:
    """The smallest right set that a search ends with, and its attempts; folds are numbers."""
    search = halving([*groups, [str(i) for i in range(size)]])
    best, count, is_right = {str(i) for i in range(size)} | {"none"}, 0, None
    while True:
        try:
            out = search.send(is_right)
        except StopIteration:
            return best, count
        count += 1
        is_right = wrong <= out
        best = min(best, set(out), key=len) if is_right else best


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1000])
def test_every_wrong_fold_is_found_by_halving(size):
    rng = np.random.default_rng(size)
    for number in range(1, min(size, 4) + 1):
        wrong = {str(i) for i in rng.choice(size, number, replace=False)}
        taken, count = found(size, wrong)
        assert taken == wrong
        assert count <= attempts([[str(i) for i in range(size)]])


def test_more_wrong_folds_than_are_looked_for_are_taken_back_with_others():
    taken, _ = found(64, {str(i) for i in range(0, 64, 8)})
    assert {str(i) for i in range(0, 64, 8)} <= taken


def test_groups_are_tried_in_turn():
    assert found(8, {"3"}, ["1", "3"])[0] == {"3"}
    assert found(8, {"3"}, ["1", "2"], [])[0] == {"3"}


def test_suspects_lie_before_the_wrong_value_and_in_nested_graphs():
    text = """<ir_version: 8, opset_import: ["" : 17]>
        agraph (float[2] x, bool c) => (float[2] y, float[2] z) {
            a = Neg(x)  b = Abs(x)  unread = Exp(x)  z = Sqrt(b)
            y = If(c) <then_branch = t () => (float[2] p) { p = Log(a) },
                       else_branch = e () => (float[2] q) { q = Sin(x) }> }"""
    with from_bytes(onnx.parser.parse_model(text).SerializeToString()) as file:
        assert {key.split(":")[1] for key in before(file, {"y"})} == {"a", "y", "p", "q"}
        assert {key.split(":")[1] for key in before(file, {"z"})} == {"b", "z", "p", "q"}
        assert {key.split(":")[1] for key in before(file, {"y[0]"})} == {"a", "b", "unread", "y", "z", "p", "q"}
