"""Scope: the names of one graph or function while its nodes are visited in order, and whether they can be sorted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from folding.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from onnx import GraphProto, NodeProto

OUTSIDE = -1  # the index of the "node" that produces inputs and initializers


def node_label(node: NodeProto) -> str:
    """What to call a node in a sentence."""
    return f'the {node.op_type or "nameless"} node "{node.name or next(iter(node.output), "")}"'


class Scope:
    """Who produces which name; `captures` are the names that are read but not produced here, with who reads them."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.captures: dict[str, str] = {}
        self._producer: dict[str, int] = {}
        self._early: list[tuple[str, int]] = []  # names read before they were produced, if they ever are

    @property
    def names(self) -> set[str]:
        """All names produced here."""
        return set(self._producer)

    def define(self, names: Iterable[str], index: int) -> None:
        """Enter the outputs of a node, or the inputs of the graph.

        Raises:
            ModelError: a name has a source already.
        """
        producer = self._producer
        for name in names:
            if name:
                if name in producer:
                    raise ModelError(f'{self.where}: "{name}" is produced twice; names must be unique')
                producer[name] = index

    def define_initializers(self, graph: GraphProto) -> None:
        """Enter the initializers, each of which may have the name of a graph input (its default value).

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
        """Note what a node reads, before its outputs are entered."""
        producer = self._producer
        for name in names:
            if name and name not in producer:
                self._early.append((name, index))

    def read_outputs(self, names: Iterable[str]) -> None:
        """Note what the graph itself gives out, after `settle`."""
        for name in names:
            if name not in self._producer:
                self.captures.setdefault(name, "an output is")

    def settle(self, nodes: Sequence[NodeProto], inner: dict[int, set[str]]) -> None:
        """Tell names from outside from names produced later; `inner` are the names that subgraphs read, by node.

        Nodes in an order that is not topological are accepted if there is one.

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
        """Take away nodes whose inputs are all there, until none is left (Kahn 1962)."""
        sources = [self._sources(node, inner.get(index, ())) for index, node in enumerate(nodes)]
        waiting = [len(before) for before in sources]
        consumers: list[list[int]] = [[] for _ in nodes]
        for index, before in enumerate(sources):
            for source in before:
                consumers[source].append(index)
        ready = [index for index, count in enumerate(waiting) if count == 0]
        for index in ready:  # grows while it is read
            for consumer in consumers[index]:
                waiting[consumer] -= 1
                if waiting[consumer] == 0:
                    ready.append(consumer)
        if len(ready) < len(nodes):
            raise ModelError(f"{self.where}: {self._cycle(nodes, sources, waiting)} is part of a cycle of nodes")

    def _sources(self, node: NodeProto, captured: Iterable[str]) -> set[int]:
        """The nodes that produce what a node reads."""
        return {self._producer.get(name, OUTSIDE) for name in (*node.input, *captured)} - {OUTSIDE}

    def _cycle(self, nodes: Sequence[NodeProto], sources: list[set[int]], waiting: list[int]) -> str:
        """A node on a cycle: going back from a node that waits, the first one met again."""
        index = next(index for index, count in enumerate(waiting) if count)
        met: set[int] = set()
        while index not in met:
            met.add(index)
            index = next(source for source in sources[index] if waiting[source])
        return node_label(nodes[index])
