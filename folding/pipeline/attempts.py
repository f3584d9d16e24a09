"""Attempt a fold until its result is right: leave out what no constant can represent, and what verification refuses."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

from folding.graph.narrowed import Narrowed
from folding.graph.weights import UnrepresentableError
from folding.pipeline.fold import fold_graph, unrepresentable
from folding.pipeline.takeback import attempts, halving
from folding.refusal import Refused
from folding.report.errors import VerificationError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from folding.onnxfile import OnnxFile
    from folding.options import Options
    from folding.pipeline.fold import Folded
    from folding.report.model import Report, Verification

    Progress = Callable[[str, int, int], None]
    Stage = Callable[[int, int], None] | None
    Once = Callable[["Attempts"], Report]  # raises TriedError, UnrepresentableSitesError, VerificationError
    Before = Callable[[Collection[str]], set[str]]  # see `takeback.before`

NAMES_SHOWN = 10  # of what was taken back, in the note of a report; the outcomes name all


class UnrepresentableSitesError(Exception):
    """Sites after which a constant cannot be represented, by key; they must stay."""

    def __init__(self, refusals: dict[str, Refused]) -> None:
        super().__init__()
        self.refusals = refusals


class WrongGuessError(Exception):
    """What was guessed of a constant is not so: it is read as a whole in the next attempt."""


class TriedError(Exception):
    """The end of an attempt that only asked for the verdict; None: nothing folds in it."""

    def __init__(self, verdict: Verification | None) -> None:
        super().__init__()
        self.verdict = verdict


class Attempts:
    """The attempts at one fold; `blocked` is what the next one leaves out, by key, and why.

    All verifications together get `options.verify_timeout` seconds.
    """

    def __init__(self, options: Options, progress: Progress | None = None) -> None:
        self.options, self._progress = options, progress
        self.blocked: dict[str, Refused] = {}
        self._folds: dict[str, str] = {}  # of the latest attempt
        self._clamped: frozenset[str] = frozenset()
        self._further: list[str] = []  # the keys of what was done besides folding
        self._taken: list[str] = []  # labels of what was taken back
        self._left = options.verify_timeout
        self._trials, self._most = 0, 0  # so far, and at most; 0: the attempts are no trials
        self._verdict: Verification | None = None  # of the same result, in a trial
        self._guesses = not options.has_card  # a card says what constants lose, before they are written

    def settle(self, once: Once, before: Before) -> Report:
        """The report of the first attempt whose result is right.

        Raises:
            VerificationError: the result differs, and no fold remains without which it does not, or
                `options.strict`; nothing is written.
        """
        try:
            return self._represented(once)
        except VerificationError as error:
            if self.options.strict:
                raise
            wrong = error
        taken = self._search(once, before, wrong.report.verification)
        if not taken:
            raise wrong
        self._taken = [label for key, label in self._folds.items() if key in taken]
        return self._represented(once)

    def plan(self, file: OnnxFile, *, is_written: bool = False) -> Folded:
        """Plan and carry out this attempt on an open file; what is written as a file may be guessed before."""
        guesses = is_written and self._guesses
        try:
            folded = fold_graph(file, self.options, self.blocked, self.stage("folding"), guesses=guesses)
        except UnrepresentableError as error:  # a constant was evaluated for another reason than to be written
            self.require_right_guess(error)
            if refusals := {site: found.refusal() for site, found in islice(error.weight.straws(), 1)}:
                raise UnrepresentableSitesError(refusals) from None
            raise
        if not self._trials:
            self._folds, self._clamped = folded.folds, folded.clamped
            self._further = list(folded.ready.keys) if folded.ready is not None else []
        if self._trials and not folded.changed:
            raise TriedError(None)
        if self._taken:
            more = f" and {len(self._taken) - NAMES_SHOWN} more" if len(self._taken) > NAMES_SHOWN else ""
            names = ", ".join(self._taken[:NAMES_SHOWN]) + more
            folded.notes.append(f"{len(self._taken)} taken back, because the result differed with them: {names}")
        return folded

    def require_right_guess(self, error: UnrepresentableError) -> None:
        """Raise WrongGuessError if a constant cannot be represented because it was guessed."""
        if isinstance(error.weight, Narrowed) and error.weight.is_guessed:
            raise WrongGuessError

    def require_representable(self, folded: Folded) -> None:
        """Raise UnrepresentableSitesError if a constant that a fold made cannot be represented."""
        if refusals := unrepresentable(folded, self.blocked):
            raise UnrepresentableSitesError(refusals)

    def verdict(self, verify: Callable[[Options, Stage], Verification]) -> Verification:
        """The verdict on the result of this attempt, from a verification with the time that is left."""
        if self._verdict is not None:
            return self._verdict
        verdict = verify(replace(self.options, verify_timeout=self._left), self.stage("verifying"))
        self._left -= verdict.seconds
        if self._trials:
            raise TriedError(verdict)
        return verdict

    def stage(self, name: str) -> Stage:
        """Progress of a stage of this attempt; trials are steps of the verification."""
        progress, number, most = self._progress, self._trials - 1, self._most
        if progress is None or (self._trials and name != "verifying"):
            return None

        def report(done: int, total: int) -> None:
            if total and number < 0:
                progress(name, done, total)
            elif total:
                progress(name, min(number, most - 1) * total + done, most * total)

        return report

    def _represented(self, once: Once) -> Report:
        """The report of an attempt, repeated without the folds that no constant can represent, and without guesses."""
        while True:
            try:
                return once(self)
            except WrongGuessError:
                self._guesses = False
                continue
            except UnrepresentableSitesError as found:
                refusals = found.refusals
            assert refusals.keys() - self.blocked.keys(), "a blocked site does not fold again"  # noqa: S101
            self.blocked |= refusals

    def _search(self, once: Once, before: Before, wrong: Verification) -> frozenset[str]:
        """The folds to take back, which are blocked then; none if the result is not right without some of them."""
        upstream = before({output.name for output in wrong.outputs if not output.ok})
        near = [key for key in self._folds if key in upstream]
        groups = [self._further, [key for key in near if key in self._clamped], near, list(self._folds)]
        refused, base = Refused("taken-back", f"the result differed with it: {wrong.reason}"), dict(self.blocked)
        search, self._most = halving(groups), attempts(groups)
        best: tuple[frozenset[str], Verification] | None = None
        is_right = None
        while self._left > 0:
            try:
                out = search.send(is_right)
            except StopIteration:
                break
            self._trials += 1
            self.blocked = base | dict.fromkeys(out, refused)
            verdict = self._tried(once)
            is_right = verdict is None or _is_right(verdict)
            if verdict is not None and is_right and (best is None or len(out) < len(best[0])):
                best = out, verdict
        self._trials = 0
        taken, self._verdict = best or (frozenset(), None)
        self.blocked = base | dict.fromkeys(taken, refused)
        return taken

    def _tried(self, once: Once) -> Verification | None:
        try:
            report = self._represented(once)
        except TriedError as tried:
            return tried.verdict
        except VerificationError as error:
            return error.report.verification
        return report.verification


def _is_right(verdict: Verification) -> bool:
    """Whether a comparison was made and found no error; one that was cut short says nothing."""
    return verdict.status == "verified" or (verdict.status == "not verified" and bool(verdict.outputs))
