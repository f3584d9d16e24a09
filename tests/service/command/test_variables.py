"""A variable may be in a file, once and readable."""

from __future__ import annotations

import os

import pytest

from service.command.checks import mistyped
from service.command.main import main
from service.command.variables import from_files


def test_a_file_holds_the_value_of_a_variable(tmp_path):
    (tmp_path / "issuer").write_text("https://id.example.org\n")
    (tmp_path / "key").write_text("a secret ")
    given = {"BNFOLD_OIDC_ISSUER_FILE": f"{tmp_path}/issuer", "AWS_SECRET_ACCESS_KEY_FILE": f"{tmp_path}/key"}
    assert from_files(given) == {"BNFOLD_OIDC_ISSUER": "https://id.example.org", "AWS_SECRET_ACCESS_KEY": "a secret "}
    assert from_files({"AWS_WEB_IDENTITY_TOKEN_FILE": "/no/such/file", "BNFOLD_OTHER_FILE": "/none"}) == {}


def test_a_variable_that_is_set_twice_is_refused(tmp_path):
    with pytest.raises(RuntimeError, match="BNFOLD_PORT and BNFOLD_PORT_FILE are both set"):
        from_files({"BNFOLD_PORT": "1", "BNFOLD_PORT_FILE": str(tmp_path)})


@pytest.mark.parametrize(("content", "cause"), [(None, "No such file or directory"), (b"\xff", "it is no text")])
def test_a_file_that_cannot_be_read_is_named(tmp_path, content, cause):
    place = tmp_path / "port"
    if content is not None:
        place.write_bytes(content)
    with pytest.raises(RuntimeError, match=f"BNFOLD_PORT_FILE: {place}: {cause}; name a file"):
        from_files({"BNFOLD_PORT_FILE": str(place)})


def test_the_command_reads_it_and_says_what_is_wrong_in_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(os, "environ", os.environ | {"BNFOLD_PORT_FILE": f"{tmp_path}/port"})
    assert main(["keys", "list", "--data", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(f"bnfold: BNFOLD_PORT_FILE: {tmp_path}/port: No such file")
    (tmp_path / "port").write_text("99999")
    assert main(["keys", "list", "--data", str(tmp_path)]) == 2
    assert "BNFOLD_PORT is '99999'" in capsys.readouterr().err


def test_a_file_is_no_variable_that_was_mistyped():
    assert mistyped(["BNFOLD_OIDC_ISSUER_FILE", "BNFOLD_PORT"]) == []
    (sentence,) = mistyped(["BNFOLD_OIDC_ISUER_FILE"])
    assert "did you mean BNFOLD_OIDC_ISSUER_FILE?" in sentence
