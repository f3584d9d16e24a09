"""Requests that upload a model, in the OpenAPI document."""

from __future__ import annotations

from typing import Any

from service.openapi.answers import BINARY, FILES, FORM_TYPE, HTML_TYPE, JSON_TYPE, PIECE_TYPE
from service.openapi.headers import CLAIMED, IDEMPOTENCY, LENGTH, OFFSET, PREFER, RESUMABLE, TRACEPARENT, accept
from service.options import FILE_NAME, FoldQuery, WebhookQuery
from service.work import ARCHIVE_TYPE, MODEL_TYPE

MODEL = {"type": "string", "format": "binary", "minLength": 1, "description": "the model, or the zip; of any name"}


def _body(query: type[FoldQuery]) -> dict[str, Any]:
    """The request body: the model itself, or a browser form with one file and the parameters as fields."""
    description = "The model, or a zip of it and its external data; or a form with one file, and options as fields"
    return {"required": True, "description": description, "content": FILES | _form(query, MODEL)}


def _form(query: type[FoldQuery], model: dict[str, Any]) -> dict[str, Any]:
    options = query.model_json_schema()["properties"]
    options["name"] |= {"minLength": 0, "pattern": f"^$|{FILE_NAME}"}  # an empty field counts as not sent
    schema = {"type": "object", "required": ["model"], "additionalProperties": False}
    return {FORM_TYPE: {"schema": schema | {"properties": {"model": model, **options}}}}


def _curl(*arguments: str) -> list[dict[str, str]]:
    """Examples of curl commands."""
    return [{"lang": "Shell", "label": "curl", "source": f"curl {text}"} for text in arguments]


FOLDING: dict[str, Any] = {
    "requestBody": _body(WebhookQuery),
    "parameters": [accept(MODEL_TYPE, ARCHIVE_TYPE, JSON_TYPE), PREFER, IDEMPOTENCY, CLAIMED, TRACEPARENT],
    "x-codeSamples": _curl(
        "-fT model.onnx 'http://127.0.0.1:8000/v1/fold?freeze_initializers=true' -o folded.onnx",
        "-fT model.onnx -H 'Accept: application/json' http://127.0.0.1:8000/v1/fold",
        "-f -F model=@model.onnx -F leftover=affine http://127.0.0.1:8000/v1/fold -o folded.onnx",
    ),
}
FOLDING_BLOB: dict[str, Any] = {"parameters": [accept(MODEL_TYPE, ARCHIVE_TYPE, JSON_TYPE), PREFER, IDEMPOTENCY]}
INSPECTING: dict[str, Any] = {
    "requestBody": _body(FoldQuery),
    "parameters": [accept(JSON_TYPE, HTML_TYPE), CLAIMED],
    "x-codeSamples": _curl(
        "-f --data-binary @model.onnx -H 'Content-Type: application/octet-stream' http://127.0.0.1:8000/v1/inspect"
    ),
}
BEGINNING: dict[str, Any] = {
    "parameters": [RESUMABLE, LENGTH, CLAIMED],
    "x-codeSamples": _curl(
        "-fiX POST -H 'Tus-Resumable: 1.0.0' -H 'Upload-Length: 102400' http://127.0.0.1:8000/v1/uploads"
    ),
}
ADDING: dict[str, Any] = {
    "requestBody": {"required": True, "description": "The piece", "content": {PIECE_TYPE: BINARY}},
    "parameters": [RESUMABLE, OFFSET],
}
BATCH: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "A form with several files, and options for all of them as fields",
        "content": _form(WebhookQuery, {"type": "array", "minItems": 1, "maxItems": 100, "items": MODEL}),
    },
    "x-codeSamples": _curl(
        "-f -F model=@model.onnx -F model=@other.onnx -F leftover=affine http://127.0.0.1:8000/v1/batches"
    ),
}
