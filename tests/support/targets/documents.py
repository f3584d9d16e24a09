"""The tables of the runtimes' documents, read: which operators, in which operator sets, for which types."""

from __future__ import annotations

import re
from collections import defaultdict

from tests.support.targets import kernels
from tests.support.targets.kernels import Kernel
from tests.support.targets.rows import Row, Rows, main_constraint, meanings, merged, schemas

# Types of TensorRT's document. INF64 is a misprint of the document of 10.0.
TENSORRT = {
    "FP32": "float", "FP16": "float16", "BF16": "bfloat16", "INT32": "int32", "INT64": "int64", "INF64": "int64",
    "BOOL": "bool", "UINT8": "uint8", "INT8": "int8", "INT4": "int4", "FP4": "float4e2m1", "FP8": "float8e4m3fn",
}  # fmt: skip
PROVIDERS = {"CUDAExecutionProvider": "onnxruntime-cuda", "DmlExecutionProvider": "directml"}  # the CPU is asked


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
        return {PROVIDERS[name]: provider(part) for name, part in named if name in PROVIDERS}
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
            others = {"T2": types} if op == "Cast" else {}  # what it makes is meant as well
            rows[op] = merged(Row(s, e, {main: types} | others if main else {}, note) for s, e, main in known)
    return rows


def webgpu(text: str) -> Rows:
    """The table of ONNX Runtime Web: ``| Operator | ai.onnx(6-12,13+); com.microsoft(1+) | Comments |``."""
    found: dict[tuple[str, str], list[Kernel]] = {}
    for line in text.splitlines():
        row = re.match(r"\| (\w+) \| (.*?) \| ?(.*?) ?\|$", line)
        if row is None or row[1] in {"Operator", "MemcpyFromHost", "MemcpyToHost"}:
            continue
        for domain, ranges in re.findall(r"([\w.]+)\(([^)]*)\)", row[2]):
            key = "" if domain == "ai.onnx" else domain, row[1]
            found[key] = [Kernel(*_versions(part.strip()), {}, row[3]) for part in ranges.split(",")]
    return kernels.rows(found)


def provider(text: str) -> Rows:
    """One provider's part of ONNX Runtime's document: ``|Op|Parameters|[7, 12]|**T** = tensor(float), ...|``."""
    found: dict[tuple[str, str], list[Kernel]] = defaultdict(list)
    domain, op = "", ""
    for line in text.splitlines():
        if head := re.match(r"\|\*\*Operator Domain:\*\* \*([\w.]+)\*", line):
            domain = "" if head[1] == "ai.onnx" else head[1]
        elif row := re.match(r"\|(\w*)\|(.*)\|([\d\[\], +]+)\|(.*)\|$", line):
            op = row[1] or op
            found[domain, op].append(Kernel(*_versions(row[3]), _types(row[4])))
    return kernels.rows(found)


def _versions(text: str) -> tuple[int, int | None]:
    """A range of versions: "13+", "[7, 12]", "7-12" or "13"."""
    numbers = [int(number) for number in re.findall(r"\d+", text)]
    return numbers[0], None if text.endswith("+") else numbers[-1]


def _types(text: str) -> dict[str, frozenset[str]]:
    found = re.findall(r"\*\*(\w+)\*\* = ((?:(?!\*\*).)*)", text)
    named = ((name, frozenset(re.findall(r"(?:^|[ ,])tensor\((\w+)\)", types))) for name, types in found)
    return {name: types for name, types in named if types}
