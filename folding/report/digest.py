"""Digest: the groups, sentences and figures that all forms of a report share, and names made safe to show."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from folding.report.model import BATCH_NORMALIZATION, Leftover

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from folding.report.model import Outcome, OutputError, Refusal, Report, Verification

_Stays = TypeVar("_Stays", "Outcome", "Leftover")
_Key = TypeVar("_Key", str, tuple[str, str])

SIZE_UNITS = ("bytes", "kB", "MB", "GB", "TB")
SIZE_STEP = 1000  # decimal units, as file managers and download pages show them
MILLISECONDS = 1000  # in a second
SIGNIFICANT_DIGITS = 3  # of a size, a scale and an error: more is noise to a reader
ELLIPSIS = "..."

OTHER = "other per-channel maps"
NOTHING = "nothing"  # what to do where a refusal has no hint

STATUS_WORDS = {"folded": "folded", "split": "folded in part", "merged": "merged", "removed": "removed", "kept": "kept"}

FOLDED_TITLES = {
    ("backward", False): "Folded into the node before",
    ("backward", True): "Folded backward, through other nodes",
    ("forward", False): "Folded into the nodes after",
    ("forward", True): "Folded forward, through other nodes",
}
OTHER_TITLES = {
    "split": "Folded in part, a scale or a shift is left",
    "merged": "Merged with a neighbouring map",
    "removed": "Removed, no other node had to change",
}
STAYS_TITLE, LEFT_TITLE = "What stays, and why", "What is left of those folded in part, and why"
TITLES = (*FOLDED_TITLES.values(), *OTHER_TITLES.values())


def printable(text: str) -> str:
    """The text on one line; control, format and surrogate characters are escaped, so that a terminal ignores them."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def shorten(text: str, width: int) -> str:
    """The text, without its middle if it is longer than `width`, because names differ at their ends."""
    if len(text) <= width:
        return text
    room = max(width - len(ELLIPSIS), 0)
    tail = (room + 1) // 2
    return text[: room - tail] + ELLIPSIS + text[len(text) - tail :]


def named(outcome: Outcome | Leftover) -> str:
    """The node's name, after that of its PyTorch module, where it has one that the node's name does not begin with."""
    module = "" if isinstance(outcome, Leftover) else outcome.module
    return f"{module} ({outcome.node})" if module and not outcome.node.startswith(module) else outcome.node


def short_name(outcome: Outcome | Leftover) -> str:
    """The module's printable name, or the node's without a last part that repeats the operator (as exporters do)."""
    if not isinstance(outcome, Leftover) and outcome.module and is_bn(outcome):
        return printable(outcome.module)
    scope = outcome.node.removesuffix(f"/{outcome.operator}")
    return printable(outcome.node if scope in ("", outcome.node) else f"{scope}/{ELLIPSIS}")


def beside(label: str, node: str) -> str:
    """The label without the scopes that it shares with the node: ``.../conv1/Conv`` beside ``/layer1/bn1``."""
    *scopes, last = label.split("/")
    shared = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(scopes, node.split("/"), strict=False))))
    return "/".join((ELLIPSIS, *scopes[shared:], last)) if any(scopes[:shared]) else label


def listed(names: Sequence[str], shown: int) -> str:
    """At most `shown` of the names, then the number of the others."""
    more = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {more} more" if more > 0 else "")


