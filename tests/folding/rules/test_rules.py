"""Every rule has rows that fold and rows that refuse (`support/rows`); every row computes the same before and after."""

from __future__ import annotations

import os
from importlib import import_module

import numpy as np
import pytest

from folding import Options
from folding.graph.sites import ELEMENTWISE
from folding.refusal import CODES
from folding.rules import RULES
from tests.patterns import TABLES
from tests.support.models import DIGITS, NO_VERIFY, SITE, Model, assert_left, assert_same_function, fold
from tests.support.rows.row import Folded, Kept, judge, out, start

MUTANT = os.environ.get("MUTANT")  # the module that the mutation check has broken: its own rows come first
MODULES = [import_module(f"tests.support.rows.{table}") for table in TABLES]
FIRST = sorted(MODULES, key=lambda table: table.__name__.rpartition(".")[2] != MUTANT)
ROWS = [(*row, getattr(table, "OPTIONS", NO_VERIFY)) for table in FIRST for row in table.ROWS]


OPSETS = [17] if MUTANT else [13, 17, 22]  # one notices a broken line as well as three


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize(("name", "build", "expected", "options"), ROWS, ids=[row[0] for row in ROWS])
def test_rule(name, build, expected, options, opset):
    m = Model(opset)
    build(m)
    before = m.build()
    after, report = fold(before, options)
    outcome = next(o for o in report.outcomes if o.node == SITE)
    judge(outcome, expected, {n.name: n.op_type for n in (*before.graph.node, *after.graph.node)})
    assert_left(after, report)
    if name not in {
        "wrong length",
        "one parameter for all",
        "negative variance",
        "infinite mean",
        "division by zero",
        "maximum with nothing",
    }:
        assert_same_function(before, after, m.feeds, DIGITS[m.dtype])
    if isinstance(expected, Folded) and expected.left is not None:
        assert len(after.graph.node) == expected.left
    again, second = fold(after, options)
    assert again == after
    assert not second.changed


def test_every_operator_with_a_rule_has_a_row():
    built = set()
    for _, build, *_ in ROWS:
        m = Model()
        build(m)
        built |= {node.op_type for node in m.nodes}
    elsewhere = {"Cast", "Upsample"}  # Cast is about types: test_types.py; Upsample ended: support/rows/resampling.py
    assert set(RULES) - built - elsewhere == set()
    assert set(RULES) >= ELEMENTWISE


# Codes whose rows are elsewhere: types and representability, structure, options.
ELSEWHERE = {
    "narrower-type": "test_types.py",
    "not-float": "test_types.py",
    "overflow": "test_types.py",
    "underflow": "test_types.py",
    "old-opset": "test_types.py",
    "unknown-opset": "test_types.py",
    "training-mode": "test_types.py",
    "extra-outputs": "test_types.py",
    "too-large": "test_types.py",
    "cancellation": "test_noise.py",
    "unknown-type": "test_regressions_structure.py",
    "constant-input": "test_regressions_structure.py",
    "overridable": "test_safety.py",
    "graph-output": "test_safety.py",
    "captured": "test_safety.py",
    "outer-scope": "test_safety.py",
    "annotated": "test_safety.py",
    "too-far": "test_safety.py",
    "custom-domain": "test_safety.py",
    "in-function": "test_functions.py",
    "attribute-reference": "test_functions.py",
    "kept-by-option": "test_safety.py",
    "taken-back": "test_taken_back.py",
}


def test_every_code_is_reached_by_a_row():
    here = {code for _, _, e, _ in ROWS if isinstance(e, Kept) for code in (e.backward, e.forward)}
    assert set(CODES) - here == set(ELSEWHERE)


@pytest.mark.parametrize("form", ["keep", "affine", "conv"])
def test_leftover_forms(form):
    m = Model(dtype=np.float32)
    out(m, m.bn(start(m)))
    before = m.build()
    after, report = fold(before, Options(verify=False, leftover=form))
    assert [n.op_type for n in after.graph.node] == {
        "keep": ["Asinh", "BatchNormalization", "Asinh"],
        "affine": ["Asinh", "Mul", "Add", "Asinh"],
        "conv": ["Asinh", "Conv", "Asinh"],
    }[form]
    assert report.bn_after == (form == "keep")
    assert_same_function(before, after, m.feeds, DIGITS[m.dtype])


def test_options_are_unused_by_default():
    assert Options(verify=False) == NO_VERIFY
