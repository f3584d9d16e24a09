"""The service's options are the library's: one list of names, one set of defaults."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from folding import Options
from folding.options import option_fields
from service import problems
from service.options import FoldQuery, canonical, from_canonical
from service.problems import KINDS, Problem
from service.settings import GIB, Settings


def test_names_and_defaults_are_the_librarys():
    query = FoldQuery()
    assert set(FoldQuery.model_fields) - {"name"} == set(option_fields()) - {"inputs"}
    assert query.options(300) == Options()
    described = {name: field.description for name, field in FoldQuery.model_fields.items() if name != "name"}
    assert described == {name: declared["help"] for name, declared in option_fields().items() if name != "inputs"}


@pytest.mark.parametrize(
    "given",
    [
        {"keeep": ["a"]},
        {"leftover": "gone"},
        {"freeze_training": "samples"},
        {"verify_timeout": 0},
        {"verify_timeout": "nan"},
        {"verify_timeout": "inf"},
        {"keep": ["a"] * 1001},
        {"only": ["x" * 501]},
    ],
)
def test_impossible_values_are_refused(given):
    with pytest.raises(ValidationError):
        FoldQuery(**given)


@pytest.mark.parametrize(
    ("given", "meant"), [("true", "stored"), ("on", "stored"), (False, "no"), ("stored", "stored")]
)
def test_freeze_training_was_a_boolean(given, meant):
    assert FoldQuery(freeze_training=given).options(300).freeze_training == meant


def test_what_this_server_does_not_give_is_refused_where_it_was_asked_for():
    with pytest.raises(Problem, match="300 s at most"):
        FoldQuery(verify_timeout=301).options(300)
    assert FoldQuery(verify_timeout=5).options(300).verify_timeout == 5
    assert FoldQuery().options(10).verify_timeout == 10


@pytest.mark.parametrize("name", ["", "..", "a/b", "a\\b", "a\nb", "a\0", "x" * 121, "\u202eonnx"])
def test_a_name_is_a_plain_file_name(name):
    with pytest.raises(Problem, match="plain file name"):
        FoldQuery(name=name).file_name()


def test_one_meaning_has_one_canonical_text():
    a, b = Options(keep=("b", "a", "b"), verify_timeout=5), Options(keep=("a", "b"), verify_timeout=5.0)
    assert canonical(a) == canonical(b) != canonical(Options())
    assert from_canonical(canonical(b)) == b


def test_what_is_worth_a_retry_is_known():
    assert set(KINDS) > problems.WORTH_A_RETRY


def test_a_problem_describes_itself():
    document = Problem("too-large", "It is too large; make it smaller.", instance="/v1/jobs/1").as_dict()
    assert document == {
        "type": "/problems/too-large",
        "title": "It is larger than this server takes",
        "status": 413,
        "detail": "It is too large; make it smaller.",
        "instance": "/v1/jobs/1",
    }


@pytest.mark.parametrize(
    ("host", "loopback"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("10.0.0.1", False), ("bn", False)]
)
def test_every_bind_but_loopback_asks_for_keys(host, loopback):
    settings = Settings(host=host)
    assert settings.is_loopback == loopback
    assert settings.asks_for_keys != loopback
    assert Settings(host=host, require_keys=True).asks_for_keys


def test_settings_come_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("BNFOLD_LIMITS", '{"nodes": 5}')
    monkeypatch.setenv("BNFOLD_WORKERS", "3")
    monkeypatch.chdir(tmp_path)
    settings = Settings()
    assert (settings.limits, settings.workers, settings.data) == ({"nodes": 5}, 3, tmp_path / "bnfold-data")
    assert settings.bounds(0).memory >= 2 * GIB
    with pytest.raises(ValidationError, match="no limit knodes"):
        Settings(limits={"knodes": 5})