def counted(number: int, singular: str, plural: str = "") -> str:
    """The number and its noun: ``1 output``, ``2 outputs``, ``1,204 nodes``."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def figure(number: float) -> str:
    """A measured number with three significant digits; NaN and infinity by name."""
    return f"{number:.{SIGNIFICANT_DIGITS}g}"


def file_size(size: int) -> str:
    """A number of bytes in the largest unit that it reaches, with three digits: ``97.8 MB``."""
    value, unit = float(size), 0
    while value >= SIZE_STEP and unit < len(SIZE_UNITS) - 1:
        value, unit = value / SIZE_STEP, unit + 1
    value = float(figure(value)) if unit else value
    decimals = max(SIGNIFICANT_DIGITS - 1 - int(math.log10(value)), 0) if unit and value else 0
    return f"{value:.{decimals}f} {SIZE_UNITS[unit]}"


def size_change(before: int, after: int) -> str:
    """The change of the size, with its sign: ``-142 kB``; "same size" if there is none."""
    if before == after:
        return "same size"
    return ("-" if after < before else "+") + file_size(abs(after - before))


def scale_range(outcome: Outcome) -> str:
    """The smallest and largest |scale|, or one value if they are equal; "" if the outcome has no channels."""
    if not outcome.channels:
        return ""
    low, high = figure(outcome.scale_min), figure(outcome.scale_max)
    return low if low == high else f"{low} .. {high}"


def is_bn(outcome: Outcome) -> bool:
    """Whether the affine map is a BatchNormalization node, not a decomposed one."""
    return outcome.operator == BATCH_NORMALIZATION


class Tally(NamedTuple):
    """How many affine maps of a kind were folded, and how many there were."""

    whole: int  # folded, with nothing left
    split: int  # folded, with one operator left in their place
    total: int

    @property
    def stay(self) -> int:
        """The number of unchanged ones."""
        return self.total - self.whole - self.split

    def sentence(self, noun: str, verb: str) -> str:
        """``5 of 9 maps folded, 1 split, 3 stay``."""
        split = f", {self.split:,} split (one Mul or Add is left of each)" if self.split else ""
        rest = f", {self.stay:,} stay{'s' if self.stay == 1 else ''}" if self.stay else ""
        return f"{self.whole:,} of {self.total:,} {noun} {verb}{split}{rest}"


def tally(outcomes: Iterable[Outcome], *, bn: bool) -> Tally:
    """Count the BatchNormalization nodes (`bn`), or the decomposed affine maps."""
    chosen = [outcome.status for outcome in outcomes if is_bn(outcome) == bn]
    split, kept = chosen.count("split"), chosen.count("kept")
    return Tally(len(chosen) - split - kept, split, len(chosen))


def duration(seconds: float) -> str:
    """A time in a suitable unit: ``430 ms``, ``2.1 s``."""
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * MILLISECONDS:.0f} ms"


def is_written(report: Report) -> bool:
    """Whether a folded model was written, and not only planned or discarded."""
    return report.target is not None and report.verification.status != "failed"


def deed(report: Report) -> str:
    """The file read, the file written, and the time: ``a.onnx -> b.onnx, in 2.1 s``."""
    target = f" -> {report.target}" if is_written(report) else ", nothing is written"
    return report.source + target + (f", in {duration(report.seconds)}" if report.seconds else "")


def sizes(report: Report) -> tuple[str, str, str]:
    """The size before, the size after and the change; the last two are "" if no file was written."""
    before, after = report.bytes_before, report.bytes_after
    return (file_size(before), *((file_size(after), size_change(before, after)) if is_written(report) else ("", "")))


def headline(report: Report) -> str:
    """The main sentence: how many were folded, in the tense that fits a fold or a plan."""
    bn, other = tally(report.outcomes, bn=True), tally(report.outcomes, bn=False)
    if not bn.total and not other.total:
        return "Nothing to fold: the model holds no BatchNormalization and no other per-channel map"
    verb = "can be folded" if report.target is None else "folded"
    lost = ", but the result is wrong and was thrown away" if report.verification.status == "failed" else ""
    rest = lost or offered(report)
    if not bn.total:
        return f"No BatchNormalization; {other.sentence(OTHER, verb)}{rest}"
    return bn.sentence("BatchNormalization" if bn.total == 1 else "BatchNormalizations", verb) + rest


def offered(report: Report) -> str:
    """What more folds with other options: ``; 40 fold with --freeze-initializers, 12 more with --clamp always``."""
    has_more, said = tally(report.outcomes, bn=any(map(is_bn, report.outcomes))).whole > 0, ""
    for offer in report.offers:
        verb = "" if said else " folds" if offer.more == 1 else " fold"
        said += f"{', ' if said else '; '}{offer.more:,}{' more' if has_more else ''}{verb} with {offer.option}"
        has_more = True
    return said


def worst_output(outputs: Sequence[OutputError]) -> OutputError:
    """The output with the largest error relative to its tolerance; a failed one before any other."""

    def badness(output: OutputError) -> tuple[bool, float]:
        error, tolerance = output.max_absolute, output.tolerance
        ratio = error / tolerance if tolerance else error and math.inf
        return not output.ok, math.inf if math.isnan(ratio) else ratio

    return max(outputs, key=badness)


def verdict(verification: Verification) -> str:
    """The verdict in one sentence, with the figures of the worst output if the models ran."""
    if verification.status != "verified":
        lead = "Verification failed" if verification.status == "failed" else "Not verified"
        return f"{lead}: {verification.reason}" if verification.reason else lead
    ran = f"{counted(verification.samples, 'sample')}, {duration(verification.seconds)}"
    if not verification.outputs:
        return f"Verified: {verification.reason}" if verification.reason else f"Verified ({ran})"
    worst = worst_output(verification.outputs)
    error = f"{figure(worst.max_absolute)} where {figure(worst.tolerance)} is tolerated"
    return f"Verified: the largest error is {error} ({counted(len(verification.outputs), 'output')}, {ran})"


def sensitivity(verification: Verification) -> str:
    """What the samples would show of an error, in one sentence; "" where that was not measured."""
    shown = []
    for noun, name in (("weight", "sensitivity"), ("bias", "bias_sensitivity")):
        measured = [(getattr(output, name), output.name) for output in verification.outputs if getattr(output, name)]
        if measured:
            change, output = max(measured)
            blind = f'not even a change of 10 % of a folded {noun} (output "{output}")'
            shown.append(f"a change of {change * 100:g} % of a folded {noun}" if change < 1 else blind)
    return f"The samples show {' and '.join(shown)}" if shown else ""


@dataclass(frozen=True)
class FoldGroup:
    """Affine maps that were folded in the same way."""

    title: str
    outcomes: tuple[Outcome, ...]


@dataclass(frozen=True)
class KeptGroup:
    """Affine maps that stay, or what is left of some, with the same pair of codes."""

    outcomes: tuple[Outcome | Leftover, ...]

    @property
    def operators(self) -> str:
        """The different operators: ``Mul, Add``."""
        return ", ".join(dict.fromkeys(outcome.operator for outcome in self.outcomes))

    @property
    def refusals(self) -> tuple[tuple[str, tuple[Refusal, ...]], ...]:
        """For each direction, its name and refusals; one entry, "both ways", if the refusals are always equal."""
        backward = tuple(o.backward for o in self.outcomes if o.backward)
        forward = tuple(o.forward for o in self.outcomes if o.forward)
        if backward == forward:
            return (("both ways", backward),) if backward else ()
        return tuple((way, met) for way, met in (("backward", backward), ("forward", forward)) if met)

    @property
    def hints(self) -> tuple[str, ...]:
        """What the user can do, each once; "nothing" where nothing can be done."""
        met = [refusal.hint for _, refusals in self.refusals for refusal in refusals]
        return tuple(dict.fromkeys(filter(None, met))) or (NOTHING,) * bool(met)

    def sentence(self, shown: int) -> str:
        """All of it on one line: ``backward: a shift does not pass zero padding [zero-padding]; what to do: ...``."""
        ways = [f"{way}: {reasons(met, shown)} [{met[0].code}]" for way, met in self.refusals]
        return "; ".join([*ways, *(f"what to do: {hint}" for hint in self.hints)])


def code_of(refusal: Refusal | None) -> str:
    """The refusal's code, "" if nothing was tried."""
    return refusal.code if refusal else ""


