"""The tables of the runtimes' documents, read: which operators, in which operator sets, for which types."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING

from tests.support.targets.rows import NEWEST, Row, Rows, main_constraint, meanings, merged, ordered, schemas

if TYPE_CHECKING:
    from collections.abc import Iterator

    from onnx import defs

# Types of TensorRT's document. INF64 is a misprint of the document of 10.0.
TENSORRT = {
    "FP32": "float", "FP16": "float16", "BF16": "bfloat16", "INT32": "int32", "INT64": "int64", "INF64": "int64",
    "BOOL": "bool", "UINT8": "uint8", "INT8": "int8", "INT4": "int4", "FP4": "float4e2m1", "FP8": "float8e4m3fn",
}  # fmt: skip
DOUBLE = "double"  # TensorRT casts it to float: it takes both wherever it takes float
KERNELS = {"CPUExecutionProvider": "onnxruntime-cpu", "CUDAExecutionProvider": "onnxruntime-cuda",
           "DmlExecutionProvider": "directml"}  # fmt: skip
INTERNAL = ("com.ms.internal.nhwc", "com.microsoft.nchwc", "com.ms.internal")  # no file has operators of these


def read(text: str) -> dict[str, Rows]:
    """The operators of each target that a document is about.

    Raises:
        ValueError: it is none of the documents that are known here.
    """
    if found := re.search(r"TensorRT (\d+)\.\d+ supports operators .*opset (\d+) to opset (\d+)", text):
        return {f"tensorrt-{found[1]}": tensorrt(text, int(found[2]), int(found[3]))}
    if "WebGPU EP" in text:
        return {"webgpu": webgpu(text)}
    parts = re.split(r"^## Operators implemented by (\w+)$", text, flags=re.MULTILINE)
    if len(parts) > 1:
        named = zip(parts[1::2], parts[2::2], strict=True)
        return {KERNELS[provider]: kernels(part) for provider, part in named if provider in KERNELS}
    raise ValueError("no table of operators that is known here")


def tensorrt(text: str, first: int, last: int) -> Rows:
    """The matrix of onnx-tensorrt: ``| Operator | Supported | Supported Types | Restrictions |``."""
    rows: Rows = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|") or len(cells) < 3 or cells[1] != "Y":
            continue
        op, names, note = cells[0], cells[2].strip(","), cells[3] if len(cells) > 3 else ""
        types = frozenset(TENSORRT[name.strip()] for name in names.split(","))
        note = re.sub(r"\s*<br ?/?>\s*", " ", note)
        known = [(start, end, main_constraint(schema)) for start, end, schema in meanings(op, first, last)]
        known = known if schemas(op) else [(first, last, "T")]  # an operator that ONNX had before its first release
        if known:
            rows[op] = merged(Row(start, end, {main: types} if main else {}, note) for start, end, main in known)
    return rows


def webgpu(text: str) -> Rows:
    """The table of ONNX Runtime Web: ``| Operator | ai.onnx(6-12,13+); com.microsoft(1+) | Comments |``."""
    rows: Rows = {}
    for line in text.splitlines():
        found = re.match(r"\| (\w+) \| (.*?) \| ?(.*?) ?\|$", line)
        if found is None or found[1] in {"Operator", "MemcpyFromHost", "MemcpyToHost"}:
            continue
        for domain, ranges in re.findall(r"([\w.]+)\(([^)]*)\)", found[2]):
            if not domain.startswith(INTERNAL):
                standard = "" if domain == "ai.onnx" else domain
                spans = [_span(part.strip()) for part in ranges.split(",")]
                add(rows, found[1], standard, [(span, {}, found[3]) for span in spans])
    return rows


def kernels(text: str) -> Rows:
    """One provider's part of ONNX Runtime's document: ``|Op|Parameters|[7, 12]|**T** = tensor(float), ...|``."""
    found: dict[tuple[str, str], list[tuple[tuple[int, int | None], dict[str, frozenset[str]], str]]]
    found = defaultdict(list)
    domain, op = "", ""
    for line in text.splitlines():
        if head := re.match(r"\|\*\*Operator Domain:\*\* \*([\w.]+)\*", line):
            domain = "" if head[1] == "ai.onnx" else head[1]
        elif row := re.match(r"\|(\w*)\|(.*)\|([\d\[\], +]+)\|(.*)\|$", line):
            op = row[1] or op
            if not domain.startswith(INTERNAL):
                found[domain, op].append((_span(row[3]), _types(row[4]), ""))
    rows: Rows = {}
    for (where, name), spans in found.items():
        add(rows, name, where, spans)
    return rows


def _span(text: str) -> tuple[int, int | None]:
    """A range of versions: "13+", "[7, 12]", "7-12" or "13"."""
    numbers = [int(number) for number in re.findall(r"\d+", text)]
    return numbers[0], None if text.endswith("+") else numbers[-1]


def _types(text: str) -> dict[str, frozenset[str]]:
    found = re.findall(r"\*\*(\w+)\*\* = ((?:(?!\*\*).)*)", text)
    named = ((name, frozenset(re.findall(r"(?:^|[ ,])tensor\((\w+)\)", types))) for name, types in found)
    return {name: types for name, types in named if types}


def add(
    rows: Rows,
    op: str,
    domain: str,
    spans: list[tuple[tuple[int, int | None], dict[str, frozenset[str]], str]],
) -> None:
    """Add what the kernels of one operator take to the rows.

    ONNX Runtime gives an operator to a kernel that was registered for the version in which the operator got its
    meaning; a kernel registered from a version on ("13+") is for that meaning alone. Kernels of one meaning, each for
    other types, become one row.
    """
    name = f"{domain}::{op}" if domain else op
    found = list(_by_meaning(op, domain, spans)) if schemas(op, domain) else [_custom(spans)]
    if found:
        rows[name] = merged(found)


def _custom(spans: list[tuple[tuple[int, int | None], dict[str, frozenset[str]], str]]) -> Row:
    """An operator of which ONNX knows nothing: its domain has the versions that the kernels say."""
    first = min(span[0] for span, _, _ in spans)
    last = max(span[0] if span[1] is None else span[1] for span, _, _ in spans)
    return Row(first, last, ordered(_joined([types for _, types, _ in spans]), ""), spans[0][2])


def _by_meaning(
    op: str, domain: str, spans: list[tuple[tuple[int, int | None], dict[str, frozenset[str]], str]]
) -> Iterator[Row]:
    newest = NEWEST if not domain else 100
    for start, end, schema in meanings(op, 1, newest, domain):
        since = schema.since_version
        fitting = [
            one for one in spans if one[0][0] == since or (one[0][1] is not None and one[0][0] <= since <= one[0][1])
        ]
        if fitting:
            types = _joined([types for _, types, _ in fitting])
            known = {constraint.type_param_str for constraint in schema.type_constraints}
            chosen = {_constraint(schema, name): listed for name, listed in types.items()}
            kept = {name: listed for name, listed in chosen.items() if name in known}
            yield Row(start, end, ordered(kept, main_constraint(schema)), fitting[0][2])


def _constraint(schema: defs.OpSchema, name: str) -> str:
    """The type constraint that a kernel means, which may name an input or an output instead."""
    values = {value.name: value.type_str for value in (*schema.outputs, *schema.inputs)}
    known = {constraint.type_param_str for constraint in schema.type_constraints}
    return name if name in known else values.get(name, name)


def _joined(listed: list[dict[str, frozenset[str]]]) -> dict[str, frozenset[str]]:
    names = dict.fromkeys(name for types in listed for name in types)
    return {name: frozenset().union(*(types.get(name, frozenset()) for types in listed)) for name in names}
