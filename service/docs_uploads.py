"""What the OpenAPI document says of requests that bring a model."""

from __future__ import annotations

from typing import Any

from service.docs import FILES, HTML_TYPE, JSON_TYPE
from service.docs_headers import CLAIMED, IDEMPOTENCY, PREFER, accept
from service.work import ARCHIVE_TYPE, MODEL_TYPE

BODY = {"required": True, "description": "The model, or a zip of it and its external data", "content": FILES}


def _curl(*arguments: str) -> list[dict[str, str]]:
    """Examples for a shell, with a model at hand."""
    return [{"lang": "Shell", "label": "curl", "source": f"curl {text}"} for text in arguments]


FOLDING: dict[str, Any] = {
    "requestBody": BODY,
    "parameters": [accept(MODEL_TYPE, ARCHIVE_TYPE, JSON_TYPE), PREFER, IDEMPOTENCY, CLAIMED],
    "x-codeSamples": _curl(
        "-fT model.onnx 'http://127.0.0.1:8000/v1/fold?freeze_initializers=true' -o folded.onnx",
        "-fT model.onnx -H 'Accept: application/json' http://127.0.0.1:8000/v1/fold",
    ),
}
INSPECTING: dict[str, Any] = {
    "requestBody": BODY,
    "parameters": [accept(JSON_TYPE, HTML_TYPE), CLAIMED],
    "x-codeSamples": _curl(
        "-f --data-binary @model.onnx -H 'Content-Type: application/octet-stream' http://127.0.0.1:8000/v1/inspect"
    ),
}
