"""docs/codes.md says what the codes mean, and its examples are true: of each code one model stays, one folds."""

from __future__ import annotations

import re
from textwrap import dedent, wrap

import pytest

from folding import fold_model
from folding.command.explain import DOCUMENT, sections
from folding.command.main import build_parser
from folding.command.options import chosen_options, spelled_out
from folding.options import as_flags
from folding.refusal import CODES
from tests.support import ROOT
from tests.support.examples import model_of

TEXT = (ROOT / "docs" / "codes.md").read_text()
EXAMPLE = re.compile(
    r"^It (stays|folds)(?: with `([^`]+)`| without the option)?(?::|\.)\n(?:\n((?:    .*\n?)+))?", re.MULTILINE
)
UNSHOWN = {"taken-back"}  # of a wrong fold there is no example
HALVES = {"unknown-type"}  # it refuses the half of a map; a report has the refusal of the whole one


def examples(code: str) -> dict[str, tuple[str, str]]:
    """The model that stays and the one that folds, each with its flags; one that is not repeated is the other."""
    found = {kind: (flags, dedent(model)) for kind, flags, model in EXAMPLE.findall(sections()[code])}
    return {kind: (flags, (model or found["stays"][1]).rstrip()) for kind, (flags, model) in found.items()}


def outcomes(flags: str, model: str) -> tuple[set[str], list[str]]:
    """The codes that a report of the model has, and the statuses."""
    given = build_parser().parse_args(["fold", "in", "-o", "out", "--no-verify", *spelled_out(flags.split())])
    _, report = fold_model(model_of(model), chosen_options(given))
    refused = [one for outcome in report.outcomes for one in (outcome, *outcome.left)]
    met = {way.code for one in refused for way in (one.backward, one.forward) if way is not None}
    return met, [outcome.status for outcome in report.outcomes]


def test_the_installed_copy_is_the_document():
    assert DOCUMENT.read_text() == TEXT, "cp docs/codes.md folding/command/codes.md"


def test_every_code_has_a_section_in_the_order_of_the_table():
    assert list(sections()) == list(CODES)
    assert re.findall(r"^\| `([a-z-]+)` \|", TEXT, re.MULTILINE) == list(CODES)


@pytest.mark.parametrize("code", CODES)
def test_a_section_says_what_the_code_says(code):
    meaning, hint = CODES[code]
    advice = f"What to do: {as_flags(hint)}." if hint else "Nothing to do."
    lead = f"{meaning[0].upper()}{meaning[1:]}. {advice}"
    assert sections()[code].strip().startswith("\n".join(wrap(lead, 118, break_on_hyphens=False)))
    assert f"| `{code}` | {meaning} | {as_flags(hint) or 'nothing to do'} |" in TEXT


@pytest.mark.parametrize("code", [code for code in CODES if code not in UNSHOWN])
def test_the_examples_are_true(code):
    found = examples(code)
    assert set(found) == {"stays", "folds"}
    met, statuses = outcomes(*found["stays"])
    assert "kept" in statuses or "split" in statuses
    assert code in met or code in HALVES
    met, statuses = outcomes(*found["folds"])
    assert code not in met
    assert statuses
    assert "kept" not in statuses
