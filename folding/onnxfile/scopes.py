"""Scope: the names of one graph or function while its nodes are visited, and whether the nodes can be sorted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from folding.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from onnx import GraphProto, NodeProto

OUTSIDE = -1  # the index of the "node" that produces inputs and initializers


def node_label(node: NodeProto) -> str:
    """The name of a node in messages."""
    return f'the {node.op_type or "nameless"} node "{node.name or next(iter(node.output), "")}"'


class Scope:
    """The producer of each name; `captures` are the names that are read but not produced here, with their readers."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.captures: dict[str, str] = {}
        self._producer: dict[str, int] = {}
        self._early: list[tuple[str, int]] = []  # names read before any node produced them

    @property
    def names(self) -> set[str]:
        """All names produced here."""
        return set(self._producer)

    def define(self, names: Iterable[str], index: int) -> None:
        """Record the outputs of a node, or the inputs of the graph.

        Raises:
            ModelError: a name already has a source.
        """
        producer = self._producer
        for name in names:
            if name:
                if name in producer:
                    raise ModelError(f'{self.where}: "{name}" is produced twice; names must be unique')
                producer[name] = index

    def define_initializers(self, graph: GraphProto) -> None:
        """Record the initializers; each may have the name of a graph input, whose default value it is.

        Raises:
            ModelError: two have the same name, or one has none.
        """
        seen: set[str] = set()
        sparse_names = [sparse.values.name for sparse in graph.sparse_initializer]
        for name in [*(tensor.name for tensor in graph.initializer), *sparse_names]:
            if not name:
                raise ModelError(f"{self.where}: an initializer has no name")
            if name in seen:
                raise ModelError(f'{self.where}: the initializer "{name}" is there twice; names must be unique')
            seen.add(name)
            self._producer[name] = OUTSIDE

    def read(self, names: Iterable[str], index: int) -> None:
        """Record what a node reads; call this before `define` for its outputs."""
        producer = self._producer
        for name in names:
            if name and name not in producer:
                self._early.append((name, index))

    def read_outputs(self, names: Iterable[str]) -> None:
        """Record the outputs of the graph; call this after `settle`."""
        for name in names:
            if name not in self._producer:
                self.captures.setdefault(name, "an output is")

    def settle(self, nodes: Sequence[NodeProto], inner: dict[int, set[str]]) -> None:
        """Separate names from outside and names produced later; `inner` are the names that subgraphs read, by node.

        Nodes that are not in topological order are accepted if such an order exists.

        Raises:
            ModelError: the nodes feed each other in a cycle.
        """
        unsorted = False
        for name, index in self._early:
            if name in self._producer:
                unsorted = True
            elif name not in self.captures:
                self.captures[name] = f"{node_label(nodes[index])} reads"
        self._early.clear()
        if unsorted:
            self._sort(nodes, inner)

    def _sort(self, nodes: Sequence[NodeProto], inner: dict[int, set[str]]) -> None:
        """Remove nodes whose inputs are all produced, until none is left (Kahn 1962)."""
        sources = [self._sources(node, inner.get(index, ())) for index, node in enumerate(nodes)]
        waiting = [len(before) for before in sources]
        consumers: list[list[int]] = [[] for _ in nodes]
        for index, before in enumerate(sources):
            for source in before:
                consumers[source].append(index)
        ready = [index for index, count in enumerate(waiting) if count == 0]
        for index in ready:  # the list grows during the loop
            for consumer in consumers[index]:
                waiting[consumer] -= 1
                if waiting[consumer] == 0:
                    ready.append(consumer)
        if len(ready) < len(nodes):
            raise ModelError(f"{self.where}: {self._cycle(nodes, sources, waiting)} is part of a cycle of nodes")

    def _sources(self, node: NodeProto, captured: Iterable[str]) -> set[int]:
        """The nodes that produce the inputs of a node."""
        return {self._producer.get(name, OUTSIDE) for name in (*node.input, *captured)} - {OUTSIDE}

    def _cycle(self, nodes: Sequence[NodeProto], sources: list[set[int]], waiting: list[int]) -> str:
        """A node on a cycle: the first one that is visited twice when going back from a waiting node."""
        index = next(index for index, count in enumerate(waiting) if count)
        met: set[int] = set()
        while index not in met:
            met.add(index)
            index = next(source for source in sources[index] if waiting[source])
        return node_label(nodes[index])
