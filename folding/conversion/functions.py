"""Inline model-local functions, for a runtime that has none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from folding.conversion.dimensions import all_graphs
from folding.errors import OptionError
from folding.graph.node import bodies
from folding.onnxfile import function_key
from folding.report.changes import EXAMPLES, Change

if TYPE_CHECKING:
    from collections.abc import Collection

    from folding.onnxfile import OnnxFile
