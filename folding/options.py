"""The options of a fold: one model for the library, the command and the HTTP service."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Literal, get_args

from folding.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Iterable

Leftover = Literal["keep", "affine", "conv"]
Clamps = Literal["never", "always"]


def option(default: Any, explanation: str, **extra: Any) -> Any:
    """A dataclass field whose one-line explanation also serves ``--help`` and the HTTP schema."""
    return field(default=default, metadata={"help": explanation, **extra})


@dataclass(frozen=True)
class Options:
    """What to fold and how to judge it; names and defaults are the same everywhere.

    Raises:
        OptionError: a value is out of its range, with the values that are allowed.
    """

    keep: tuple[str, ...] = option((), "leave nodes with a matching name alone (glob, repeatable)", metavar="NAME")
    only: tuple[str, ...] = option((), "fold only nodes with a matching name (glob, repeatable)", metavar="NAME")
    freeze_initializers: bool = option(
        False, "treat initializers that are also graph inputs as constants (callers can no longer override them)"
    )
    freeze_training: bool = option(False, "turn BatchNormalization in training mode into inference first")
    leftover: Leftover = option(
        "keep", "what becomes of a BatchNormalization that stays: as it is, Mul + Add, or a depthwise Conv"
    )
    clamp: Clamps = option(
        "never", "let maps pass Relu and Clip where that makes them Max and Min with a bound per channel"
    )
    merge_branches: bool = option(
        True, "make one convolution of parallel branches where one of them is a normalization (RepVGG, MobileOne)"
    )
    verify: bool = option(True, "run the original and the folded model side by side and compare")
    inputs: str | None = option(
        None, "samples to verify with, an .npz with one array per graph input (default: generated)", metavar="FILE.npz"
    )
    verify_timeout: float = option(300.0, "seconds after which verification gives up and says so", metavar="SECONDS")
    require_change: bool = option(False, "fail (exit 4) when nothing could be folded")

    def __post_init__(self) -> None:
        for name, choices in (("leftover", get_args(Leftover)), ("clamp", get_args(Clamps))):
            if getattr(self, name) not in choices:
                raise OptionError(f"{name} is {getattr(self, name)!r}; choose one of {', '.join(choices)}")
        if not self.verify_timeout > 0:
            raise OptionError(f"verify_timeout is {self.verify_timeout!r}; give a number of seconds above 0")
        for name in ("keep", "only"):
            if isinstance(getattr(self, name), str):
                raise OptionError(f"{name} is a string; give a list of names, e.g. {name}=[{getattr(self, name)!r}]")
            object.__setattr__(self, name, tuple(getattr(self, name)))

    def keeps(self, name: str) -> bool:
        """Whether `keep` leaves a node of this name alone."""
        return any(fnmatchcase(name, pattern) for pattern in self.keep)

    def require_matches(self, names: Iterable[str]) -> None:
        """Refuse patterns that match none of these names: what a mistyped one should have kept would be folded.

        Raises:
            OptionError: with the names that come closest.
        """
        if not (self.keep or self.only):
            return
        known = list(names)
        for option_name in ("keep", "only"):
            for pattern in getattr(self, option_name):
                if not any(fnmatchcase(name, pattern) for name in known):
                    close = get_close_matches(pattern, known, n=3)
                    meant = f"; did you mean {' or '.join(map(repr, close))}?" if close else "; see `bnfold inspect`"
                    raise OptionError(f"{option_name}: no operator is named {pattern!r}{meant}")

    def selects(self, name: str) -> bool:
        """Whether an affine of this name may be folded: not kept, and among `only` if that is given."""
        return not self.keeps(name) and (not self.only or any(fnmatchcase(name, pattern) for pattern in self.only))


def option_fields() -> dict[str, dict[str, Any]]:
    """Every option's name with its default and metadata, in declaration order."""
    return {f.name: {"default": f.default, "type": f.type, **f.metadata} for f in fields(Options)}
