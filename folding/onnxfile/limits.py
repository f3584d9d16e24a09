"""Limits: how large and how deep a model may be before it is refused. An operator can raise each limit by its name."""

from __future__ import annotations

from dataclasses import dataclass

from folding.errors import LimitError

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB


@dataclass(frozen=True)
class Limits:
    """What the reader accepts: far more than ordinary models need, far less than would overload a machine.

    Messages name the exceeded field, so that the user knows which one to raise.
    """

    nesting_depth: int = 100  # messages inside messages (a subgraph takes three); protobuf has the same limit
    fields: int = 8_000_000  # wire fields visited one by one, and messages parsed: about 80 bytes each, below 1 GB
    skeleton_bytes: int = 128 * MIB  # the model without its large weights; 10,000 nodes take 2 MB
    nodes: int = 250_000  # of all graphs and functions together; models of 10,000 are large
    initializers: int = 250_000
    attributes: int = 2_000_000  # eight for every node
    functions: int = 10_000  # an exporter that keeps modules as functions writes hundreds
    expanded_nodes: int = 2_500_000  # with every function call replaced by the function's body
    tensor_bytes: int = 256 * GIB  # all weights; a range that several tensors share counts for each
    external_files: int = 20_000  # some exporters write one per weight
    allow_links: bool = False  # whether external data may be links, symbolic or hard (they can expose other files)

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
