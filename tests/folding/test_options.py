"""Options refuse what is of another type, name themselves for a command line, and say in `help` what each is."""

from __future__ import annotations

import inspect
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

import folding
from folding import Limits, OptionError, Options, Outcome, Refusal, Report, Verification
from folding.options import as_flags, option_fields, require_options
from folding.refusal import CODES
from folding.report.model import OutputError


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"verify": "no"}, "verify is 'no'; give True or False"),
        ({"freeze_training": 1}, "freeze_training is 1; choose one of no, stored, samples, or True or False"),
        ({"freeze_training": "samples"}, 'freeze_training is "samples"; give these samples (inputs="FILE.npz")'),
        ({"keep": 5}, 'keep is 5; give a list of names, e.g. ["head.*"]'),
        ({"only": [5]}, 'only is [5]; give a list of names, e.g. ["head.*"]'),
        ({"keep": "bn"}, "keep is a string; give a list, e.g. keep=['bn']"),
        ({"inputs": 3}, "inputs is 3; give a path"),
        ({"verify_timeout": "3"}, "verify_timeout is '3'; give a number of seconds above 0"),
        ({"verify_timeout": True}, "verify_timeout is True; give a number of seconds above 0"),
        ({"verify_timeout": float("nan")}, "verify_timeout is nan; give a number of seconds above 0"),
        ({"leftover": "both"}, "leftover is 'both'; choose one of keep, affine, conv"),
        ({"clamp": None}, "clamp is None; choose one of auto, never, always"),
    ],
)
def test_a_value_of_another_type_is_refused(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(OptionError) as error:
        Options(**given)
    assert str(error.value) == sentence


@pytest.mark.parametrize(("given", "stored"), [(True, "stored"), (False, "no"), ("stored", "stored")])
def test_freeze_training_was_a_boolean(given: bool | str, stored: str) -> None:
    options = Options(freeze_training=given)  # type: ignore[arg-type]
    assert options.freeze_training == stored
    assert options.freezes == (stored != "no")


def test_names_become_a_tuple_and_a_path_becomes_text() -> None:
    options = Options(keep=["a", "b"], inputs=Path("x.npz"))  # type: ignore[arg-type]
    assert (options.keep, options.inputs) == (("a", "b"), "x.npz")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"clamp": "always", "verify": False}, "a folding.Options: folding.Options(clamp='always', verify=False)"),
        ({"clamps": "always"}, 'a folding.Options, e.g. folding.Options(clamp="always")'),
        (None, 'options is of type NoneType; give a folding.Options, e.g. folding.Options(clamp="always")'),
    ],
)
def test_what_is_no_options_is_refused(given: object, sentence: str) -> None:
    with pytest.raises(OptionError) as error:
        require_options(given)
    assert str(error.value).endswith(sentence)


OTHERS = "keep only what `other` says: xclamp=True, clamps=True, a--b"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('use clamp="always" if', "use --clamp always if"),
        ("(verify=False)", "(--no-verify)"),
        ("use freeze_training=True", "use --freeze-training"),
        ('use freeze_training="samples"', "use --freeze-training samples"),
        ("drop the `keep` or `only` pattern", "drop the --keep or --only pattern"),
        ('(inputs="FILE.npz")', "(--inputs FILE.npz)"),
        ("allow more (`verify_timeout`)", "allow more (--verify-timeout)"),
        (
            "keep only what `other` says: xclamp=True, clamps=True",
            "keep only what `other` says: xclamp=True, clamps=True",
        ),
    ],
)
def test_options_are_flags_on_a_command_line(text: str, expected: str) -> None:
    assert as_flags(text) == expected


def test_no_hint_of_the_library_names_a_flag() -> None:
    assert not [code for code, (meaning, hint) in CODES.items() if "--" in meaning + hint]


@pytest.mark.parametrize("kind", [Options, Report, Outcome, Refusal, Verification, OutputError, Limits])
def test_help_says_what_every_field_is(kind: type) -> None:
    rows = (inspect.getdoc(kind) or "").partition("\nAttributes:\n")[2].splitlines()
    said = {row.strip().split(": ")[0]: row for row in rows if row.startswith("    ") and row[4] != " "}
    assert list(said) == [field.name for field in fields(kind)]
    assert all(len(row.partition(": ")[2]) > len("a word") for row in said.values())


def test_help_says_of_an_option_what_the_command_says() -> None:
    for name, declared in option_fields().items():
        assert f"    {name}: {declared['help']}." in (inspect.getdoc(Options) or "")


def test_the_public_names_are_listed() -> None:
    assert dir(folding) == sorted([*folding.__all__, "__version__"])
    assert all(getattr(folding, name) is not None for name in dir(folding))


def test_what_is_the_default_is_not_repeated() -> None:
    assert repr(Options(clamp="always", keep=["a"])) == "Options(keep=('a',), clamp='always')"  # type: ignore[arg-type]
    assert (repr(Options()), repr(Limits(nodes=3))) == ("Options()", "Limits(nodes=3)")


def test_the_version_is_that_of_the_distribution():
    assert folding.__version__ == version("bnfold")
