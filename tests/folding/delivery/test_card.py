"""The card in a file's metadata: what was done, to what, by what; the same each time, and only where it is wanted."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest

import folding
from folding import Options, Verification
from tests.support.fleets import save, small

if TYPE_CHECKING:
    from pathlib import Path


def card(path: Path) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load(path, load_external_data=False).metadata_props}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def folded(tmp_path: Path, *, name: str = "b.onnx", source: str = "a.onnx", **options: Any) -> dict[str, str]:
    folding.fold(tmp_path / source, tmp_path / name, Options(**options))
    return card(tmp_path / name)


def test_it_says_what_was_done(tmp_path):
    save(tmp_path / "a.onnx", stays=True)
    assert folded(tmp_path, card=True, keep=["stays"], leftover="affine", target="onnxruntime-cpu") == {
        "bnfold.version": folding.__version__,  # type: ignore[attr-defined]
        "bnfold.options": '{"keep": ["stays"], "leftover": "affine", "target": "onnxruntime-cpu"}',
        "bnfold.target": "onnxruntime-cpu",
        "bnfold.source.sha256": sha256(tmp_path / "a.onnx"),
        "bnfold.normalizations": "2 -> 1",
        "bnfold.nodes": "6 -> 5",
        "bnfold.outcomes": '{"folded": 1, "kept": 1}',
        "bnfold.changes": '{"shape of a value recorded": 4}',
        "bnfold.verification": "verified",
    }


def test_it_knows_the_external_data_and_what_else_was_done(tmp_path):
    model = small(3)
    model.graph.node.insert(0, onnx.helper.make_node("Identity", ["x0"], ["same"], name="same"))
    model.graph.node[1].input[0] = "same"
    onnx.save(model, tmp_path / "a.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    entries = folded(tmp_path, card=True, clean=True, verify=False)
    assert json.loads(entries["bnfold.source.data.sha256"]) == {"w.bin": sha256(tmp_path / "w.bin")}
    assert sum(json.loads(entries["bnfold.changes"]).values()) == 1
    assert entries["bnfold.verification"] == "not verified"


def test_samples_are_known_by_their_content_not_by_their_place(tmp_path):
    save(tmp_path / "a.onnx")
    np.savez(tmp_path / "x.npz", x0=np.zeros((1, 3, 6, 6), np.float32))
    entries = folded(tmp_path, card=True, inputs=str(tmp_path / "x.npz"))
    assert json.loads(entries["bnfold.options"]) == {"inputs": f"sha256:{sha256(tmp_path / 'x.npz')}"}


def test_it_comes_only_where_it_is_asked_for(tmp_path):
    save(tmp_path / "a.onnx")
    assert folded(tmp_path) == {}
    assert folded(tmp_path, digest=True) == {}


def test_what_is_delivered_with_it_changes_no_byte_of_the_model(tmp_path):
    save(tmp_path / "a.onnx")
    folded(tmp_path, card=True)
    folded(tmp_path, name="c.onnx", card=True, digest=True)
    folding.fold(tmp_path / "a.onnx", tmp_path / "r", Options(triton="m"))
    contents = {path.read_bytes() for path in (tmp_path / "b.onnx", tmp_path / "c.onnx", tmp_path / "r/m/1/model.onnx")}
    assert len(contents) == 1


@pytest.mark.parametrize("external", ["", "w.bin"])
def test_a_second_run_changes_nothing(tmp_path, external):
    save(tmp_path / "a.onnx", stays=True, external=external)
    first = folded(tmp_path, name="b.onnx", card=True)
    again = folding.fold(tmp_path / "b.onnx", tmp_path / "sub.onnx", Options(card=True))
    assert (tmp_path / "sub.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    assert not again.changed
    assert again.verification.reason == "nothing was folded: the output is the input, byte for byte"
    assert card(tmp_path / "sub.onnx") == first
    folding.fold(tmp_path / "b.onnx", tmp_path / "b.onnx", Options(card=True))  # in place
    assert (tmp_path / "sub.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


@pytest.mark.parametrize("external", ["", "w.bin"])
def test_a_model_in_which_nothing_folds_gets_one_and_is_the_same_else(tmp_path, external):
    save(tmp_path / "a.onnx", stays=True, external=external)
    report = folding.fold(tmp_path / "a.onnx", tmp_path / "b.onnx", Options(card=True, keep=["*"]))
    assert not report.changed
    assert report.verification.reason == "nothing was folded: the output is the input, with a card"
    assert card(tmp_path / "b.onnx")["bnfold.normalizations"] == "2 -> 2"
    assert report.bytes_after == sum(path.stat().st_size for path in tmp_path.glob("b.onnx*"))
    one, other = onnx.load(tmp_path / "a.onnx"), onnx.load(tmp_path / "b.onnx")
    del other.metadata_props[:]
    assert other == one


def test_another_fold_writes_it_anew_and_leaves_what_others_wrote(tmp_path):
    model = small(stays=True)
    model.metadata_props.add(key="author", value="me")
    model.metadata_props.add(key="bnfoldish", value="not ours")
    onnx.save(model, tmp_path / "a.onnx")
    first = folded(tmp_path, card=True, keep=["folds"], name="b.onnx")
    second = folded(tmp_path, card=True, source="b.onnx", name="c.onnx")
    assert (first["author"], second["author"], second["bnfoldish"]) == ("me", "me", "not ours")
    assert second["bnfold.source.sha256"] == sha256(tmp_path / "b.onnx")
    assert (first["bnfold.normalizations"], second["bnfold.normalizations"]) == ("2 -> 2", "2 -> 1")
    keys = [entry.key for entry in onnx.load(tmp_path / "c.onnx").metadata_props]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("external", ["", "w.bin"])
def test_a_model_that_could_not_be_verified_says_so(tmp_path, monkeypatch, external):
    save(tmp_path / "a.onnx", external=external)
    monkeypatch.setattr("folding.api.verify", lambda *_, **__: Verification("not verified", "no time"))
    report = folding.fold(tmp_path / "a.onnx", tmp_path / "b.onnx", Options(card=True, digest=True))
    assert card(tmp_path / "b.onnx")["bnfold.verification"] == "not verified"
    assert report.bytes_after == sum((tmp_path / one.name).stat().st_size for one in report.digests)
    assert [one.sha256 for one in report.digests] == [sha256(tmp_path / one.name) for one in report.digests]
    onnx.checker.check_model(tmp_path / "b.onnx")
    assert len([*tmp_path.glob(".*")]) == 0
    model, _ = folding.fold_model(onnx.load(tmp_path / "a.onnx"), Options(card=True))
    assert {one.key: one.value for one in model.metadata_props}["bnfold.verification"] == "not verified"


def test_a_model_in_memory_gets_one(tmp_path):
    before = small()
    model, report = folding.fold_model(before, Options(card=True))
    entries = {entry.key: entry.value for entry in model.metadata_props}
    assert entries["bnfold.source.sha256"] == hashlib.sha256(before.SerializeToString()).hexdigest()
    assert entries["bnfold.verification"] == report.verification.status == "verified"
    assert report.bytes_after == len(model.SerializeToString())
    again, second = folding.fold_model(model, Options(card=True))
    assert again == model
    assert not second.changed
    bare, third = folding.fold_model(
        onnx.ModelProto(ir_version=8, graph=before.graph, opset_import=before.opset_import),
        Options(keep=["*"], card=True),
    )
    assert {entry.key: entry.value for entry in bare.metadata_props}["bnfold.outcomes"] == '{"kept": 1}'
    assert "with a card" in third.verification.reason
