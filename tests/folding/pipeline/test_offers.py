"""What more folds with another option is planned, not guessed: a fold with that option does as much."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import folding
from folding import Options
from folding.pipeline.offers import offers
from folding.report.digest import tally
from folding.report.model import Offer
from tests.support.models import NO_VERIFY, Model, fold
from tests.support.reports import bn, kept

FREEZE, CLAMP = ("freeze_initializers", True), ("clamp", "always")


def network(*, overridable: bool = True) -> Model:
    """Three normalizations behind convolutions, and two that move through Relu only if it becomes Max."""
    m = Model(dtype=np.float32)
    x = m.op("Asinh", m.x(2, 4, 5, 6))
    for i in range(3):
        x = m.op("Asinh", m.bn(m.conv(x, 4, 1), name=f"after{i}"))
    for i in range(2):
        x = m.op("Asinh", m.conv(m.op("Relu", m.bn(x, name=f"before{i}")), 4, 1))
    if overridable:
        m.overridable = set(m.initializers)
    return m


def whole(options: Options, model: Model) -> int:
    return tally(fold(model.build(), options)[1].outcomes, bn=True).whole


@pytest.mark.parametrize(
    ("overridable", "expected"),
    [
        (True, (Offer("freeze_initializers=True", 3), Offer('clamp="always"', 2))),
        (False, (Offer('clamp="always"', 2),)),
    ],
)
def test_the_numbers_are_those_of_folds_with_the_options(overridable, expected):
    model, options = network(overridable=overridable), NO_VERIFY
    report = fold(model.build(), options)[1]
    assert report.offers == expected
    folded = tally(report.outcomes, bn=True).whole
    for (name, value), offer in zip([FREEZE, CLAMP][-len(expected) :], expected, strict=True):
        options = replace(options, **{name: value})
        folded += offer.more
        assert whole(options, model) == folded


def test_training_mode_is_turned_off_by_an_option():
    m = Model()
    m.op("Asinh", m.bn(m.conv(m.op("Asinh", m.x(2, 4, 5, 6)), 4), training_mode=1))
    assert fold(m.build())[1].offers == (Offer("freeze_training=True", 1),)


def test_a_fold_that_its_type_cannot_hold_is_not_offered():
    m = Model(dtype=np.float16)
    x = m.conv(m.op("Asinh", m.x(2, 4, 5, 6)), 4, 1)
    m.op("Asinh", m.bn(x, gamma=60000.0, epsilon=1e-9))
    m.overridable = {name for name in m.initializers if name != "c1"}
    report = fold(m.build())[1]
    assert report.outcomes[0].backward.code == "overridable"
    assert report.offers == ()


@pytest.mark.parametrize("write", [True, False])
@pytest.mark.parametrize("require_change", [True, False])
def test_files_have_offers_too(tmp_path, write, require_change):
    source = tmp_path / "model.onnx"
    source.write_bytes(network().build().SerializeToString())
    options, target = Options(require_change=require_change), source if write else None
    if require_change:
        with pytest.raises(folding.NothingToFoldError) as error:
            folding.fold(source, target, options)
        report = error.value.report
    else:
        report = folding.fold(source, target, options)
    assert [offer.more for offer in report.offers] == [3, 2]


def test_a_fold_in_place_plans_with_the_original(tmp_path):
    source = tmp_path / "model.onnx"
    source.write_bytes(network(overridable=False).build().SerializeToString())
    report = folding.fold(source, source)
    assert report.verification.status == "verified"
    assert report.offers == (Offer('clamp="always"', 2),)
    assert folding.inspect(source).offers == report.offers


def test_what_no_refusal_names_costs_no_plan():
    def never(options: Options) -> tuple[folding.Outcome, ...]:
        raise AssertionError(options)

    clamped = kept("b", folding.Refusal("clamp", "", "", ""))
    assert list(offers((bn(), kept()), Options(), never)) == []
    assert list(offers((bn(), clamped), Options(clamp="always"), never)) == []
    assert list(offers((bn(), clamped), Options(), lambda _: (bn(), clamped))) == []


def test_an_option_without_gain_is_not_taken_along():
    refused = [folding.Refusal(code, "", "", "") for code in ("overridable", "clamp")]
    chosen = []

    def plan(options: Options) -> tuple[folding.Outcome, ...]:
        chosen.append(options)
        return (bn(), kept()) if options.clamp == "always" else (kept(), kept())

    assert list(offers((kept(backward=refused[0]), kept(backward=refused[1])), Options(), plan)) == [
        Offer('clamp="always"', 1)
    ]
    assert [options.freeze_initializers for options in chosen] == [True, False]
