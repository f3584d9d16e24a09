"""The OpenAPI document, completed with what every operation has, and with the settings of this server."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

from service.ledger.views import ProblemView
from service.openapi.answers import DONE, JOB, OF_ALL, QUEUED, problems
from service.openapi.headers import REQUEST_ID, headers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.settings import Settings

BEARER = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "bnf_ID_SECRET",
    "description": "An API key; the operator makes one with `bnfold keys add`.",
}
ACCEPTED = "202"
OPEN_TO_ALL = {"livez", "readyz", "version", "upload_options", "upload_options_one"}  # operations that need no key
OF_THE_FRAMEWORK = {"HTTPValidationError", "ValidationError"}  # schemas that this service replaces by problems


def finished(document: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """The document of the routes, completed with keys, problems and the limits of this server."""
    document = deepcopy(document)
    components = document["components"]
    components["securitySchemes"] = {"bearer": BEARER}
    schemas = {name: schema for name, schema in components["schemas"].items() if name not in OF_THE_FRAMEWORK}
    components["schemas"] = schemas | {"ProblemView": ProblemView.model_json_schema()}
    if settings.root_path:
        document["servers"] = [{"url": settings.root_path}]
    for path in document["paths"].values():
        for method, operation in path.items():
            _finish(operation, settings, has_content=method != "head")
    return document


def _finish(operation: dict[str, Any], settings: Settings, *, has_content: bool) -> None:
    needs_key = operation["operationId"] not in OPEN_TO_ALL
    operation["security"] = [{"bearer": []}] if needs_key and settings.asks_for_keys else [{}]
    if needs_key and not settings.asks_for_keys:
        operation["security"].append({"bearer": []})
    answers = operation["responses"]
    if "HTTPValidationError" in str(answers.get("422")):
        del answers["422"]
    for status, answer in problems(*OF_ALL).items():
        answers.setdefault(str(status), answer if has_content else {"description": answer["description"]})
    for status, answer in answers.items():
        for media in answer.get("content", {}).values():
            if media["schema"] == JOB:  # set here: FastAPI would omit the nulls
                media["example"] = QUEUED if status == ACCEPTED else DONE
        answer["headers"] = answer.get("headers", {}) | headers("X-Request-ID")
    operation.setdefault("parameters", []).append(REQUEST_ID)
    for option in _options(operation, "verify_timeout"):
        option["maximum"] = settings.verify_seconds
        option["default"] = min(option["default"], settings.verify_seconds)
    for length in _options(operation, "Upload-Length"):
        length["maximum"] = settings.max_upload_bytes


def _options(operation: dict[str, Any], name: str) -> Iterator[dict[str, Any]]:
    """The schemas of an option: as a query parameter, and as a field of a form."""
    yield from (one["schema"] for one in operation["parameters"] if one["name"] == name)
    for content in operation.get("requestBody", {}).get("content", {}).values():
        properties = content["schema"].get("properties", {})
        if name in properties:
            yield properties[name]
