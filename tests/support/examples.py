"""The examples of docs/codes.md: small models in text form, and what a line of them means.

opset: 17                              the operator set; 17 where no line says
x: float[2, 4, 6, 6]                   an input of the graph
W: float[8, 4, 1, 1] = default         an initializer that is an input of the graph, too
a = Relu(x)                            an operator; it has no name but that of its result
y, m = Dropout(a)                      one with two results
b = Conv(a, W[8, 4, 3, 3], pads=[1, 1, 1, 1])    W is a constant: random numbers, those called V above 0
c = Mul(b, K[1]=2)                     a constant of these values; K[1]:int64=2 is of another type
d = Identity(c)  # 130 times in a row
e = If(p, then_branch={t = Neg(d)}, else_branch={f = Neg(d)})
annotate: b                            a quantization annotation
return e, b                            the outputs; the last result where no line says
"""

from __future__ import annotations

import re
from ast import literal_eval
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper, numpy_helper, parser

if TYPE_CHECKING:
    from collections.abc import Iterator

DECLARED = re.compile(r"(?P<name>\w+): (?P<type>\w+)\[(?P<shape>[^]]*)\](?P<default> = default)?")
OPERATOR = re.compile(r"(?P<results>[\w, ]+) = (?P<op>[\w.]+)\((?P<given>.*)\)(?:  # (?P<times>\d+) times in a row)?")
CONSTANT = re.compile(r"(?P<name>[A-Z]\w*)\[(?P<shape>[^]]*)\](?::(?P<type>\w+))?(?:=(?P<values>.+))?")


def model_of(text: str) -> onnx.ModelProto:
    """The model that an example writes down; one that begins with ``<`` is in ONNX's own text form."""
    if text.startswith("<"):
        return parser.parse_model(text)
    return _Reader(text.splitlines()).model()


def _split(text: str, by: str = ",") -> list[str]:
    """The parts between commas that no bracket encloses."""
    parts, depth = [""], 0
    for c in text:
        depth += (c in "([{") - (c in ")]}")
        if c == by and not depth:
            parts.append("")
        else:
            parts[-1] += c
    return [part.strip() for part in parts if part.strip()]


class _Reader:
    def __init__(self, lines: list[str]) -> None:
        self.random = np.random.default_rng(0)
        self.opset, self.kind = 17, ""
        self.inputs: list[onnx.ValueInfoProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self.outputs: list[str] = []
        self.annotated: list[str] = []
        self.nodes: list[onnx.NodeProto] = []
        for line in lines:
            self.line(line)

    def model(self) -> onnx.ModelProto:
        code = _code(self.kind)
        outputs = [helper.make_tensor_value_info(name, code, None) for name in self.outputs]
        graph = helper.make_graph(self.nodes, "g", self.inputs, outputs, list(self.constants.values()))
        for name in self.annotated:
            graph.quantization_annotation.add(tensor_name=name)
        domains = {node.domain for node in self.nodes if node.domain}
        opsets = [helper.make_opsetid("", self.opset), *(helper.make_opsetid(domain, 1) for domain in sorted(domains))]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)

    def line(self, line: str) -> None:
        if line.startswith("opset: "):
            self.opset = int(line.removeprefix("opset: "))
        elif line.startswith("annotate: "):
            self.annotated.append(line.removeprefix("annotate: "))
        elif line.startswith("return "):
            self.outputs = _split(line.removeprefix("return "))
        elif found := DECLARED.fullmatch(line):
            shape = [int(n) if n.isdigit() else n for n in _split(found["shape"])]
            self.inputs.append(helper.make_tensor_value_info(found["name"], _code(found["type"]), shape))
            self.kind = self.kind or found["type"]
            if found["default"]:
                self.constant(f"{found['name']}[{found['shape']}]:{found['type']}")
        else:
            self.nodes += self.operators(line)
            self.outputs = [self.nodes[-1].output[0]]

    def operators(self, line: str) -> Iterator[onnx.NodeProto]:
        found = OPERATOR.fullmatch(line)
        assert found is not None, line
        names, attributes = [], {}
        for part in _split(found["given"]):
            key, is_attribute, value = part.partition("=")
            if is_attribute and "[" not in key:
                attributes[key] = self.attribute(value)
            else:
                names.append(self.constant(part) if CONSTANT.fullmatch(part) else part.strip('"'))
        domain, _, op = found["op"].rpartition(".")
        results, times = _split(found["results"]), int(found["times"] or 1)
        for i in range(times):
            last = i == times - 1
            made = results if last else [f"{results[0]}_{i}"]
            yield helper.make_node(op, names, made, domain=domain, **attributes)
            names = [made[0], *names[1:]]

    def attribute(self, text: str) -> Any:
        if not text.startswith("{"):
            return literal_eval(text)
        nodes = [node for line in _split(text[1:-1], ";") for node in self.operators(line)]
        output = helper.make_tensor_value_info(nodes[-1].output[0], _code(self.kind), None)
        return helper.make_graph(nodes, "body", [], [output])

    def constant(self, text: str) -> str:
        found = CONSTANT.fullmatch(text)
        assert found is not None, text
        name, shape = found["name"], [int(n) for n in _split(found["shape"])]
        dtype = helper.tensor_dtype_to_np_dtype(_code(found["type"] or self.kind))
        if found["values"]:
            values = np.broadcast_to(np.asarray(literal_eval(found["values"])), shape)
        else:
            values = self.random.uniform(0.5, 1.5, shape) * (
                1 if name.startswith("V") else self.random.choice([-1, 1], shape)
            )
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(
                np.ascontiguousarray(values.astype(dtype)).reshape(shape), name
            )
        return name


def _code(name: str) -> int:
    return onnx.TensorProto.DataType.Value(name.upper())
