"""What the two processes of a verification exchange: a job, and the names of the files that carry it."""

from __future__ import annotations

from dataclasses import dataclass

# In the folder shared with the child. The progress is a number of steps: those that are done, of STEPS.
ACTIVITY, PROGRESS, JOB, RESULT = "activity.txt", "progress.txt", "job.json", "result.json"
BEFORE_TAPS, AFTER_TAPS = "before.taps", "after.taps"  # bytes that make values outputs, see `probes`
STEPS = 100
AS_IT_IS = "running the folded model as it is"  # an activity; a process that crashes then shows that its target does


@dataclass(frozen=True)
class Job:
    """What the child process must compare, with all that it needs to know about the contents of the files."""

    before: str
    after: str
    inputs: str | None  # an .npz file, None to generate samples
    label: str  # the user's name for that file
    seconds: float  # after which the parent gives up
    memory: int | None  # bytes of address space, None without a limit
    epsilon: float  # the relative spacing of the narrowest numbers in either model
    quantizes: bool  # whether either rounds activations to a few bits
    defaults: str | None = None  # an .npz file of initializers of both models that a caller may override
    lengths: tuple[tuple[str, int, int], ...] = ()  # of inputs, by name and axis, that weights or the result determine
    taps: tuple[tuple[str, str, str, str], ...] = ()  # an output, its last operator, what that reads in both models
    traps: tuple[str, ...] = ()  # what the runtime is known to compute wrongly in either model
    folded: str | None = None  # an .npz file of constants that the fold changed, as they are in the folded model
    behind: dict[str, tuple[str, ...]] | None = None  # the outputs that depend on each of them
    actual: tuple[str, str] | None = None  # the files themselves, where `before` or `after` is an emulation of one
    halves: dict[str, str] | None = None  # inputs of the original that have 16 bits, by the name of their type
    rough: str | None = None  # the original with every number rounded to the digits of the folded model's type
    max_error: float | None = None  # what is accepted in place of what rounding explains, see `parent.verify`
    runs: str | None = None  # the file that must run as it is, with the runtime's own optimisations
    notes: tuple[str, ...] = ()  # for the verdict
    parent: int = 0  # the process that waits for the verdict; 0: none
