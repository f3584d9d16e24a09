"""/docs and /problems: pages of this server alone that say what the OpenAPI document and the problems say."""

from __future__ import annotations

import re
from html import unescape
from typing import TYPE_CHECKING

import pytest

from service.openapi import page
from service.problems import KINDS, TYPE, as_dict
from tests.support.service.server import Running

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Running]:
    with Running(tmp_path_factory.mktemp("server") / "data", require_keys=True) as running:
        yield running


def text(server: Running, path: str) -> str:
    answer = server.client.get(path)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/html")
    assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
    return answer.text


@pytest.mark.parametrize("path", ["/docs", "/problems/", *(TYPE + slug for slug in KINDS)])
def test_a_page_asks_for_nothing_elsewhere_and_runs_nothing(server, path):
    html = text(server, path)
    assert not re.search(r"<script|<style|\son\w+=|\sstyle=|javascript:", html)
    asked = re.findall(r'(?:src|href)="([^"]+)"', html)
    assert asked
    for address in {one for one in asked if not one.startswith("#")}:
        assert address.startswith("/")
        assert server.client.get(address).status_code == 200
    for anchor in {one[1:] for one in asked if one.startswith("#")}:
        assert f'id="{anchor}"' in html


def test_every_operation_and_parameter_is_listed(server):
    html = unescape(re.sub(r"</?code>", "", text(server, "/docs")))
    document = server.client.get("/openapi.json").json()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert f"{method.upper()} {path}" in html
            assert f'id="{operation["operationId"]}"' in html
            for one in operation["parameters"]:
                assert f">{one['name']}</th>" in html


def test_text_of_the_document_is_no_markup():
    operation = {
        "operationId": "<b>",
        "description": "<img src=x>",
        "parameters": [{"name": "<i>", "in": "query", "schema": {"type": "string"}, "description": "`<u>`"}],
        "responses": {"200": {"description": "<s>"}},
    }
    html = page.interface({"info": {"description": "<a>"}, "paths": {"/<p>": {"get": operation}}})
    for markup in ("<b>", "<img src=x>", "<i>", "<u>", "<s>", "<a>"):
        assert markup not in html


def test_the_type_of_a_problem_leads_to_what_it_means(server):
    problem = server.client.get("/v1/jobs/x").json()
    assert problem["type"] == "/problems/unauthorized"
    html = unescape(text(server, problem["type"]))
    assert KINDS["unauthorized"].title in html
    assert KINDS["unauthorized"].advice in html


def test_there_is_no_page_for_another_type(server):
    assert server.client.get("/problems/none").json()["type"] == as_dict("not-found", "")["type"]


def test_examples_of_problems_are_sentences_that_say_what_to_do(server):
    document = server.client.get("/openapi.json").json()
    examples = re.findall(r"'detail': [\"'](.*?)[\"']}", str(document))
    assert len(examples) > len(KINDS)
    assert not [one for one in examples if "; " not in one or "what to do" in one]
