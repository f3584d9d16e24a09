"""A fixed slice of the mutation check: the tests of the algebra notice when one line of algebra is broken."""

from __future__ import annotations

import mutation
import pytest

# file, and how the one mutant of the line is described
SLICE = [
    ("sites.py", "beta - scale * mean  ->  beta + scale * mean"),
    ("affine.py", "self.scale * first.shift + self.shift  ->  self.scale * first.shift - self.shift"),
    ("rules/normalization.py", "scale * beta.values() + shift  ->  scale * beta.values() - shift"),
    ("rules/rule.py", "scale * old.values() + shift  ->  scale * old.values() - shift"),
    ("rules/gemm.py", "shift / beta  ->  shift * beta"),
    (
        "rules/convolution.py",
        (
            "require(a.is_linear or not is_padded(node, weight), 'zero-padding',...  ->  "
            "require(True, 'zero-padding', 'a shift does not pass zero padding')"
        ),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("file", "what"), SLICE)
def test_the_tests_notice(file, what):
    mutant = next(m for m in mutation.mutants() if (m.file, m.what) == (file, what))
    assert mutation.killer(mutant)


def test_what_is_not_broken_is_not_noticed(monkeypatch):
    """The slice means something: the same way of running it passes on the code as it is."""
    monkeypatch.setattr(mutation, "SUITES", mutation.FIRST)  # the others run here anyway
    source = (mutation.ROOT / "folding" / "affine.py").read_text()
    assert mutation.killer(mutation.Mutant("affine.py", 0, "nothing", source)) is None
