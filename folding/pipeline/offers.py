"""Offers: what more would fold with another option, found out by planning again where a code makes it plausible."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from folding.pipeline.fold import fold_graph, unrepresentable
from folding.report.digest import tally
from folding.report.model import Offer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from folding.onnxfile import OnnxFile
    from folding.options import Options
    from folding.refusal import Refused
    from folding.report.model import Outcome, Report

    Outcomes = tuple[Outcome, ...]

# The code that an option does away with, and the option. A later one may show only once an earlier one is gone.
OPTIONS: tuple[tuple[str, str, object], ...] = (
    ("overridable", "freeze_initializers", True),
    ("training-mode", "freeze_training", True),
    ("clamp", "clamp", "always"),
)


def offers(outcomes: Outcomes, options: Options, plan: Callable[[Options], Outcomes]) -> Iterator[Offer]:
    """The options with which more folds than with `options`, whose outcomes are given; `plan` returns those of others.

    Each is planned together with those before it, so their numbers add up. An option with which nothing more folds is
    no offer, and one that no refusal names costs no plan.
    """
    is_bn = tally(outcomes, bn=True).total > 0
    for code, name, value in OPTIONS:
        if getattr(options, name) not in (False, "no", "never", "auto") or not any(
            _names(outcome, code) for outcome in outcomes
        ):
            continue
        # Of no type: that changes no fold, and to measure ranges for it takes time
        with_it = replace(options, precision="keep", **{name: value})  # type: ignore[arg-type]
        planned = plan(with_it)
        more = tally(planned, bn=is_bn).whole - tally(outcomes, bn=is_bn).whole
        if more > 0:
            shown = f'"{value}"' if isinstance(value, str) else value
            yield Offer(f"{name}={shown}", more)
            outcomes, options = planned, with_it


def with_offers(report: Report, options: Options, again: Callable[[], OnnxFile]) -> Report:
    """The report with what more folds with other options; `again` opens the model anew."""

    def planned(chosen: Options) -> Outcomes:
        blocked: dict[str, Refused] = {}
        while True:
            with again() as file:
                folded = fold_graph(file, chosen, blocked)
                refusals = unrepresentable(folded, blocked)
            if not refusals:
                return folded.outcomes
            assert refusals.keys() - blocked.keys(), "a blocked site does not fold again"  # noqa: S101  it ends
            blocked |= refusals

    return replace(report, offers=tuple(offers(report.outcomes, options, planned)))


def _names(outcome: Outcome, code: str) -> bool:
    return any(refusal is not None and refusal.code == code for refusal in (outcome.backward, outcome.forward))