def reasons(refusals: Iterable[Refusal], shown: int) -> str:
    """The different sentences of refusals that share a code, at most `shown` of them."""
    different = list(dict.fromkeys(refusal.reason for refusal in refusals))
    more = len(different) - shown
    return "; ".join(different[:shown]) + (f"; and {more} more such" if more > 0 else "")


def places(refusals: Iterable[Refusal]) -> tuple[str, ...]:
    """The nodes that refused, each once."""
    return tuple(dict.fromkeys(refusal.at for refusal in refusals if refusal.at))


def fold_groups(outcomes: Iterable[Outcome]) -> tuple[FoldGroup, ...]:
    """The folded affine maps, grouped by their way: the textbook folds first, then longer ways."""
    groups = _grouped((o for o in outcomes if o.status != "kept"), _title)
    return tuple(FoldGroup(title, groups[title]) for title in TITLES if title in groups)


def kept_groups(outcomes: Iterable[Outcome]) -> tuple[KeptGroup, ...]:
    """The affine maps that stayed, grouped by the codes of their two refusals, the largest group first."""
    return _by_codes(o for o in outcomes if o.status == "kept")


def left_groups(outcomes: Iterable[Outcome]) -> tuple[KeptGroup, ...]:
    """What is left of the maps that folded in part, each operator once, grouped as `kept_groups`."""
    return _by_codes(dict.fromkeys(left for outcome in outcomes for left in outcome.left))


def place_of(left: Leftover) -> str:
    """Where an operator that is left stands: ``behind conv1``."""
    return f"behind {printable(left.after)}" if left.after else "at an input of the graph"


def _by_codes(those: Iterable[_Stays]) -> tuple[KeptGroup, ...]:
    groups = _grouped(those, lambda o: (code_of(o.backward), code_of(o.forward)))
    return tuple(KeptGroup(group) for group in sorted(groups.values(), key=len, reverse=True))


def _title(outcome: Outcome) -> str:
    if outcome.status != "folded":
        return OTHER_TITLES[outcome.status]
    return FOLDED_TITLES[outcome.direction or "backward", bool(outcome.path)]


def _grouped(outcomes: Iterable[_Stays], key: Callable[[_Stays], _Key]) -> dict[_Key, tuple[_Stays, ...]]:
    groups: dict[_Key, list[_Stays]] = {}
    for outcome in outcomes:
        groups.setdefault(key(outcome), []).append(outcome)
    return {k: tuple(group) for k, group in groups.items()}
