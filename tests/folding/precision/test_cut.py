"""The minimum cut is minimal, whatever the costs, and takes the fewest zeros."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from folding.precision import elimination
from folding.precision.cut import FREE, NEVER, Network

COSTS = st.sampled_from([0, 1, 2, 3, 5, 7, NEVER])


def cost(network: Network, sides: tuple[int, ...]) -> int:
    total = sum(network.zero[v] if side == 1 else network.one[v] for v, side in enumerate(sides))
    return total + sum(c for u, v, c in network.edges if sides[u] == 0 and sides[v] == 1)


def allowed(network: Network) -> list[tuple[int, ...]]:
    return list(itertools.product(*([side] if side != FREE else [0, 1] for side in network.fixed)))


@st.composite
def networks(draw):
    network = Network()
    count = draw(st.integers(1, 8))
    for _ in range(count):
        network.vertex(draw(st.sampled_from([FREE, FREE, FREE, 0, 1])), draw(COSTS), draw(COSTS))
    for _ in range(draw(st.integers(0, 14))):
        u, v = draw(st.integers(0, count - 1)), draw(st.integers(0, count - 1))
        if u != v:
            network.edge(u, v, draw(COSTS))
    return network


@pytest.fixture(params=["eliminated", "by tables", "by flows"])
def way(request, monkeypatch):
    """The ways to a cut, each on all networks."""
    if request.param == "by tables":
        monkeypatch.setattr(elimination, "PAIR", -1)
    elif request.param == "by flows":
        monkeypatch.setattr(elimination, "zeros", lambda *_: None)


both = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@both
@given(network=networks())
def test_no_other_choice_costs_less(way, network):
    assert cost(network, tuple(network.sides())) == min(cost(network, sides) for sides in allowed(network))


@both
@given(network=networks())
def test_of_the_cheapest_choices_it_is_the_one_with_the_fewest_zeros(way, network):
    for v in range(len(network.fixed)):
        network.one[v] = max(network.one[v], 1)  # so that every part is pulled at
    sides = tuple(network.sides())
    least = min(cost(network, other) for other in allowed(network))
    assert sides.count(0) == min(other.count(0) for other in allowed(network) if cost(network, other) == least)


def test_a_part_at_which_nothing_pulls_stays():
    network = Network()
    first, second = network.vertex(), network.vertex()
    network.edge(first, second, 1)
    assert network.sides() == [0, 0]


@pytest.mark.parametrize("length", [10, 20_000])
def test_a_long_chain_needs_no_recursion(length):
    network, rng = Network(), random.Random(0)
    network.vertex(0)
    for number in range(1, length):
        network.vertex(FREE, rng.choice([0, 0, 9]), rng.choice([0, 3]))
        network.edge(number - 1, number, rng.randint(1, 20))
        network.edge(number, number - 1, rng.randint(1, 20))
    network.vertex(1)
    network.edge(length - 1, length, 4)
    assert set(network.sides()) == {0, 1}
