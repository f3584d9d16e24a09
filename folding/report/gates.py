"""Gates: what a model must fulfil for a run to be called a success, judged by its report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from folding.report.digest import code_of, counted, is_bn, listed, size_change

if TYPE_CHECKING:
    from collections.abc import Iterator

    from folding.report.model import Outcome, Report

NAMES_SHOWN = 3


@dataclass(frozen=True)
class Gates:
    """What is demanded of a model.

    Attributes:
        max_left: how many BatchNormalizations may stay; None for any number. One that folds in part is not among
            them: a Mul or an Add is left of it.
        fail_on: codes of refusal that no BatchNormalization may stay for, in either direction.
        fail_if_grown: whether the folded model may have no more bytes than the original.
    """

    max_left: int | None = None
    fail_on: tuple[str, ...] = ()
    fail_if_grown: bool = False

    def broken(self, report: Report) -> tuple[Broken, ...]:
        """The gates that a model does not pass."""
        return tuple(self._broken(report))

    def _broken(self, report: Report) -> Iterator[Broken]:
        stay = staying(report)
        if self.max_left is not None and len(stay) > self.max_left:
            verb = "stays" if len(stay) == 1 else "stay"
            said = f"{counted(len(stay), 'BatchNormalization')} {verb}, and --max-left allows {self.max_left:,}"
            yield Broken("max-left", said)
        for code in self.fail_on:
            names = [outcome.node for outcome in stay if code in codes_of(outcome)]
            if names:
                number = counted(len(names), "BatchNormalization")
                verb = "stays" if len(names) == 1 else "stay"
                yield Broken("fail-on", f"{number} {verb} because of {code}: {listed(names, NAMES_SHOWN)}", code)
        if self.fail_if_grown and report.bytes_after > report.bytes_before:
            grown = size_change(report.bytes_before, report.bytes_after)
            yield Broken("fail-if-grown", f"the folded model is larger than the original: {grown}")


@dataclass(frozen=True)
class Broken:
    """A gate that a model does not pass.

    Attributes:
        gate: max-left, fail-on or fail-if-grown.
        sentence: what is wrong, with figures.
        code: the code of fail-on; "" of other gates.
    """

    gate: str
    sentence: str
    code: str = ""


def staying(report: Report) -> tuple[Outcome, ...]:
    """The BatchNormalizations that stay as they are."""
    return tuple(outcome for outcome in report.outcomes if is_bn(outcome) and outcome.status == "kept")


def codes_of(outcome: Outcome) -> tuple[str, ...]:
    """The different codes for which a map stays, backward first."""
    return tuple(dict.fromkeys(filter(None, (code_of(outcome.backward), code_of(outcome.forward)))))
