"""Nodes in an order in which each comes after those that it reads; most files have them so already."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from onnx import GraphProto, NodeProto


def graphs_in(node: NodeProto) -> Iterator[GraphProto]:
    """The graphs in the attributes of a node."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def read_by(node: NodeProto) -> Iterator[str]:
    """The names that a node and the graphs in it read; those that such a graph produces itself are among them."""
    yield from node.input
    for graph in graphs_in(node):
        yield from (value.name for value in graph.output)
        for inner in graph.node:
            yield from read_by(inner)


def ordered(nodes: Sequence[NodeProto]) -> list[NodeProto]:
    """The nodes sorted, as they were if they were sorted; there is no cycle, the reader has seen to that."""
    nodes = list(nodes)
    producers = {name: place for place, node in enumerate(nodes) for name in node.output if name}
    found: list[NodeProto] = []
    state = bytearray(len(nodes))  # 1: entered, 2: done
    for root in range(len(nodes)):
        waiting = [root]
        while waiting:
            place = waiting[-1]
            if not state[place]:
                state[place] = 1
                before = (producers.get(name, place) for name in read_by(nodes[place]))
                if ahead := [other for other in before if not state[other]]:
                    waiting += reversed(ahead)
                    continue
            waiting.pop()
            if state[place] == 1:
                state[place] = 2
                found.append(nodes[place])
    return found
