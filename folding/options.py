"""The options of a fold: one model for the library, the command and the HTTP service."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from fnmatch import fnmatchcase
from inspect import cleandoc
from types import NoneType
from typing import Any, Literal, TypeVar, get_args

from folding.errors import OptionError
from folding.targets.model import NAMES, load

_Kind = TypeVar("_Kind")
Leftover = Literal["keep", "affine", "conv"]
Clamps = Literal["auto", "never", "always"]
Freezing = Literal["no", "stored", "samples"]
Precision = Literal["keep", "fp32", "fp16", "bf16", "mixed"]
InputTypes = Literal["keep", "lower"]
RepositoryName = str  # a name, or with "{model}" the form of one
# Of a model in Triton's repository: it becomes a folder and a part of addresses
REPOSITORY_NAME = re.compile(r"(?:[A-Za-z0-9_]|\{model\})(?:[A-Za-z0-9_.-]|\{model\}){0,99}")
STEM = "{model}"  # in it: the name of the file
SERVED = ("1", "model.onnx")  # where Triton looks for the model in its folder: the version, the name
LISTS = ("keep", "keep_fp32", "only", "shape")  # options that hold several texts


def option(default: Any, explanation: str, **extra: Any) -> Any:
    """A dataclass field whose one-line explanation also serves ``--help`` and the HTTP schema."""
    return field(default=default, metadata={"help": explanation, **extra})


def described(kind: type[_Kind]) -> type[_Kind]:
    """Write what the fields of a class are into its docstring, where `help` shows it; `option` declares it."""
    rows = [f"    {one.name}: {one.metadata['help']}." for one in fields(kind)]  # type: ignore[arg-type]
    kind.__doc__ = "\n".join([cleandoc(kind.__doc__ or ""), "", "Attributes:", *rows])
    return kind


@described
@dataclass(frozen=True, repr=False)
class Options:
    """What to fold and how to judge it; names and defaults are the same everywhere.

    Raises:
        OptionError: a value is out of its range, with the values that are allowed.
    """

    target: str | None = option(
        None,
        "make the file ready for this runtime, or refuse it; that includes cleaning and fusing",
        metavar="TARGET",
        choices=NAMES,
    )
    allow_fallback: bool = option(False, "write the file even if `target` refuses a part or runs it on the CPU")
    clean: bool = option(False, "compute what is constant, and remove what computes nothing or the same thing twice")
    fuse: bool = option(False, "write GELU, LayerNormalization and other idioms as the one operator that they are")
    fold_norms: bool = option(
        False, "fold gamma and beta of a LayerNormalization or RMSNormalization into the products behind it"
    )
    equalize: bool = option(
        False, "scale channels by powers of two, between the weights around them, so that 8 bits lose less of them"
    )
    opset: int | None = option(None, "convert the model to this version of the standard operators", metavar="N")
    shape: tuple[str, ...] = option(
        (), "set the shape of an input, e.g. x=1x3x224x224; a name leaves a length open (repeatable)", metavar="SHAPE"
    )
    batch: int | None = option(None, "set the open first length of the inputs", metavar="N")
    name_axes: bool = option(False, "give open lengths without a name one, so that a runtime sees which are equal")
    precision: Precision = option(
        "keep",
        "the types in the file: fp16 or bf16 lower all that can be, mixed leaves in float32 what the samples show to "
        "need it",
    )
    io_types: InputTypes = option("keep", "whether inputs and outputs of the graph are lowered, too")
    keep_fp32: tuple[str, ...] = option(
        (), "leave nodes with a matching name in float32 (glob, repeatable)", metavar="NAME"
    )
    max_error: float | None = option(
        None, "the relative error that verification accepts, in place of what rounding explains", metavar="ERROR"
    )
    keep: tuple[str, ...] = option((), "leave nodes with a matching name alone (glob, repeatable)", metavar="NAME")
    only: tuple[str, ...] = option((), "fold only nodes with a matching name (glob, repeatable)", metavar="NAME")
    freeze_initializers: bool = option(
        False, "treat initializers that are also graph inputs as constants (callers can no longer override them)"
    )
    freeze_training: Freezing | bool = option(
        "no",
        "turn BatchNormalization in training mode into inference first, with the statistics that it stores (True means "
        "that, too), or with those of the samples in `inputs`",
    )
    leftover: Leftover = option(
        "keep", "what becomes of a BatchNormalization that stays: as it is, Mul + Add, or a depthwise Conv"
    )
    clamp: Clamps = option(
        "auto",
        "let maps pass Relu and Clip where that makes them Max and Min with a bound per channel; auto: where `target` "
        "gains by it",
    )
    merge_branches: bool = option(
        True, "make one convolution of parallel branches where one of them is a normalization (RepVGG, MobileOne)"
    )
    verify: bool = option(True, "run the original and the folded model side by side and compare")
    inputs: str | os.PathLike[str] | None = option(
        None, "samples to verify with, an .npz with one array per graph input (default: generated)", metavar="FILE.npz"
    )
    verify_timeout: float = option(300.0, "seconds after which verification gives up and says so", metavar="SECONDS")
    strict: bool = option(
        False, "write nothing (exit 3) when the result differs, rather than take back the folds that did it"
    )
    require_change: bool = option(False, "fail (exit 4) when nothing could be folded")
    card: bool = option(
        False, "say in the metadata of the file what was done to what, by which version; `triton` implies it"
    )
    digest: bool = option(
        False, "write the SHA-256 of the files beside them, as `sha256sum -c` reads it and tools sign it"
    )
    triton: RepositoryName | None = option(
        None,
        "write a folder NAME for a Triton model repository, with a config.pbtxt; the output is the repository; {model} "
        "in NAME is the name of the file",
        metavar="NAME",
    )

    def __post_init__(self) -> None:
        if isinstance(self.freeze_training, bool):
            object.__setattr__(self, "freeze_training", "stored" if self.freeze_training else "no")
        for declared in fields(self):
            name, value = declared.name, getattr(self, declared.name)
            fits, advice = _KINDS[str(declared.type)]
            if name in LISTS and isinstance(value, str):
                raise OptionError(f"{name} is a string; give a list, e.g. {name}=[{value!r}]")
            if not fits(value):
                raise OptionError(f"{name} is {value!r}; {advice}")
        for name in LISTS:
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.target is not None and self.target not in NAMES:
            load(self.target)  # raises, with the names that come closest
        if self.inputs is not None:
            object.__setattr__(self, "inputs", os.fspath(self.inputs))
        if self.freeze_training == "samples" and self.inputs is None:
            raise OptionError('freeze_training is "samples"; give these samples (inputs="FILE.npz")')

    def __repr__(self) -> str:
        chosen = {one.name: getattr(self, one.name) for one in fields(self) if getattr(self, one.name) != one.default}
        return f"Options({', '.join(f'{name}={value!r}' for name, value in chosen.items())})"

    def repository_name(self, model: str) -> str:
        """The name in a repository of the model at this path, which may be relative to a folder of models."""
        stem = _NOT_PLAIN.sub("_", os.path.splitext(model)[0]).strip("_") or "model"  # noqa: PTH122  of a relative path
        return (self.triton or STEM).replace(STEM, stem)

    @property
    def has_card(self) -> bool:
        """Whether the file gets a card."""
        return self.card or self.triton is not None

    @property
    def freezes(self) -> bool:
        """Whether training mode is turned off."""
        return self.freeze_training not in ("no", False)

    def keeps(self, name: str) -> bool:
        """Whether `keep` leaves a node of this name alone."""
        return bool(self.keep) and any(fnmatchcase(name, pattern) for pattern in self.keep)

    @property
    def names(self) -> bool:
        """Whether a pattern of names is given."""
        return bool(self.keep or self.only or self.keep_fp32)

    @property
    def lowers(self) -> bool:
        """Whether values are stored in 16 bits."""
        return self.precision not in ("keep", "fp32")

    def keeps_fp32(self, name: str) -> bool:
        """Whether `keep_fp32` leaves a node of this name in float32."""
        return any(fnmatchcase(name, pattern) for pattern in self.keep_fp32)

    def require_matches(self, names: Iterable[str]) -> None:
        """Refuse patterns that match none of these names: what a mistyped one should have kept would be folded.

        Raises:
            OptionError: with the names that come closest.
        """
        known = list(names)
        for option_name in ("keep", "only", "keep_fp32"):
            for pattern in getattr(self, option_name):
                if not any(fnmatchcase(name, pattern) for name in known):
                    close = get_close_matches(pattern, known, n=3)
                    meant = f"; did you mean {' or '.join(map(repr, close))}?" if close else "; see `bnfold inspect`"
                    raise OptionError(f"{option_name}: no operator is named {pattern!r}{meant}")

    def selects(self, name: str) -> bool:
        """Whether an affine of this name may be folded: not kept, and among `only` if that is given."""
        return not self.keeps(name) and (not self.only or any(fnmatchcase(name, pattern) for pattern in self.only))


_NOT_PLAIN = re.compile(r"[^A-Za-z0-9_-]+")


def _is_names(value: object) -> bool:
    return isinstance(value, Iterable) and all(isinstance(name, str) for name in value)


def _is_count(value: object) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool) and value > 0)


def _is_seconds(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0


def _is_repository_name(value: object) -> bool:
    return value is None or (isinstance(value, str) and REPOSITORY_NAME.fullmatch(value) is not None)


# By the declared type of an option: whether a value fits it, and what to give instead.
_KINDS: dict[str, tuple[Callable[[object], bool], str]] = {
    "bool": (lambda value: isinstance(value, bool), "give True or False"),
    "float": (_is_seconds, "give a number of seconds above 0"),
    "int | None": (_is_count, "give a number above 0"),
    "str | None": (lambda value: value is None or isinstance(value, str), f"choose one of {', '.join(NAMES)}"),
    "str | os.PathLike[str] | None": (lambda value: isinstance(value, (str, os.PathLike, NoneType)), "give a path"),
    "tuple[str, ...]": (_is_names, 'give a list of names, e.g. ["head.*"]'),
    "Leftover": (lambda value: value in get_args(Leftover), f"choose one of {', '.join(get_args(Leftover))}"),
    "Freezing | bool": (
        lambda value: value in get_args(Freezing),
        f"choose one of {', '.join(get_args(Freezing))}, or True or False",
    ),
    "Precision": (lambda value: value in get_args(Precision), f"choose one of {', '.join(get_args(Precision))}"),
    "InputTypes": (lambda value: value in get_args(InputTypes), f"choose one of {', '.join(get_args(InputTypes))}"),
    "float | None": (lambda value: value is None or _is_seconds(value), "give a number above 0"),
    "RepositoryName | None": (
        _is_repository_name,
        "give a name of letters, digits and ._- that begins with no . and no -; {model} in it is the name of the file",
    ),
    "Clamps": (lambda value: value in get_args(Clamps), f"choose one of {', '.join(get_args(Clamps))}"),
}


def require_options(options: object) -> None:
    """Refuse what is given in place of options.

    Raises:
        OptionError: it is no `Options`; the sentence says how to make one.
    """
    if isinstance(options, Options):
        return
    how = ', e.g. folding.Options(clamp="always")'
    if isinstance(options, dict) and options.keys() <= option_fields().keys():
        how = f": folding.Options({', '.join(f'{name}={value!r}' for name, value in options.items())})"
    raise OptionError(f"options is of type {type(options).__name__}; give a folding.Options{how}")


def as_flags(text: str) -> str:
    """A sentence of the library for a command line: its options as flags.

    The library writes options as Python does, ``clamp="always"``, ``verify=False``; a name alone is in backquotes.
    """
    return _NAMED.sub(_flag, text)


_NAMES = "|".join(f.name for f in fields(Options))
_NAMED = re.compile(rf"`({_NAMES})`|\b({_NAMES})=(?:(True)|(False)|(\d+)|\"([^\"]*)\")")


def _flag(found: re.Match[str]) -> str:
    alone, name, _, off, number, text = found.groups()
    value = number or text
    flag = (alone or name).replace("_", "-")
    return f"--no-{flag}" if off else f"--{flag} {value}" if value else f"--{flag}"


def option_fields() -> dict[str, dict[str, Any]]:
    """Every option's name with its default and metadata, in declaration order."""
    return {f.name: {"default": f.default, "type": f.type, **f.metadata} for f in fields(Options)}
