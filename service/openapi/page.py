"""The OpenAPI document, and the problems, as pages to read: plain HTML, without a script."""

from __future__ import annotations

import re
from html import escape
from typing import TYPE_CHECKING, Any

from service.problems import KINDS, TYPE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}: bnfold</title>
<link rel="icon" href="{root}/static/favicon.svg" type="image/svg+xml">
<link rel="stylesheet" href="{root}/static/style.css">
</head>
<body>
<header class="top">
<a class="brand" href="{root}/"><img src="{root}/static/favicon.svg" width="28" height="28" alt=""> bnfold</a>
</header>
<main class="reference">
<h1>{title}</h1>
{content}
</main>
</body>
</html>
"""


def interface(document: dict[str, Any], root: str = "") -> str:
    """Every operation of the document with its parameters and responses."""
    operations = [
        (method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    links = "".join(
        f'<li><a href="#{escape(one["operationId"])}"><code>{method} {escape(path)}</code></a></li>'
        for method, path, one in operations
    )
    also = (
        f'<p>For programs: <a href="{root}/openapi.json">the same as an OpenAPI document</a>. '
        f'Errors have types: <a href="{root}{TYPE}">what each means</a>.</p>'
    )
    about = f'{_text(document["info"]["description"])}{also}<nav aria-label="Operations"><ul>{links}</ul></nav>'
    parts = (_operation(method, path, one, document) for method, path, one in operations)
    return PAGE.format(root=escape(root), title="The interface", content=about + "".join(parts))


def problem(slug: str, root: str = "") -> str:
    """What one type of problem means."""
    return PAGE.format(
        root=escape(root),
        title=escape(KINDS[slug].title),
        content=_problem(slug) + f'<p><a href="{root}{TYPE}">All types</a></p>',
    )


def problems(root: str = "") -> str:
    """What all types of problems mean."""
    rows = (
        f'<section id="{slug}"><h2><a href="{root}{TYPE}{slug}">{slug}</a></h2>{_problem(slug)}</section>'
        for slug in KINDS
    )
    return PAGE.format(root=escape(root), title="Types of problems", content="".join(rows))


def _problem(slug: str) -> str:
    kind = KINDS[slug]
    return (
        f"<p>{escape(kind.title)}. <code>{slug}</code> comes with the status {kind.status}.</p>"
        f"<p>What to do: {escape(kind.advice)}.</p>"
    )


def _operation(method: str, path: str, operation: dict[str, Any], document: dict[str, Any]) -> str:
    name = escape(operation["operationId"])
    parameters = [_resolved(one, document) for one in operation.get("parameters", [])]
    rows = [
        (one["name"], one["in"], _kind(one.get("schema", {}), document), one.get("description", ""))
        for one in parameters
    ]
    answers = [(status, _flat(one["description"])) for status, one in sorted(operation["responses"].items())]
    bodies = operation.get("requestBody", {}).get("content", {})
    return (
        f'<section id="{name}" class="card" aria-labelledby="{name}-title">'
        f'<h2 id="{name}-title"><code>{method} {escape(path)}</code></h2>{_text(operation.get("description", ""))}'
        + (f"<p>The body: {', '.join(f'<code>{escape(media)}</code>' for media in bodies)}.</p>" if bodies else "")
        + _table("Parameters", ("Name", "In", "What", "Meaning"), rows)
        + _table("Responses", ("Status", "Meaning"), answers)
        + "</section>"
    )


def _table(title: str, heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    if not rows:
        return ""
    columns = "".join(f'<th scope="col">{head}</th>' for head in heads)
    lines = "".join(
        f'<tr><th scope="row"><code>{escape(first)}</code></th>'
        + "".join(f"<td>{_inline(cell)}</td>" for cell in rest)
        + "</tr>"
        for first, *rest in rows
    )
    table = f"<table><thead><tr>{columns}</tr></thead><tbody>{lines}</tbody></table>"
    return f"<details><summary>{title}</summary>{table}</details>"


def _kind(schema: dict[str, Any], document: dict[str, Any]) -> str:
    schema = _resolved(schema, document)
    kinds = list(_kinds(schema, document))
    default = schema.get("default")
    return " or ".join(kinds) + (f", default {default}" if default not in (None, [], "") else "")


def _kinds(schema: dict[str, Any], document: dict[str, Any]) -> Iterator[str]:
    for one in schema.get("anyOf", [schema]):
        one = _resolved(one, document)  # noqa: PLW2901
        if "enum" in one:
            yield ", ".join(map(str, one["enum"]))
        elif one.get("type") == "array":
            yield "text, may be repeated"
        elif one.get("type") != "null":
            yield {"string": "text", "boolean": "true or false"}.get(one.get("type", ""), one.get("type", "anything"))


def _resolved(part: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in part:
        return part
    for name in part["$ref"].split("/")[1:]:
        document = document[name]
    return document


def _text(text: str) -> str:
    """Paragraphs, and indented blocks as they are."""
    blocks = re.split(r"\n\s*\n", text.strip("\n"))
    return "".join(
        f'<pre class="card"><code>{escape(block.strip())}</code></pre>'
        if block.startswith("    ")
        else f"<p>{_inline(block)}</p>"
        for block in blocks
        if block.strip()
    )


def _inline(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(_flat(text), quote=False))


def _flat(text: str) -> str:
    return " ".join(text.split())
