"""The service does what its OpenAPI document says: every operation, asked for in many ways, right and wrong."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import uuid
from typing import TYPE_CHECKING, Any

import jsonschema_rs
import pytest
import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema
from schemathesis.engine.run import PhaseName
from schemathesis.openapi import from_asgi
from schemathesis.python import asgi
from schemathesis.transport.serialization import Binary

from service.http.app import create_app
from service.openapi.answers import FORM_TYPE, PIECE_TYPE
from service.openapi.headers import ADDRESS, TOKEN_FORM, TUS
from service.process.forkserver import Program
from service.settings import Settings
from service.webhook.receivers import Receivers
from service.work import MODEL_TYPE
from tests.service.http.test_fold import digest
from tests.support import ROOT
from tests.support.service.server import SMALL, Running, model_bytes
from tests.support.waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fastapi import FastAPI
    from schemathesis import HookContext

SEED = int(os.environ.get("SCHEMA_SEED", "1"))
EXAMPLES = int(os.environ.get("SCHEMA_EXAMPLES", "4"))
EMPTY = hashlib.sha256(b"").hexdigest()
UNASKED = " in header - object with unexpected properties"
INSTANT = Program("tests.support.service.instant", (*Program().paths, ROOT))
MODEL = b"a model"
OF_JOBS = ("result", "result_head", "report")  # a job that ended badly answers with its problem
KNOWN: dict[str, str] = {}  # what path parameters can be that name something
schemathesis.serializer.alias(PIECE_TYPE, MODEL_TYPE)
APPS: list[FastAPI] = []  # the one that is asked
LARGEST = 100_000  # bytes of an upload: many are begun, and each reserves its own
OF_UPLOADS = ("upload", "upload_head", "upload_piece", "upload_end")
OTHER_TUS = {"expected-statuses": ["4xx"]}  # 412, which tus 1.0 has for its version, and 413 for a length


@pytest.fixture
def app(tmp_path) -> Iterator[FastAPI]:
    settings = Settings(
        **SMALL
        | {"data": tmp_path / "data", "allowed_hosts": (asgi.HOST,), "wait_seconds": 0.1, "require_keys": False}
        | {"max_upload_bytes": LARGEST}
    )
    app = create_app(settings, INSTANT, Receivers(look_up=nowhere))
    with asgi.get_client(app) as client:
        answer = client.post("/v1/fold", data=MODEL)
    APPS[:] = [app]
    KNOWN.update(job_id=answer.headers["Bnfold-Job"], sha256=hashlib.sha256(MODEL).hexdigest())
    yield app
    asgi.shutdown_lifespans()


async def nowhere(host: str, port: int) -> list[str]:
    raise OSError(f"{host}:{port} is not looked up here")


@schemathesis.hook
def filter_query(context: HookContext, query: dict[str, Any]) -> bool:
    return is_expressible(query or {})


@schemathesis.hook
def filter_body(context: HookContext, body: Any) -> bool:
    return not isinstance(body, dict) or is_expressible(body)


def is_expressible(given: dict[str, Any]) -> bool:
    """Whether a schema can say that it is right.

    It cannot say which characters of Unicode are printable, nor how many bytes they take.
    """
    return str(given.get("name", "")).isascii()


@schemathesis.hook
def before_call(context: HookContext, case: schemathesis.Case, kwargs: dict[str, Any]) -> None:
    """Fill in what only a client can know: the digest of its model, a new name for a request, and often its job."""
    headers = case.headers or {}
    if isinstance(case.body, dict):
        headers.pop("Repr-Digest", None)
    if "Repr-Digest" in headers and isinstance(case.body, Binary):
        case.headers["Repr-Digest"] = digest(case.body.data)
    if re.fullmatch(TOKEN_FORM, headers.get("Idempotency-Key", "")):
        case.headers["Idempotency-Key"] = str(uuid.uuid4())
    for name, value in (case.path_parameters or {}).items():
        if isinstance(value, str) and value.startswith(tuple("012345678")):
            case.path_parameters[name] = begun() if name == "upload" else KNOWN[name]
    if "Repr-Digest" in headers and "Upload-Length" in headers:
        case.headers["Repr-Digest"] = digest(b"")  # of what comes later, and may be nothing
    if headers.get("Upload-Offset", "").isdecimal():
        case.headers["Upload-Offset"] = "0"


def begun() -> str:
    """The id of a new upload, of which nothing has arrived: a piece of it changes what the next one may be."""
    headers = {"Tus-Resumable": TUS, "Upload-Length": str(LARGEST)}
    places: list[str] = []
    with asgi.get_client(APPS[0]) as client:

        def has_begun() -> bool:
            """A server that has too much at once says to come again."""
            places.append(client.post("/v1/uploads", headers=headers).headers.get("Location", ""))
            return bool(places[-1])

        until(has_begun)
    return places[-1].rpartition("/")[2]


# Threads of the server draw random numbers, too, and Hypothesis takes them for those of a strategy.
@pytest.mark.filterwarnings("ignore:Do not use the .random. module inside strategies")
def test_every_operation_keeps_its_word(app):
    of_failed_jobs = {"positive_data_acceptance": {"expected-statuses": ["2xx", "3xx", 404, 409, 416, 422]}}
    of_cancelled_ones = {"use_after_free": {"enabled": False}}  # DELETE cancels; only `erase` removes what has ended
    config = {
        "seed": SEED,
        "generation": {"max-examples": EXAMPLES, "database": "none"},
        "operations": [
            {"include-operation-id": list(OF_JOBS), "checks": of_failed_jobs | of_cancelled_ones},
            {"include-operation-id": ["job"], "checks": of_cancelled_ones},
            {
                "include-operation-id": list(OF_UPLOADS),
                "checks": {"negative_data_rejection": OTHER_TUS, "missing_required_header": OTHER_TUS},
            },
        ],
    }
    schema = from_asgi("/openapi.json", app, config=SchemathesisConfig.from_dict(config))
    found, asked, followed = set(), 0, 0
    for event in from_schema(schema).execute():
        if isinstance(event, events.NonFatalError):
            raise event.value
        assert not isinstance(event, events.FatalError), event
        if isinstance(event, events.ScenarioFinished):
            followed += event.phase is PhaseName.STATEFUL_TESTING
            asked += len(event.recorder.interactions)
            found |= set(failures(event))
    assert not found, "\n".join(found)
    assert asked > 500
    assert followed > 3  # from a fold to its job, by the links of the document


def failures(event: events.ScenarioFinished) -> Iterator[str]:
    for check in (check for checks in event.recorder.checks.values() for check in checks):
        if check.failure_info is None:
            continue
        if check.name == "negative_data_rejection" and is_valid_as_text(check.failure_info.failure.message):
            continue
        if check.name == "negative_data_rejection" and UNASKED in check.failure_info.failure.message:
            continue  # no server refuses a header because it does not know it
        if check.name == "positive_data_acceptance" and "webhook" in check.failure_info.code_sample:
            continue  # no schema can say which hosts are public
        if check.name == "positive_data_acceptance" and EMPTY in check.failure_info.code_sample:
            continue  # what was uploaded in no pieces is held, and is no model
        if check.name == "response_schema_conformance" and " 'Range: " in check.failure_info.code_sample:
            continue  # a part of a report, which may be all of it, is bytes and no JSON
        yield f"{check.name}: {check.failure_info.failure.message}\n{check.failure_info.code_sample}\n"


def is_valid_as_text(message: str) -> bool:
    """Whether all that was made wrong is of forms and queries, and right as these send it.

    Forms have no types, and their rows are elsewhere. In a query, a list of one is sent as that one.
    """
    wrong = re.findall(r"^  - (.*)$", message, re.MULTILINE)
    return " in body" in message or (
        bool(wrong) and all(one.startswith("body: ") or ("query: " in one and "(was array, " in one) for one in wrong)
    )


def test_what_is_valid_as_text():
    header = "Invalid data should have been rejected\nInvalid component:"
    listed = "  - query: violates `type` at /properties/only (was array, became number)"
    form = "  - body: violates `maxLength` at /properties/shape/items"
    number = "  - query: violates `type` at /properties/batch (was integer, became string)"
    assert is_valid_as_text("\n".join((header, listed, form)))
    assert not is_valid_as_text("\n".join((header, listed, number)))
    assert not is_valid_as_text(header)


# --- its examples ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with Running(tmp_path_factory.mktemp("server") / "data") as running:
        yield running


@pytest.fixture(scope="module")
def document(server: Running) -> dict[str, Any]:
    parsed: dict[str, Any] = server.client.get("/openapi.json").json()
    return parsed


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(method, path, operation) for path, of in document["paths"].items() for method, operation in of.items()]


def examples(part: dict[str, Any]) -> list[Any]:
    """Those of a parameter, a header or a content."""
    named = [example["value"] for example in part.get("examples", {}).values()]
    return [*named, *([part["example"]] if "example" in part else []), *part["schema"].get("examples", [])]


def valid(document: dict[str, Any], schema: dict[str, Any], value: Any) -> bool:
    whole = {**schema, "components": document["components"]}
    return jsonschema_rs.Draft202012Validator(whole).is_valid(value)


def test_the_examples_are_what_their_schemas_say(document):
    number = 0
    for _, _, operation in operations(document):
        parts = list(operation.get("parameters", []))
        for answer in operation["responses"].values():
            parts += [*answer.get("headers", {}).values(), *answer.get("content", {}).values()]
        for one in parts:
            for example in examples(one):
                number += 1
                assert valid(document, one["schema"], example), (example, one)
    assert number > 200


def test_the_examples_of_parameters_work(server, document):
    """Each example, sent with a model, or for a job that is there, is answered as the document says."""
    data = model_bytes()
    made = server.client.post("/v1/fold", content=data)
    mine = {"job_id": made.headers["Bnfold-Job"], "sha256": hashlib.sha256(data).hexdigest()}
    for method, path, operation in operations(document):
        if method == "delete":
            continue
        for parameter in operation["parameters"]:
            for example in examples(parameter):
                value = digest(data) if parameter["name"] == "Repr-Digest" else str(example)
                headers = {parameter["name"]: value} if parameter["in"] == "header" else {}
                params = {parameter["name"]: value} if parameter["in"] == "query" else {}
                needed = {one["name"]: str(one["example"]) for one in operation["parameters"] if one.get("required")
                          and one["in"] == "header"}  # fmt: skip
                mine["upload"] = upload(server, len(data)) if "{upload}" in path else ""
                body, media = sent(operation, data)
                headers = needed | headers | media
                answer = server.client.request(method, path.format(**mine), headers=headers, params=params, **body)
                said = operation["responses"][str(answer.status_code)]
                assert answer.status_code < 400, (parameter, answer.text)
                media = answer.headers.get("Content-Type", "").partition(";")[0]
                if answer.content:
                    schema = said["content"][media]["schema"]
                    is_whole = media == "application/json" and answer.status_code != 206
                    assert not is_whole or valid(document, schema, answer.json())


def sent(operation: dict[str, Any], data: bytes) -> tuple[dict[str, Any], dict[str, str]]:
    """The body of a request with a model, and the header that says what it is."""
    offered = operation.get("requestBody", {}).get("content", {})
    for media in (MODEL_TYPE, PIECE_TYPE):
        if media in offered:
            return {"content": data}, {"Content-Type": media}
    return ({"files": {"model": ("model.onnx", data)}} if FORM_TYPE in offered else {}), {}


def upload(server: Running, length: int) -> str:
    """The id of a new upload."""
    headers = {"Tus-Resumable": TUS, "Upload-Length": str(length)}
    place: str = server.client.post("/v1/uploads", headers=headers).headers["Location"]
    return place.rpartition("/")[2]


@pytest.mark.skipif(shutil.which("curl") is None, reason="this test needs curl, and it is not installed")
def test_the_examples_for_a_shell_work(server, document, tmp_path: Path):
    for seed, name in enumerate(("model.onnx", "other.onnx")):
        (tmp_path / name).write_bytes(model_bytes(seed))
    samples = {one["source"] for _, _, operation in operations(document) for one in operation.get("x-codeSamples", ())}
    assert samples
    for sample in samples:
        command = shlex.split(sample.replace("http://127.0.0.1:8000", server.url))
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=PATIENCE)


def test_what_is_of_this_server_is_in_its_document(tmp_path):
    own = create_app(Settings(data=tmp_path, verify_seconds=10, require_keys=True)).openapi()
    fold = own["paths"]["/v1/fold"]["post"]
    (timeout,) = (one["schema"] for one in fold["parameters"] if one["name"] == "verify_timeout")
    assert (timeout["maximum"], timeout["default"]) == (10, 10)
    assert fold["security"] == [{"bearer": []}]
    assert own["paths"]["/livez"]["get"]["security"] == [{}]
    assert own["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    assert ADDRESS in str(own)


def test_links_lead_from_a_response_to_its_job(server, document):
    """OpenAPI links, followed as a client would."""
    made = server.client.post("/v1/fold", content=model_bytes())
    operation = document["paths"]["/v1/fold"]["post"]
    named = {one["operationId"]: path for _, path, one in operations(document)}
    for status in ("200", "202"):
        links = operation["responses"][status]["links"]
        assert set(links) == {"job", "result", "report"}
        for link in links.values():
            assert link["parameters"] == {"job_id": "$response.header.Bnfold-Job"}
            path = named[link["operationId"]].format(job_id=made.headers["Bnfold-Job"])
            assert server.client.get(path).status_code == 200
    listed = document["paths"]["/v1/jobs"]["get"]["responses"]["200"]["links"]["job"]["parameters"]["job_id"]
    assert listed == "$response.body#/jobs/0/id"
    assert made.headers["Bnfold-Job"] in {job["id"] for job in server.client.get("/v1/jobs").json()["jobs"]}
