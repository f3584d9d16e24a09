"""fold, fold_model, inspect: what is written, when, and what is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import folding
from folding import LimitError, NothingToFoldError, OptionError, Options, Verification, VerificationError, api
from folding.graph import sites
from folding.onnxfile import Limits
from folding.onnxfile.skeleton import INLINE_BYTES
from tests.support.models import SITE, Model
from tests.support.rows.row import out, start

if TYPE_CHECKING:
    from pathlib import Path


def conv_net(outputs: int = 6, *, foldable: bool = True, dtype: type = np.float32) -> onnx.ModelProto:
    m = Model(dtype=dtype)
    x = start(m)
    out(m, m.bn(m.conv(x, outputs)) if foldable else m.conv(x, outputs))
    return m.build()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    onnx.save(conv_net(64), path)
    return path


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_fold_writes_a_verified_file_and_says_so(source, tmp_path):
    stages = set()
    report = folding.fold(source, tmp_path / "folded.onnx", progress=lambda stage, *_: stages.add(stage))
    assert report.verification.status == "verified"
    assert (report.bn_before, report.bn_after, report.changed) == (1, 0, True)
    assert report.bytes_after == (tmp_path / "folded.onnx").stat().st_size
    assert stages == {"folding", "writing", "verifying"}
    assert listing(tmp_path) == ["folded.onnx", "model.onnx"]


def test_source_and_target_may_be_one_file(source, tmp_path):
    folding.fold(source, source)
    assert [n.op_type for n in onnx.load(source).graph.node] == ["Asinh", "Conv", "Asinh"]
    assert listing(tmp_path) == ["model.onnx"]


def test_a_dry_run_writes_nothing(source, tmp_path):
    report = folding.inspect(source)
    assert (report.target, report.bn_after) == (None, 0)
    assert report.verification == Verification("not verified", "nothing was written")
    assert listing(tmp_path) == ["model.onnx"]


def test_nothing_to_fold_copies_the_bytes(tmp_path):
    source, target = tmp_path / "model.onnx", tmp_path / "folded.onnx"
    # not the order protobuf would write: a file that is parsed and written again would differ
    source.write_bytes(conv_net(foldable=False).SerializeToString() + b"\x12\x02me" + b"\x08\x08")
    report = folding.fold(source, target)
    assert not report.changed
    assert report.verification.status == "verified"
    assert target.read_bytes() == source.read_bytes()


def test_require_change(tmp_path):
    onnx.save(conv_net(foldable=False), tmp_path / "model.onnx")
    with pytest.raises(NothingToFoldError, match="nothing to fold") as caught:
        folding.fold(tmp_path / "model.onnx", tmp_path / "folded.onnx", Options(require_change=True))
    assert not caught.value.report.changed
    assert listing(tmp_path) == ["model.onnx"]


def test_a_wrong_fold_never_becomes_a_file(source, tmp_path, monkeypatch):
    """The last line of defence: break the algebra, and verification must stop the file."""
    right = sites._of_normalization
    monkeypatch.setattr(sites, "_of_normalization", lambda node: right(node).linear_part())
    with pytest.raises(VerificationError, match="differs") as caught:
        folding.fold(source, tmp_path / "folded.onnx")
    assert caught.value.report.verification.status == "failed"
    assert listing(tmp_path) == ["model.onnx"]


def test_verification_can_be_turned_off_and_the_report_says_so(source, tmp_path):
    report = folding.fold(source, tmp_path / "folded.onnx", Options(verify=False))
    assert report.verification == Verification("not verified", "verification was turned off (verify=False)")


def test_given_samples_are_used(source, tmp_path):
    np.savez(tmp_path / "x.npz", x0=np.zeros((2, 4, 5, 6), np.float32))
    report = folding.fold(source, tmp_path / "folded.onnx", Options(inputs=str(tmp_path / "x.npz")))
    assert report.verification.status == "verified"
    np.savez(tmp_path / "x.npz", wrong=np.zeros(3))
    with pytest.raises(OptionError, match="x0"):
        folding.fold(source, tmp_path / "again.onnx", Options(inputs=str(tmp_path / "x.npz")))
    assert listing(tmp_path) == ["folded.onnx", "model.onnx", "x.npz"]


def test_samples_that_are_missing_are_missed_before_any_work(source, tmp_path):
    for target in (tmp_path / "folded.onnx", None):
        with pytest.raises(OptionError, match="no file"):
            folding.fold(source, target, Options(inputs=str(tmp_path / "none.npz"), verify=False))


@pytest.mark.parametrize("in_memory", [False, True])
def test_a_frozen_model_is_verified_against_the_original_in_inference(tmp_path, in_memory):
    """Against the original in training mode, which uses the statistics of the batch, every fold is wrong."""
    m = Model(opset=15, dtype=np.float32)
    x = m.conv(start(m), 6)
    parameters = [m.constant(m.random.uniform(0.5, 1.5, 6)) for _ in range(4)]
    out(m, m.op("BatchNormalization", x, *parameters, name=SITE, outputs=3, training_mode=1))
    onnx.save(m.build(), tmp_path / "model.onnx")
    options = Options(freeze_training=True)
    if in_memory:
        report = folding.fold_model(m.build(), options)[1]
    else:
        report = folding.fold(tmp_path / "model.onnx", tmp_path / "folded.onnx", options)
        assert listing(tmp_path) == ["folded.onnx", "model.onnx"]
    assert (report.bn_after, report.verification.status) == (0, "verified")
    assert "training mode" in report.notes[0]


def test_fold_model_takes_models():
    with pytest.raises(OptionError, match="fold takes files"):
        folding.fold_model("model.onnx")


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (
            lambda m: folding.fold(m, "x"),
            "source is of type ModelProto; .*; fold_model takes models in memory",
        ),
        (folding.inspect, "source is of type ModelProto; give the path of an ONNX file"),
        (lambda m: folding.fold("m", m), "target is of type ModelProto; .* or None for a dry run"),
        (lambda _: folding.fold("m", "x", {"verify": False}), r"of type dict; .*: folding.Options\(verify=False\)"),
        (lambda m: folding.fold_model(m, {}), "options is of type dict; give a folding.Options"),
        (lambda _: folding.fold("m", "x", limits=3), "limits is of type int; give a folding.Limits"),
        (lambda m: folding.verify("m", m), "after is of type ModelProto; give the path of an ONNX file"),
    ],
)
def test_what_is_of_another_type_is_refused_in_a_sentence(call, sentence):
    with pytest.raises(OptionError, match=sentence):
        call(onnx.ModelProto())


def test_limits_can_be_given(source):
    with pytest.raises(LimitError, match="nodes"):
        folding.inspect(source, limits=Limits(nodes=2))


def test_fold_model_leaves_its_argument_alone_and_agrees_with_fold(source, tmp_path):
    model = onnx.load(source)
    folded, report = folding.fold_model(model)
    assert report.verification.status == "verified"
    assert model == onnx.load(source)
    folding.fold(source, tmp_path / "folded.onnx")
    assert folded == onnx.load(tmp_path / "folded.onnx")


def test_weights_that_do_not_fit_are_found_while_writing_and_kept(tmp_path):
    m = Model(dtype=np.float16)
    x = m.bn(m.conv(start(m), 64), name="fine")
    x = m.conv(out(m, x), 8, kernel=1)
    parameters = [m.constant(np.full(8, v)) for v in (60000.0, 0.0, 0.0, 1e-3)]
    out(m, m.op("BatchNormalization", x, *parameters, name=SITE))
    onnx.save(m.build(), tmp_path / "model.onnx")
    for report in (
        folding.fold(tmp_path / "model.onnx", tmp_path / "folded.onnx", Options(verify=False)),
        folding.inspect(tmp_path / "model.onnx"),
    ):
        assert {o.node: o.status for o in report.outcomes} == {"fine": "folded", SITE: "kept"}
        assert next(o for o in report.outcomes if o.node == SITE).backward.code == "overflow"


def test_large_weights_are_never_inlined(source):
    """What this suite folds crosses the border between payloads in the file and small tensors in the message."""
    sizes = [len(t.raw_data) for t in onnx.load(source).graph.initializer]
    assert min(sizes) < INLINE_BYTES < max(sizes)


@pytest.mark.parametrize("folder", ["same", "other"])
def test_external_data_in_and_out(source, tmp_path, folder):
    onnx.save(onnx.load(source), source, save_as_external_data=True, location="weights.bin", size_threshold=0)
    target = tmp_path / ("folded.onnx" if folder == "same" else "sub/folded.onnx")
    target.parent.mkdir(exist_ok=True)
    report = folding.fold(source, target)
    assert report.verification.status == "verified"
    assert (target.parent / "folded.onnx.data").exists()
    expected = folding.fold_model(onnx.load(source))[0]
    found = {t.name: numpy_helper.to_array(t) for t in onnx.load(target).graph.initializer}
    for tensor in expected.graph.initializer:
        np.testing.assert_array_equal(found[tensor.name], numpy_helper.to_array(tensor))


def test_options_refuse_impossible_values():
    for wrong in ({"leftover": "both"}, {"verify_timeout": 0.0}, {"keep": "name"}, {"only": "name"}):
        with pytest.raises(OptionError):
            Options(**wrong)


def test_public_names_load_on_demand():
    assert folding.fold is api.fold
    assert callable(folding.verify)
    with pytest.raises(AttributeError, match="nonsense"):
        folding.nonsense  # noqa: B018  the access is the test
