"""Limits: how large and how deep a model may be before it is refused. An operator can raise each limit by its name."""

from __future__ import annotations

from dataclasses import dataclass, fields

from folding.errors import LimitError

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB


@dataclass(frozen=True, repr=False)
class Limits:
    """What the reader accepts: far more than ordinary models need, far less than would overload a machine.

    Messages name the field that was exceeded, so that whoever runs the tool knows which one to raise.

    Attributes:
        nesting_depth: messages inside messages (a subgraph takes three); protobuf's own parsers stop at 100 too.
        fields: wire fields stepped over one by one, and messages parsed: about 80 bytes each, below 1 GB.
        skeleton_bytes: the model without its large weights; 10,000 nodes take 2 MB.
        nodes: of all graphs and functions together; models of 10,000 are large.
        initializers: of all graphs together.
        attributes: of all nodes together: eight for every node.
        functions: an exporter that keeps modules as functions writes hundreds.
        expanded_nodes: nodes with every function call replaced by the function's body.
        tensor_bytes: all weights; a range of a file that several tensors share counts for each.
        external_files: files of external data; some exporters write one per weight.
        allow_links: external data may be symbolic or hard links (they can show files of other users).
    """

    nesting_depth: int = 100
    fields: int = 8_000_000
    skeleton_bytes: int = 128 * MIB
    nodes: int = 250_000
    initializers: int = 250_000
    attributes: int = 2_000_000
    functions: int = 10_000
    expanded_nodes: int = 2_500_000
    tensor_bytes: int = 256 * GIB
    external_files: int = 20_000
    allow_links: bool = False

    def __repr__(self) -> str:
        chosen = {one.name: getattr(self, one.name) for one in fields(self) if getattr(self, one.name) != one.default}
        return f"Limits({', '.join(f'{name}={value!r}' for name, value in chosen.items())})"

    def hold(self, name: str, value: int, where: str = "the model") -> None:
        """Check that `value` does not exceed the limit called `name`.

        Raises:
            LimitError: it does; the message states what was found, where, and which limit to raise.
        """
        limit = getattr(self, name)
        if value > limit:
            raise LimitError(
                f"{where} exceeds the limit {name} ({value:,} > {limit:,}); raise it if you trust the file"
            )
