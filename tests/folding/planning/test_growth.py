"""The work of a fold grows in proportion to the graph: steps are counted, not seconds."""

from __future__ import annotations

import sys
from collections import Counter

import pytest

import folding
from benchmarks.growth import FAMILIES, Growing
from folding import Options, fold_model
from folding.analysis import constants
from folding.graph import index
from folding.planning import run
from tests.support.models import NO_VERIFY

SIZES = (16, 32, 64)
LINEAR = (
    2.15  # twice the operators take twice the steps; a tree of sums one level more. Quadratic work takes four times
)
ROOT = folding.__path__[0]


def kept(count):
    """Normalizations that stay, between operators that nothing passes: every round tries them again."""
    g, x = Growing(), "x"
    for _ in range(count):
        x = g.add("Sigmoid", g.normalized(x))
    return g.model(x)


def leftovers(count):
    """A padded convolution takes the scale; a shift stays as an Add, which is inserted."""
    g, x = Growing(), "x"
    for _ in range(count):
        x = g.add("Sigmoid", g.conv(g.normalized(g.add("Sigmoid", x)), kernel=3))
    return g.model(x)


def many_readers(count):
    """One value that many normalizations read, and one constant that many convolutions read."""
    g = Growing()
    shared = g.conv("x")
    weight = g.nodes[-1].input[1]
    ends = []
    for _ in range(count):
        ends += [g.normalized(shared), g.normalized(g.add("Conv", "x", weight))]
    return g.model(g.summed([g.add("Sigmoid", end) for end in ends]))


def steps(model):
    """The lines and turns of loops that folding the model executes in the library."""
    counted = 0

    def trace(frame, event, _):
        nonlocal counted
        if not frame.f_code.co_filename.startswith(ROOT):
            return None
        counted += event == "line"
        return trace

    former = sys.gettrace()  # that of a measurement of coverage
    sys.settrace(trace)
    try:
        fold_model(model, NO_VERIFY)
    finally:
        sys.settrace(former)
    return counted


@pytest.mark.parametrize("build", [*FAMILIES.values(), kept, leftovers, many_readers])
def test_steps_grow_as_the_graph(build):
    small, medium, large = (steps(build(count)) for count in SIZES)
    assert (large - medium) / (medium - small) < LINEAR


def test_constants_are_evaluated_once(monkeypatch):
    """Whatever their size, as long as all together fit into memory; those that do not are computed again."""
    asked = Counter()
    evaluated = constants.of_tensor

    def counting(scope, tensor):
        asked[tensor.name] += 1
        return evaluated(scope, tensor)

    monkeypatch.setattr(constants, "of_tensor", counting)
    monkeypatch.setattr(index, "KEPT_BYTES", 0)
    model = leftovers(8)
    expected, _ = fold_model(model, NO_VERIFY)
    assert asked
    assert set(asked.values()) == {1}
    monkeypatch.setattr(index, "HELD_BYTES", 0)
    again, _ = fold_model(model, NO_VERIFY)
    assert again == expected
    assert max(asked.values()) > 2


def test_a_round_looks_at_each_open_site_once(monkeypatch):
    tried = Counter()
    original = run.Run._try

    def counting(one, node, planning):
        tried[node.key, planning.__name__] += 1
        return original(one, node, planning)

    monkeypatch.setattr(run.Run, "_try", counting)
    fold_model(FAMILIES["chain"](20), Options(verify=False))
    assert set(tried.values()) == {1}


def test_fresh_names_are_found_at_once():
    """Where many want one name, each looks at the names that it has not seen yet."""

    class Names(set):
        looks = 0

        def __contains__(self, name):
            self.looks += 1
            return super().__contains__(name)

    graph = index.Graph.__new__(index.Graph)
    graph.names, graph._numbers = Names({"w", "w_3"}), {}
    found = [graph.fresh_name("w") for _ in range(50)]
    assert found[:3] == ["w_2", "w_4", "w_5"]
    assert len(set(found)) == 50
    assert graph.names.looks < 3 * 50
