from __future__ import annotations

import pytest

from folding.errors import OptionError
from folding.graph.idioms import BIAS, IDIOMS
from folding.targets.model import NAMES, load

IDIOM_NAMES = {idiom.name for idiom in (*IDIOMS, BIAS)}


@pytest.mark.parametrize("name", NAMES)
def test_every_target_says_what_the_program_asks(name):
    target = load(name)
    assert target.name == name
    assert target.title
    assert target.version in target.title or target.version.partition(".")[0] in target.title or target.source
    assert target.opset[0] < target.opset[1]
    assert target.ir[0] < target.ir[1]
    assert set(target.idioms) == IDIOM_NAMES
    assert set(target.idioms.values()) <= {"operator", "form", "none"}
    assert target.clamp in {"never", "always"}
    assert target.align & (target.align - 1) == 0
    assert target.fallback in {"", *NAMES}
    assert target.takes("Conv", 17, "float")
    assert not target.takes("Conv", 17, "string") or not target.operators["Conv"].types
    assert not target.takes("NoSuchOperator", 17)
    for operator in target.operators.values():
        ranges = [span.opsets for span in operator.spans]
        assert ranges == sorted(ranges)
        assert all(first <= last for first, last in ranges)
        assert operator.opsets == (ranges[0][0], ranges[-1][1])


def test_an_unknown_target_is_named_with_what_was_meant():
    with pytest.raises(
        OptionError, match=r"no target 'tensort-11' \(did you mean tensorrt-11.*targets are .*tensorrt-10"
    ):
        load("tensort-11")
    with pytest.raises(OptionError, match=r"no target 'abacus'; targets are"):
        load("abacus")
