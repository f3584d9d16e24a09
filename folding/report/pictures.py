"""The pictures of the HTML report: inline SVG that contains figures only, and no names from a model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element

from folding.report.digest import SIGNIFICANT_DIGITS, counted, figure

if TYPE_CHECKING:
    from collections.abc import Iterable

    from folding.report.model import Outcome

BINS = 40  # of a histogram; with at most 64 sampled channels, more bins would show single values
BIN_WIDTH = 4
HEIGHT = 28
BASE = 26  # the baseline of the bars: HEIGHT minus the line
ZERO_SLOT = 8  # to the left of the axis, for channels with scale 0, which have no logarithm
DECADES_SHOWN = 8  # the axis shows at most these; smaller scales are lost in float32 beside the largest
WIDTH = ZERO_SLOT + BINS * BIN_WIDTH

Child = Element | str


def tag(name: str, /, *children: Child | Iterable[Child], **attributes: str) -> Element:
    """An element with its children; text and attribute values are escaped when it is written."""
    element = Element(name, {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items()})
    for child in children:
        for node in [child] if isinstance(child, (str, Element)) else child:
            _append(element, node)
    return element


def _append(parent: Element, node: Child) -> None:
    if isinstance(node, Element):
        parent.append(node)
    elif len(parent):
        parent[-1].tail = (parent[-1].tail or "") + node
    else:
        parent.text = (parent.text or "") + node


@dataclass(frozen=True)
class Axis:
    """A logarithmic axis over whole decades, from ``10**low`` to ``10**high``, shared by all pictures of a table."""

    low: int
    high: int

    @staticmethod
    def over(outcomes: Iterable[Outcome]) -> Axis:
        """The axis that shows 1 and the scales of all outcomes, at most the largest `DECADES_SHOWN` decades."""
        logs = [0.0] + [math.log10(s) for o in outcomes for s in o.scales if s > 0 and math.isfinite(s)]
        high = math.ceil(max(logs))
        return Axis(max(math.floor(min(logs)), high - DECADES_SHOWN), max(high, 1))

    def bin(self, scale: float) -> int:
        """The index of the scale's bin, of `BINS` bins; scales outside the axis count in the first or last bin."""
        place = (math.log10(scale) - self.low) / (self.high - self.low)
        return min(max(math.floor(place * BINS), 0), BINS - 1)

    def x(self, exponent: int) -> str:
        """The x coordinate of ``10**exponent`` in a picture."""
        return _number(ZERO_SLOT + BINS * BIN_WIDTH * (exponent - self.low) / (self.high - self.low))


def histogram(outcome: Outcome, axis: Axis) -> Child:
    """The distribution of the channels' |scale|, with channels of scale 0 at the far left; "" without scales."""
    finite = [s for s in outcome.scales if math.isfinite(s)]
    if not finite:
        return ""
    counts = [0] * BINS
    for scale in filter(None, finite):
        counts[axis.bin(scale)] += 1
    zeros = sum(scale == 0 for scale in finite)
    label = f"scales of {counted(outcome.channels, 'channel')}: {_spread(finite)}"
    tallest = max(*counts, zeros)
    live = "".join(_bar(ZERO_SLOT + i * BIN_WIDTH, n / tallest) for i, n in enumerate(counts) if n)
    dead = _bar(0, zeros / tallest) if zeros else ""
    bars = [tag("path", d=path, class_=kind) for path, kind in ((live, "bars"), (dead, "dead")) if path]
    return tag("svg", tag("title", label), _lines(axis), bars, **_canvas(HEIGHT, label))


def ruler(axis: Axis) -> Element:
    """The decades of the histograms' axis, for the head of the table's column."""
    step = max(math.ceil((axis.high - axis.low) / 4), 1)
    marks = [e for e in range(axis.low, axis.high + 1) if (e - axis.low) % step == 0]
    texts = [
        tag(
            "text",
            f"1e{e}" if abs(e) >= SIGNIFICANT_DIGITS else figure(10.0**e),
            x=axis.x(e),
            y="10",
            text_anchor=_anchor(e, axis),
        )
        for e in marks
    ]
    label = f"logarithmic axis from {figure(10.0**axis.low)} to {figure(10.0**axis.high)}"
    return tag("svg", texts, **_canvas(12, label))


def share(part: int, whole: int, label: str) -> Element:
    """A bar that is filled to the share `part` / `whole`."""
    filled = _number(100 * part / whole) if whole else "0"
    track = tag("rect", width="100", height="6", class_="track")
    fill = tag("rect", width=filled, height="6", class_="fill")
    attributes = {"viewBox": "0 0 100 6", "preserveAspectRatio": "none", "role": "img", "aria_label": label}
    return tag("svg", track, fill, class_="share", **attributes)


def _canvas(height: int, label: str) -> dict[str, str]:
    return {
        "viewBox": f"0 0 {WIDTH} {height}",
        "width": str(WIDTH),
        "height": str(height),
        "role": "img",
        "aria_label": label,
    }


def _spread(scales: list[float]) -> str:
    return f"{figure(min(scales))} to {figure(max(scales))}, median {figure(sorted(scales)[len(scales) // 2])}"


def _bar(x: int, height: float) -> str:
    return f"M{x} {BASE}v-{_number(height * (BASE - 2))}h{BIN_WIDTH - 1}V{BASE}z"


def _lines(axis: Axis) -> Element:
    one = f"M{axis.x(0)} 0V{BASE}" if axis.low <= 0 else ""
    return tag("path", d=f"M0 {BASE}H{WIDTH}{one}", class_="axis")


def _anchor(exponent: int, axis: Axis) -> str:
    return {axis.low: "start", axis.high: "end"}.get(exponent, "middle")


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
